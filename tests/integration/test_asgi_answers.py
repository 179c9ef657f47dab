"""What goes over the wire besides plain answers: files, streams, events, hints, HEAD. The start is forwarded once, late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_polydatum import PolydatumMiddleware
from polydatum.adapting import UnsendableAnswerError
from polydatum.testing import Call, Reply
from polydatum.testing.shop import Shop
from polydatum.testing.wire import scope_of


async def messages(app: Any, shop: Shop, method: str = "GET", **scope: Any) -> list[dict[str, Any]]:
    """What the application sends, in order; the shop's log notes the start."""
    sent: list[dict[str, Any]] = []
    complete = asyncio.Event()
    requests = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if requests:
            return requests.pop()
        await complete.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        shop.log.append(message["type"].removeprefix("http.response."))
        if message["type"] == "http.response.body" and not message.get("more_body"):
            complete.set()

    await app({**scope_of(Call(lambda request: Reply(), None, method=method)), **scope}, receive, send)
    return sent


def run(app: Any, shop: Shop, method: str = "GET", **scope: Any) -> list[dict[str, Any]]:
    return asyncio.run(messages(app, shop, method, **scope))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "export.csv"
    path.write_bytes(b"name\ntea\n" * 20_000)
    return path


def answer_of(kind: str, path: Path) -> Response:
    async def stream() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async def events() -> AsyncIterator[str]:
        yield "event: price\ndata: 7\n\n"

    return {
        "plain": lambda: PlainTextResponse("plain"),
        "file": lambda: FileResponse(path),
        "stream": lambda: StreamingResponse(stream()),
        "events": lambda: StreamingResponse(events(), media_type="text/event-stream"),
    }[kind]()


KINDS = ["plain", "file", "stream", "events"]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("kind", KINDS)
def test_26_the_start_is_forwarded_once_after_the_close(
    shop: Shop, path: Path, kind: str, method: str, compressed: bool
) -> None:
    async def endpoint(request: Request) -> Response:
        request.dal.items.add("tea")  # type: ignore[attr-defined]
        return answer_of(kind, path)

    bare = Starlette(routes=[Route("/things/{id}", endpoint)])
    bare.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
    if compressed:
        bare.add_middleware(GZipMiddleware, minimum_size=1)
    sent = run(bare, shop, method, extensions={})
    assert shop.log[:4] == ["db open", "db commit", "db close", "start"]
    assert shop.log.count("start") == 1
    assert sent[-1].get("more_body", False) is False
    assert shop.names == ["tea"]


def test_26_a_file_may_be_sent_by_the_server(shop: Shop, path: Path) -> None:
    async def endpoint(request: Request) -> Response:
        request.dal.items.add("tea")  # type: ignore[attr-defined]
        return FileResponse(path)

    app = Starlette(routes=[Route("/things/{id}", endpoint)])
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
    sent = run(app, shop, extensions={"http.response.pathsend": {}})
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.pathsend"]
    assert shop.log == ["db open", "db commit", "db close", "start", "pathsend"]


@pytest.mark.parametrize("kind", KINDS)
def test_26_a_failed_commit_lets_none_of_them_start(shop: Shop, path: Path, kind: str) -> None:
    async def endpoint(request: Request) -> Response:
        request.dal.items.add("tea")  # type: ignore[attr-defined]
        return answer_of(kind, path)

    app = Starlette(routes=[Route("/things/{id}", endpoint)])
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
    failure = shop.fail("db commit", RuntimeError("disk full"))
    with pytest.raises(RuntimeError) as raised:
        run(app, shop, extensions={})
    assert raised.value is failure
    assert shop.log[-2:] == ["start", "body"]  # of Starlette's own 500 page
    assert shop.names == []


def test_26_early_hints_pass_while_the_context_is_open(shop: Shop) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["dal"].items.add("tea")
        await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
        assert shop.here().state == "open"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    run(PolydatumMiddleware(app, shop.dm), shop)
    assert shop.log == ["db open", "early_hint", "db commit", "db close", "start", "body"]


def test_65_range_requests_and_conditional_ones_are_answered_as_ever(shop: Shop, path: Path) -> None:
    async def endpoint(request: Request) -> Response:
        return FileResponse(path)

    for headers in ([(b"range", b"bytes=0-3")], [(b"range", b"bytes=9999999-")], [(b"if-none-match", b"*")]):
        bare = Starlette(routes=[Route("/things/{id}", endpoint)])
        ours = Starlette(routes=[Route("/things/{id}", endpoint)])
        ours.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
        assert run(ours, shop, headers=headers) == run(bare, shop, headers=headers)


@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (200, [(b"x-name", b"a\nb")], "the header 'x-name' has a control character"),
        (200, [(b"x-name", "text")], "the header 'x-name' has a value of type str, not bytes"),
        (200, [("x-name", b"a")], "a header has a name of type str, not bytes"),
        (200, [(b"x name", b"a")], "the header 'x name' has an invalid name"),
        (150, [], "the status is not between 200"),
    ],
)
def test_01_an_answer_that_no_server_sends_keeps_nothing(shop: Shop, status: int, headers: Any, told: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["dal"].items.add("tea")
        await send({"type": "http.response.start", "status": status, "headers": headers})

    with pytest.raises(UnsendableAnswerError, match=f"this answer cannot be sent: {told}"):
        run(PolydatumMiddleware(app, data_manager=shop.dm), shop)
    assert shop.names == []
    assert shop.is_left


def test_01_a_header_with_a_line_break_is_a_500_of_starlette(shop: Shop) -> None:
    async def bad(request: Request) -> Response:
        request.state.dal.items.add("tea")
        return PlainTextResponse("", headers={"X-Name": "a\nb"})

    app = Starlette(routes=[Route("/", bad)])
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
    assert TestClient(app, raise_server_exceptions=False).get("/").status_code == 500
    assert shop.names == []


@pytest.mark.parametrize("given", [{}, {"headers": iter([(b"x-name", b"\xfa\t")])}])
def test_headers_may_be_an_iterator_or_missing(shop: Shop, given: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, **given})
        await send({"type": "http.response.body"})

    start, _ = run(PolydatumMiddleware(app, data_manager=shop.dm), shop)
    assert list(start.get("headers", [])) == ([(b"x-name", b"\xfa\t")] if given else [])
