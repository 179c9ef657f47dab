"""The servers: one process and one kind for each host, the same for both of its applications."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.load.measuring import Ports
from tests.load.site import SECRET
from tests.soak.servers import Deployment, Server

READY = "/api/articles"
UVICORN = ("--no-access-log", "--log-level", "error", "--port")
GUNICORN = ("--worker-class", "gthread", "--log-level", "error", "--no-control-socket", "--threads")
SHOWN = 3000
"""Characters of what a server has printed that are shown if something goes wrong."""
HOSTS = {"starlette": "uvicorn", "fastapi": "uvicorn", "flask": "gunicorn", "django": "gunicorn"}
WIRINGS = ("polydatum", "hand")


@contextmanager
def both(host: str, url: str, folder: Path, *, threads: int) -> Iterator[Ports]:
    """A host's two applications, over one database. An error inside gets a note of what their servers have printed."""
    with ExitStack() as stack:
        servers = [stack.enter_context(_server(host, wiring, url, folder, threads)) for wiring in WIRINGS]
        try:
            yield Ports(*(server.port for server in servers))
        except Exception as error:
            for wiring, server in zip(WIRINGS, servers, strict=True):
                state = "runs" if server.exit_code is None else f"has ended with {server.exit_code}"
                error.add_note(f"{host}, {wiring}, {state}, and has printed: {server.printed[-SHOWN:] or 'nothing'}")
            raise


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
