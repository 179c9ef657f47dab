"""Serves an application in process, one request after the other, as a server would, without a test client or a socket.

The status of every answer is checked, even in timed requests. An application that ``closes_early`` must have closed
what it opened before its answer starts.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from io import BytesIO
from itertools import repeat
from typing import Any

from tests.benchmarks.contenders import AsyncRun, AsyncWork, Run, SyncWork
from tests.benchmarks.proofs import Unproved
from tests.benchmarks.resources import tally

PATH = "/items/1"

_SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.4"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": PATH,
    "raw_path": PATH.encode(),
    "query_string": b"",
    "root_path": "",
    "headers": [(b"host", b"localhost"), (b"accept", b"*/*")],
    "client": ("127.0.0.1", 50000),
    "server": ("127.0.0.1", 80),
}
_ENVIRON = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": PATH,
    "QUERY_STRING": "",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "REMOTE_ADDR": "127.0.0.1",
    "HTTP_HOST": "localhost",
    "HTTP_ACCEPT": "*/*",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.input": BytesIO(),
    "wsgi.errors": BytesIO(),
    "wsgi.multithread": False,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
}


def asgi(build: Callable[[], Any], *, closes_early: bool = False) -> AsyncWork:
    """The work of serving an ASGI application, within its lifespan."""

    @asynccontextmanager
    async def work() -> AsyncIterator[AsyncRun]:
        app = build()

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                _check(message["status"], closes_early)

        async with _lifespan(app) as state:

            async def run(times: int) -> None:
                for _ in repeat(None, times):
                    await app({**_SCOPE, "state": state.copy()}, _receive, send)

            yield run

    return work


def wsgi(build: Callable[[], Any], *, closes_early: bool = False) -> SyncWork:
    """The work of serving a WSGI application."""

    @contextmanager
    def work() -> Iterator[Run]:
        app = build()

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
            _check(int(status[:3]), closes_early)
            return _write

        def run(times: int) -> None:
            for _ in repeat(None, times):
                body = app(_ENVIRON.copy(), start_response)
                for _chunk in body:
                    pass
                if hasattr(body, "close"):
                    body.close()

        yield run

    return work


def _check(status: int, closes_early: bool) -> None:
    if status != 200:
        raise Unproved(f"answered {status} instead of 200")
    if closes_early and tally.opened != tally.closed:
        raise Unproved("the answer started before the resource was closed")


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def _write(data: bytes) -> None:
    """WSGI's ``write``; no application here uses it."""


@asynccontextmanager
async def _lifespan(app: Callable[..., Coroutine[Any, Any, None]]) -> AsyncIterator[dict[str, Any]]:
    """Start an application and shut it down; yields the state for its requests."""
    state: dict[str, Any] = {}
    events, answers = asyncio.Queue[str](), asyncio.Queue[str]()

    async def receive() -> dict[str, Any]:
        return {"type": await events.get()}

    async def send(message: dict[str, Any]) -> None:
        answers.put_nowait(message["type"])

    async def expect(event: str) -> None:
        events.put_nowait(event)
        answer = await answers.get()
        if answer != f"{event}.complete":
            raise Unproved(f"the lifespan answered {answer}")

    serving = asyncio.create_task(app({"type": "lifespan", "state": state}, receive, send))
    await expect("lifespan.startup")
    yield state
    await expect("lifespan.shutdown")
    await serving
