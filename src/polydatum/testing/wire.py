"""WSGI and ASGI servers without a socket: each call serves one request."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from typing import Any

from .hosts import Answer, Call


def over_wsgi(app: Any, call: Call) -> Answer:
    """Make a request as a WSGI server does, without a socket."""
    answer = Answer()
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        assert exc_info is not None or not answer.status, "the answer was started twice"
        answer.status = int(status.split()[0])
        answer.headers = [(name.lower(), value) for name, value in headers]
        call.log.append(f"start {answer.status}")
        return written.append

    environ = environ_of(call)
    try:
        body = app(environ, start_response)
        try:
            written.extend(body)
        finally:
            answer.body = b"".join(written)
            if hasattr(body, "close"):
                body.close()
    except BaseException as error:
        answer.raised = error
    return _as_server(answer)


def environ_of(call: Call) -> dict[str, Any]:
    """The WSGI environ of a call."""
    headers: dict[str, str] = {}
    for name, value in call.header_pairs:  # servers join those of the same name
        key = name.upper().replace("-", "_")
        key = key if key == "CONTENT_TYPE" else f"HTTP_{key}"
        headers[key] = f"{headers[key]},{value}" if key in headers else value
    return {
        "REQUEST_METHOD": call.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": call.path,
        "QUERY_STRING": call.query,
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": "",
        "CONTENT_LENGTH": str(len(call.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(call.body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **headers,
    }


def over_asgi(app: Any, call: Call) -> Answer:
    """Make a request as an ASGI server does, without a socket."""
    return asyncio.run(over_asgi_async(app, call))


def over_asgi_together(app: Any, calls: Sequence[Call]) -> list[Answer]:
    """Make many requests at once, in one event loop."""

    async def gather() -> list[Answer]:
        return await asyncio.gather(*(over_asgi_async(app, call) for call in calls))

    return asyncio.run(gather())


async def over_asgi_async(app: Any, call: Call) -> Answer:
    """`over_asgi` in a running event loop."""
    answer = Answer()
    requests = [{"type": "http.request", "body": call.body, "more_body": False}]
    complete = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if requests:
            return requests.pop()
        await complete.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert answer.status == 0, "the answer was started twice"
            answer.status = message["status"]
            answer.headers = [(name.decode().lower(), value.decode()) for name, value in message["headers"]]
            call.log.append(f"start {answer.status}")
        elif message["type"] == "http.response.body":
            assert answer.status, "a body without a start"
            answer.body += message.get("body", b"")
            if not message.get("more_body", False):
                complete.set()

    try:
        await app(scope_of(call), receive, send)
    except BaseException as error:
        answer.raised = error
    return _as_server(answer)


def scope_of(call: Call) -> dict[str, Any]:
    """The ASGI scope of a call."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": call.method,
        "scheme": "http",
        "path": call.path,
        "raw_path": call.path.encode(),
        "query_string": call.query.encode(),
        "root_path": "",
        "headers": [
            (b"host", b"testserver"),
            *((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in call.header_pairs),
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
        "state": {},
    }


def _as_server(answer: Answer) -> Answer:
    """Answer 500, as servers do, if the application raised before it started an answer."""
    if answer.raised is not None and answer.status == 0:
        answer.status = 500
    return answer
