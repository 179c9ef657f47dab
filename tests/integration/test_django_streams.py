"""Streamed answers of Django: what happens to the stream's own context when the client leaves.

The numbers are those of the list of behaviours that adapters owe.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client

from django_polydatum import stream_context
from polydatum import AsyncResourceError, Context, ContextClosedError
from polydatum.testing import Call, Reply
from polydatum.testing.shop import Shop
from polydatum.testing.wire import environ_of, scope_of
from tests.integration.django_serving import serving

pytestmark = pytest.mark.usefixtures("django_settings")

CALL = Call(lambda request: Reply(), None, path="/")


def test_18_a_client_that_leaves_under_wsgi_closes_the_stream_s_context(shop: Shop) -> None:
    contexts: list[Context] = []

    def view(request: Any) -> StreamingHttpResponse:
        def body() -> Iterator[str]:
            with stream_context(request) as context:
                contexts.append(context)
                context.dal.items.add("tea")
                while True:
                    yield "more"

        return StreamingHttpResponse(body())

    with serving(shop.dm, view):
        body = WSGIHandler()(environ_of(CALL), lambda *args: None)
        assert next(iter(body)) == b"more"
        assert shop.log == ["db open"]
        body.close()  # what a server does
    assert shop.log[1:] == ["db saw GeneratorExit", "db rollback", "db close"]
    assert [str(context.outcome) for context in contexts] == ["rolled_back"]
    assert shop.is_left


def test_18_a_client_that_leaves_under_asgi_closes_the_stream_s_context_at_once(shop: Shop) -> None:
    started = asyncio.Event()

    async def view(request: Any) -> StreamingHttpResponse:
        async def body() -> AsyncIterator[str]:
            async with stream_context(request) as context:
                context.dal.items.add("tea")
                yield "more"
                await asyncio.sleep(60)

        return StreamingHttpResponse(body())

    async def receive() -> dict[str, Any]:
        if not messages:
            await started.wait()
            return {"type": "http.disconnect"}
        return messages.pop()

    async def send(message: dict[str, Any]) -> None:
        if message.get("body"):
            started.set()

    messages: list[dict[str, Any]] = [{"type": "http.request", "body": b""}]

    async def run() -> None:
        async with asyncio.timeout(1):
            await ASGIHandler()(scope_of(CALL), receive, send)

    with serving(shop.dm, view, over="asgi"):
        asyncio.run(run())
    assert shop.log[0] == "db open"
    assert shop.log[-2:] == ["db rollback", "db close"]
    assert shop.names == []


@pytest.mark.parametrize("over", ["wsgi", "asgi"])
def test_17_a_commit_that_fails_before_a_stream_closes_the_body(shop: Shop, over: str) -> None:
    shop.fail("db commit", RuntimeError("disk full"))
    closed: list[bool] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"never"])

        def close(self) -> None:
            closed.append(True)

    def view(request: Any) -> StreamingHttpResponse:
        request.dal.items.add("tea")
        return StreamingHttpResponse(Body())

    with serving(shop.dm, view, over=over) as send:
        answer = send()
    assert answer.status == 500
    assert b"never" not in answer.body
    assert closed == [True]


def test_01_a_failed_commit_tells_django_only_once_that_the_request_is_over(shop: Shop) -> None:
    from django.core.signals import request_finished

    finished: list[Any] = []

    def note(**kwargs: Any) -> None:
        finished.append(kwargs["sender"])

    shop.fail("db commit", RuntimeError("disk full"))

    def view(request: Any) -> HttpResponse:
        request.dal.items.add("tea")
        return HttpResponse("added")

    request_finished.connect(note)
    try:
        with serving(shop.dm, view) as send:
            assert send().status == 500
    finally:
        request_finished.disconnect(note)
    assert finished == [WSGIHandler]


def test_37_a_stream_under_wsgi_cannot_have_async_resources(shop: Shop) -> None:
    errors: list[Exception] = []

    async def pg(context: Context) -> AsyncIterator[str]:
        yield "pg"

    shop.dm.register_resources(pg=pg)

    def view(request: Any) -> StreamingHttpResponse:
        def body() -> Iterator[str]:
            with stream_context(request) as context:
                try:
                    context.pg  # type: ignore[attr-defined]  # noqa: B018
                except AsyncResourceError as error:
                    errors.append(error)
                yield "done"

        return StreamingHttpResponse(body())

    with serving(shop.dm, view) as send:
        assert send().body == b"done"
    assert len(errors) == 1


class Body:
    """A body that counts how often it is closed."""

    def __init__(self) -> None:
        self.pieces = iter(["one ", "two"])
        self.closed = 0

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> str:
        return next(self.pieces)

    def close(self) -> None:
        self.closed += 1


def test_60_a_body_is_closed_once(shop: Shop) -> None:
    body = Body()
    with serving(shop.dm, lambda request: StreamingHttpResponse(body)) as send:
        assert send().body == b"one two"
    assert body.closed == 1


def endless(request: Any) -> StreamingHttpResponse:
    dal = request.dal

    def body() -> Iterator[str]:
        while True:
            with pytest.raises(ContextClosedError):
                dal.items.names()
            yield "more"

    return StreamingHttpResponse(body())


def two(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(iter(["one ", "two"]))


async def two_async(request: Any) -> StreamingHttpResponse:
    async def body() -> AsyncIterator[str]:
        yield "one "
        yield "two"

    return StreamingHttpResponse(body())


def test_16_a_stream_that_is_not_read_to_its_end_leaves_nothing_behind(shop: Shop) -> None:
    with serving(shop.dm, endless), shop.dm.context() as outer:
        response: Any = Client().get("/")
        assert next(iter(response)) == b"more"
        assert shop.dm.require_active_context() is outer
        response.close()
        assert shop.dm.require_active_context() is outer
        assert outer.dal.items.names() == []
    assert shop.is_left


@pytest.mark.parametrize("is_read", [False, True])
@pytest.mark.parametrize("view", [two, two_async])
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators")
def test_16_nor_does_one_of_the_async_client(shop: Shop, view: Any, is_read: bool) -> None:
    async def nested() -> None:
        async with shop.dm.context() as outer:
            response: Any = await AsyncClient().get("/")
            if is_read:
                assert [piece async for piece in response] == [b"one ", b"two"]
            response.close()
            assert shop.dm.require_active_context() is outer
        assert shop.is_left

    with serving(shop.dm, view):
        asyncio.run(nested())


def test_64_a_request_and_its_streams_have_one_id(shop: Shop) -> None:
    def view(request: Any) -> StreamingHttpResponse:
        def body() -> Iterator[str]:
            for _ in range(2):
                with stream_context(request) as ctx:
                    yield f"{ctx.meta.request_id} "

        return StreamingHttpResponse(body(), headers={"X-Id": shop.here().meta.request_id})

    with serving(shop.dm, view) as send:
        answer = send()
    assert answer.body.decode().split() == [answer.header("X-Id")] * 2
