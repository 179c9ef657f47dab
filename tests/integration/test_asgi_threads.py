"""Sync endpoints of asgi_polydatum: their threads, the loop, SQLite, tasks that outlive the answer."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from asgi_polydatum import PolydatumMiddleware, bind, dal_context
from polydatum import Context, ContextClosedError, NoActiveContextError
from polydatum.testing import Call, Reply
from polydatum.testing.shop import Shop
from polydatum.testing.wire import over_asgi, over_asgi_async

pytestmark = pytest.mark.anyio
CALL = Call(lambda request: Reply(), None)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def served(shop: Shop, endpoint: Any) -> Starlette:
    app = Starlette(routes=[Route("/things/{id}", endpoint)])
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
    return app


async def test_33_a_cancelled_request_whose_thread_runs_on_is_rolled_back_at_once(shop: Shop) -> None:
    running, released = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    late: list[BaseException] = []
    ended = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        dal = scope["state"]["dal"]

        def endpoint() -> None:
            shop.here()
            dal.items.add("tea")
            loop.call_soon_threadsafe(running.set)
            released.wait(10)
            for touch in (dal.items.names, lambda: shop.here().cache):
                try:
                    touch()
                except BaseException as error:
                    late.append(error)
            ended.set()

        await asyncio.to_thread(endpoint)  # a native cancel does not wait for the thread

    request = asyncio.ensure_future(over_asgi_async(PolydatumMiddleware(app, shop.dm), CALL))
    await running.wait()
    request.cancel()
    answer = await request
    assert isinstance(answer.raised, asyncio.CancelledError)
    assert shop.outcomes == ["rolled_back"]  # and the thread runs on
    released.set()
    await asyncio.to_thread(ended.wait)
    assert [type(error) for error in late] == [ContextClosedError] * 2
    assert shop.log.count("db open") == 1
    assert "cache open" not in shop.log
    assert shop.names == []


async def test_36_a_slow_close_of_a_sync_resource_does_not_block_the_loop(shop: Shop) -> None:
    closing_down = threading.Event()
    beats_while_closing = 0

    @shop.dm.resource
    def slow(context: Context) -> Iterator[None]:
        yield
        closing_down.set()
        assert released.wait(10)

    released = threading.Event()

    def endpoint(request: Request) -> Response:
        assert shop.here().slow is None
        return PlainTextResponse("done")

    request = asyncio.ensure_future(over_asgi_async(served(shop, endpoint), CALL))
    longest, last = 0.0, time.monotonic()
    while beats_while_closing < 20:  # the close takes as long as the heart beats, and no beat comes late
        await asyncio.sleep(0.001)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
        beats_while_closing += closing_down.is_set()
    assert not request.done()
    released.set()
    assert (await request).status == 200
    assert longest < 0.5


async def test_36_sixty_sync_requests_share_a_pool_of_5(shop: Shop) -> None:
    """None waits for a connection in a thread that another one needs to give its connection back."""
    pool = threading.BoundedSemaphore(5)

    @shop.dm.resource
    def pooled(context: Context) -> Iterator[None]:
        assert pool.acquire(timeout=30)
        try:
            yield
        finally:
            pool.release()

    def endpoint(request: Request) -> Response:
        assert shop.here().pooled is None
        return PlainTextResponse("done")

    app = served(shop, endpoint)
    answers = await asyncio.gather(*(over_asgi_async(app, CALL) for _ in range(60)))
    assert [answer.status for answer in answers] == [200] * 60


def test_37_sqlite_in_a_sync_endpoint_names_the_option(shop: Shop, tmp_path: Path) -> None:
    def strict(context: Context) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(tmp_path / "strict.db")) as connection, connection:
            yield connection

    shop.dm.register_resources(strict=strict)

    def endpoint(request: Request) -> Response:
        shop.here().strict.execute("SELECT 1")
        return PlainTextResponse("done")

    answer = over_asgi(served(shop, endpoint), CALL)
    assert answer.status == 500
    assert isinstance(answer.raised, sqlite3.ProgrammingError)
    assert any("check_same_thread=False" in note for note in answer.raised.__notes__)
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # nobody could close the connection
        forget_frames(answer.raised)
        gc.collect()


def forget_frames(error: BaseException | None) -> None:
    """Let go of what the frames of an error hold: the error itself may be held by a thread that is about to end."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


async def test_40_a_task_that_outlives_the_answer_finds_the_context_closed(shop: Shop) -> None:
    answered = asyncio.Event()

    async def endpoint(request: Request) -> Response:
        async def late() -> None:
            await answered.wait()
            for touch in (lambda: request.dal.items, dal.items.names, lambda: shop.here().cache):  # type: ignore[attr-defined]
                with pytest.raises(ContextClosedError):
                    touch()

        dal = request.dal  # type: ignore[attr-defined]
        dal.items.add("tea")
        tasks.append(asyncio.create_task(late()))
        return PlainTextResponse("done")

    tasks: list[asyncio.Task[None]] = []
    answer = await over_asgi_async(served(shop, endpoint), CALL)
    answered.set()
    await asyncio.gather(*tasks)
    assert answer.status == 200
    assert shop.log == ["db open", "db commit", "db close"]


def test_a_thread_of_the_views_has_the_context_if_it_is_bound(shop: Shop) -> None:
    def endpoint(request: Request) -> Response:
        def work() -> None:
            request.dal.items.add("tea")  # type: ignore[attr-defined]

        thread = threading.Thread(target=bind(work))
        thread.start()
        thread.join()
        return PlainTextResponse("done")

    assert over_asgi(served(shop, endpoint), CALL).status == 200
    assert shop.names == ["tea"]


# --- WebSockets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kept"), [({}, ["rum", "tea"]), ({"rollback_on": lambda exc, status: False}, ["bad", "rum", "tea"])]
)
def test_04_38_each_message_of_a_websocket_has_a_context_of_its_own(shop: Shop, options: Any, kept: list[str]) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        for name in ("tea", "bad", "rum"):
            try:
                async with dal_context(websocket) as dal:
                    shop.here()
                    assert shop.here().meta.params["room"] == "7"
                    assert shop.here().meta.request.url.path == "/rooms/7"
                    dal.items.add(name)
                    if name == "bad":
                        raise LookupError
            except LookupError:
                pass
            assert shop.dm.get_active_context() is None
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/rooms/{room}", endpoint)])
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm, **options)
    with TestClient(app).websocket_connect("/rooms/7") as websocket:
        websocket.receive()
    assert shop.names == kept


def test_38_the_helper_needs_the_middleware() -> None:
    with pytest.raises(NoActiveContextError, match="add_middleware"):
        dal_context({"type": "websocket"})
