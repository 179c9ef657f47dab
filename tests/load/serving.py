"""The servers: one process and one kind for each host, the same for both of its applications."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.load.site import SECRET
from tests.soak.servers import Deployment, Server

READY = "/api/articles"
UVICORN = ("--no-access-log", "--log-level", "critical", "--port")
GUNICORN = ("--worker-class", "gthread", "--log-level", "critical", "--no-control-socket", "--threads")
HOSTS = {"starlette": "uvicorn", "fastapi": "uvicorn", "flask": "gunicorn", "django": "gunicorn"}
WIRINGS = ("polydatum", "hand")


@contextmanager
def both(host: str, url: str, folder: Path, *, threads: int) -> Iterator[tuple[int, int]]:
    """The ports of a host's two applications, ours and theirs, over one database."""
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(_server(host, wiring, url, folder, threads)) for wiring in WIRINGS)
        yield ours.port, theirs.port


@contextmanager
def only_answering(folder: Path) -> Iterator[int]:
    """The port of the application that only answers."""
    with Server(Deployment("uvicorn", ("uvicorn", "tests.load.trivial:app", *UVICORN)), {}, folder) as server:
        yield server.port


def _server(host: str, wiring: str, url: str, folder: Path, threads: int) -> Server:
    name = HOSTS[host]
    options = UVICORN if name == "uvicorn" else (*GUNICORN, str(threads), "--bind")
    place = folder / wiring
    place.mkdir(exist_ok=True)
    environment = {"LOAD_HOST": host, "LOAD_WIRING": wiring, "DATABASE_URL": url, "CONDUIT_SECRET": SECRET}
    return Server(Deployment(name, (name, "tests.load.app:app", *options), ready=READY), environment, place)
