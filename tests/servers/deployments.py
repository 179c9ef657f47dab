"""Which servers serve which applications, and how each is started."""

from __future__ import annotations

import importlib.util
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass

THREADS = 8
"""How many threads a server of threads is given."""
CLIENTS = 200
"""How many clients come at once."""
POOL = 40
"""How many sync endpoints Starlette and FastAPI run at once: anyio's threads."""


@dataclass(frozen=True)
class Deployment:
    """An application on a server.

    Attributes:
        server: a key of `COMMANDS`.
        app: the application, as ``module:name`` in ``tests.servers.apps``.
        at_once: how many requests it has in its endpoints at the same time, of `CLIENTS` that come.
        keeps_alive: whether a connection serves a second request.
        streams: whether a body goes out piece by piece.
    """

    server: str
    app: str
    at_once: int
    keeps_alive: bool = True
    streams: bool = True

    def __str__(self) -> str:
        return f"{self.server}-{self.app.replace('_bank', '').replace(':', '-').removesuffix('-app')}"

    @property
    def missing(self) -> str | None:
        """What has to be installed for it and is not."""
        wanted = [self.server.partition("-")[0], self.app.partition("_")[0].removesuffix("wsgi")]
        return next((name for name in wanted if name and importlib.util.find_spec(name) is None), None)

    def command(self, grace: int) -> tuple[list[str], socket.socket | None]:
        """How to start it on a free port, and what keeps that port free until it is there.

        Args:
            grace: seconds that requests get to come to their end when it is told to stop.
        """
        return COMMANDS[self.server](f"tests.servers.apps.{self.app}", grace)


def _python(*words: object) -> list[str]:
    return [sys.executable, "-m", *map(str, words)]


def _uvicorn(app: str, grace: int) -> tuple[list[str], None]:
    return _python("uvicorn", app, "--port", 0, "--no-access-log", "--timeout-graceful-shutdown", grace), None


def _hypercorn(app: str, grace: int) -> tuple[list[str], None]:
    return _python("hypercorn", app, "--bind", "127.0.0.1:0", "--graceful-timeout", grace), None


def _granian(app: str, grace: int) -> tuple[list[str], socket.socket]:
    # It cannot tell which port it was given. It shares ports, so a socket that never listens can reserve one.
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("127.0.0.1", 0))
    port = reserved.getsockname()[1]
    return _python("granian", app, "--interface", "asgi", "--port", port, "--workers-kill-timeout", grace), reserved


def _gunicorn(worker: str, *options: object) -> Callable[[str, int], tuple[list[str], None]]:
    def command(app: str, grace: int) -> tuple[list[str], None]:
        fixed = ["--worker-class", worker, "--bind", "127.0.0.1:0", "--graceful-timeout", grace, "--no-control-socket"]
        return _python("gunicorn", app, *fixed, *options), None

    return command


def _werkzeug(app: str, grace: int) -> tuple[list[str], None]:
    return _python("flask", "--app", app, "run", "--port", 0), None


COMMANDS: dict[str, Callable[[str, int], tuple[list[str], socket.socket | None]]] = {
    "uvicorn": _uvicorn,
    "hypercorn": _hypercorn,
    "granian": _granian,
    "gunicorn-sync": _gunicorn("sync"),
    "gunicorn-gthread": _gunicorn("gthread", "--threads", THREADS),
    "gunicorn-preload": _gunicorn("sync", "--preload", "--workers", 2),
    "gunicorn-asgi": _gunicorn("asgi", "--asgi-disconnect-grace-period", 0),
    "werkzeug": _werkzeug,
}

ASGI = ("uvicorn", "hypercorn", "granian")
STARLETTE = [Deployment(server, "starlette_bank:app", CLIENTS) for server in ASGI]
FASTAPI = [Deployment(server, "fastapi_bank:app", POOL) for server in ASGI]
FLASK = [
    Deployment("gunicorn-sync", "flask_bank:app", 1, keeps_alive=False),
    Deployment("gunicorn-gthread", "flask_bank:app", THREADS),
    Deployment("werkzeug", "flask_bank:app", CLIENTS, keeps_alive=False),
]
WSGI = [
    Deployment("gunicorn-sync", "wsgi_bank:app", 1, keeps_alive=False),
    Deployment("gunicorn-gthread", "wsgi_bank:app", THREADS),
]
PRELOADED = Deployment("gunicorn-preload", "flask_preloaded:app", 2, keeps_alive=False)
UVICORN_THREADED = Deployment("uvicorn", "starlette_bank:threaded_app", POOL)
GUNICORN_ASGI = Deployment("gunicorn-asgi", "starlette_bank:app", CLIENTS)
GUNICORN_ASGI_THREADED = Deployment("gunicorn-asgi", "starlette_bank:threaded_app", POOL)
DJANGO_ASYNC = Deployment("uvicorn", "django_async_bank:asgi_app", CLIENTS)
# Under ASGI Django reads a sync body to its end before it sends any of it.
DJANGO = [
    DJANGO_ASYNC,
    Deployment("uvicorn", "django_bank:asgi_app", CLIENTS, streams=False),
    Deployment("gunicorn-gthread", "django_bank:wsgi_app", THREADS),
]
ALL = [*STARLETTE, UVICORN_THREADED, GUNICORN_ASGI, *FASTAPI, *FLASK, *WSGI, *DJANGO]
