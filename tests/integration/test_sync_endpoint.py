"""``sync_endpoint``: blocking endpoints of Starlette that commit in their thread. The contract of adapters is held to it, too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_polydatum import PolydatumMiddleware
from asgi_polydatum.starlette import sync_endpoint
from polydatum import Context, DataManager
from polydatum.testing import Call, Reply
from polydatum.testing.shop import Shop
from polydatum.testing.wire import scope_of

pytestmark = pytest.mark.timeout(20)


class Threads:
    """In which thread the endpoint ran, and in which what it opened was closed."""

    def __init__(self) -> None:
        self.endpoint: int | None = None
        self.closing: int | None = None

    def resource(self, context: Context) -> Iterator[str]:
        self.endpoint = threading.get_ident()
        yield "open"
        self.closing = threading.get_ident()

    @property
    def are_one(self) -> bool:
        return self.endpoint is not None and self.endpoint == self.closing


@pytest.fixture
def threads(shop: Shop) -> Threads:
    threads = Threads()
    shop.dm.register_resources(tracked=threads.resource)
    return threads


def served(shop: Shop, endpoint: Any, **options: Any) -> Starlette:
    app = Starlette(routes=[Route("/", endpoint)])
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm, **options)
    return app


def get(app: Any) -> Any:
    with TestClient(app, raise_server_exceptions=False) as client:
        return client.get("/")


def adding(shop: Shop, answer: Callable[[], Response] = Response) -> Callable[[Request], Response]:
    """An endpoint that writes, and then answers."""

    def endpoint(request: Request) -> Response:
        request.dal.items.add("tea")  # type: ignore[attr-defined]
        assert shop.here().state == "open"
        return answer()

    return endpoint


# --- Where it ends --------------------------------------------------------------------------------------------------


def test_it_commits_in_the_thread_of_the_endpoint(shop: Shop, threads: Threads) -> None:
    @sync_endpoint
    def endpoint(request: Request) -> Response:
        assert shop.here().tracked == "open"
        return PlainTextResponse("done")

    assert get(served(shop, endpoint)).text == "done"
    assert threads.are_one
    assert shop.outcomes == ["committed"]
    assert shop.contexts[0].outcome.http_status == 200


def test_without_it_another_thread_closes(shop: Shop, threads: Threads) -> None:
    """Else the test above would prove nothing."""
    gone = threading.Event()

    def endpoint(request: Request) -> Response:
        assert shop.here().tracked == "open"
        gone.set()
        return Response()

    assert get(served(shop, endpoint)).status_code == 200
    assert gone.is_set()
    assert not threads.are_one


def test_it_takes_methods_of_endpoint_classes(shop: Shop, threads: Threads) -> None:
    class Things(HTTPEndpoint):
        @sync_endpoint
        def get(self, request: Request) -> Response:
            return PlainTextResponse(shop.here().tracked)

    assert get(served(shop, Things)).text == "open"
    assert threads.are_one


def test_it_takes_endpoints_of_fastapi_that_return_a_response(shop: Shop, threads: Threads) -> None:
    app = FastAPI()
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)

    @app.get("/{number}")
    @sync_endpoint
    def endpoint(number: int, request: Request) -> JSONResponse:
        return JSONResponse([number, shop.here().tracked])

    assert TestClient(app).get("/7").json() == [7, "open"]
    assert threads.are_one


@pytest.mark.parametrize("with_request", [False, True])
def test_an_endpoint_that_returns_no_response_is_left_to_the_middleware(shop: Shop, *, with_request: bool) -> None:
    """Nobody knows yet whether it can be made into one."""
    app = FastAPI()
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)

    def add() -> int:
        shop.here().dal.items.add("tea")
        return "not a number"  # type: ignore[return-value]

    def add_by_request(request: Request) -> int:
        return add()

    app.get("/")(sync_endpoint(add_by_request if with_request else add))
    assert get(app).status_code == 500
    assert shop.names == []
    assert shop.outcomes == ["rolled_back"]


def test_without_the_middleware_it_only_runs_in_a_thread() -> None:
    threads: list[int] = []

    @sync_endpoint
    def endpoint(request: Request) -> Response:
        threads.append(threading.get_ident())
        return PlainTextResponse("done")

    assert get(Starlette(routes=[Route("/", endpoint)])).text == "done"
    assert threads != [threading.get_ident()]


def test_trio_closes_it_as_ever(shop: Shop) -> None:
    app = served(shop, sync_endpoint(adding(shop)))
    with TestClient(app, backend="trio") as client:
        assert client.get("/").status_code == 200
    assert shop.names == ["tea"]


# --- What is kept ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raises", [False, True])
def test_an_error_answer_keeps_nothing(shop: Shop, *, raises: bool) -> None:
    def answer() -> Response:
        if raises:
            raise HTTPException(409)
        return Response(status_code=409)

    assert get(served(shop, sync_endpoint(adding(shop, answer)))).status_code == 409
    assert shop.names == []
    assert shop.outcomes == ["rolled_back"]


def test_a_veto_is_heard(shop: Shop) -> None:
    def answer() -> Response:
        shop.here().set_rollback_only("changed my mind")
        return Response()

    assert get(served(shop, sync_endpoint(adding(shop, answer)))).status_code == 200
    assert shop.names == []


def test_hooks_and_middleware_take_part(shop: Shop) -> None:
    """They are left to the middleware, as they may have to be awaited."""
    told: list[str] = []

    async def tell() -> None:
        told.append("committed")

    def answer() -> Response:
        shop.here().on_commit(tell)
        return Response()

    shop.dm.register_context_middleware(shop.middleware("around"))
    assert get(served(shop, sync_endpoint(adding(shop, answer)))).status_code == 200
    assert shop.names == ["tea"]
    assert shop.log[-3:] == ["around commit", "db commit", "db close"]
    assert told == ["committed"]


def test_a_failed_commit_is_a_500_and_what_was_answered_is_gone(shop: Shop) -> None:
    shop.fail("db commit", OSError("the disk is full"))

    def answer_in_session(request: Request) -> Response:
        request.session["cart"] = "tea"
        return adding(shop)(request)

    app = served(shop, sync_endpoint(answer_in_session))
    app.add_middleware(SessionMiddleware, secret_key="secret")
    answer = get(app)
    assert answer.status_code == 500
    assert "set-cookie" not in answer.headers
    assert shop.names == []


def test_on_commit_error_answers_a_failed_commit(shop: Shop) -> None:
    error = shop.fail("db commit", OSError("the disk is full"))
    seen: list[Exception] = []

    def answer(request: Any, failure: Exception) -> Response:
        seen.append(failure)
        return PlainTextResponse("try again", 503)

    answered = get(served(shop, sync_endpoint(adding(shop)), on_commit_error=answer))
    assert (answered.status_code, answered.text) == (503, "try again")
    assert seen == [error]


def test_a_handler_cannot_make_a_failed_commit_a_success(shop: Shop) -> None:
    shop.fail("db commit", OSError("the disk is full"))
    app = served(shop, sync_endpoint(adding(shop)))
    app.add_exception_handler(OSError, lambda request, error: PlainTextResponse("all is well"))
    assert get(app).status_code == 500


# --- Cancelled meanwhile --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["task", "scope"])
def test_a_request_that_is_cancelled_while_its_endpoint_runs_keeps_nothing(shop: Shop, how: str) -> None:
    """anyio waits for the thread behind a shield: the endpoint comes to its end, and finds out that it is unwanted."""
    has_begun, go_on = threading.Event(), threading.Event()

    def answer() -> Response:
        has_begun.set()
        assert go_on.wait(10)
        return Response()

    async def run() -> None:
        app = served(shop, sync_endpoint(adding(shop, answer)))
        scope = scope_of(Call(lambda request: Reply(), None, path="/"))
        async with anyio.create_task_group() as tasks:
            stop = anyio.CancelScope()

            async def request() -> None:
                with stop:
                    await app(scope, never, nothing)

            if how == "task":
                task = asyncio.create_task(app(scope, never, nothing))
                stop = task  # type: ignore[assignment]
            else:
                tasks.start_soon(request)
            await asyncio.to_thread(has_begun.wait, 10)
            stop.cancel()
            await asyncio.sleep(0)  # the cancel arrives
            go_on.set()
            if how == "task":
                with pytest.raises(asyncio.CancelledError):
                    await task

    asyncio.run(run())
    assert shop.names == []
    assert shop.outcomes == ["rolled_back"]


async def never() -> Any:
    await anyio.sleep(60)


async def nothing(message: Any) -> None:
    raise AssertionError("nothing is answered")


def test_a_middleware_between_finds_the_context_closed(shop: Shop) -> None:
    """As documented: the endpoint has the last word."""
    states: list[str] = []

    def between(app: Any) -> Any:
        async def middleware(scope: Any, receive: Any, send: Any) -> None:
            async def see(message: Any) -> None:
                if scope["type"] == "http":
                    states.append(shop.contexts[0].state)
                await send(message)

            await app(scope, receive, see)

        return middleware

    app = Starlette(routes=[Route("/", sync_endpoint(adding(shop)))])
    assert get(PolydatumMiddleware(between(app), data_manager=shop.dm)).status_code == 200
    assert states == ["closed", "closed"]
    assert shop.names == ["tea"]


def test_two_managers_end_one_after_the_other(shop: Shop) -> None:
    """The inner one's in the thread, the outer one's before the answer starts."""
    log: list[str] = []

    def outer(context: Context) -> Iterator[str]:
        yield "outer"
        log.append("outer")

    manager: DataManager[Any, Any] = DataManager()
    manager.register_resources(outer=outer)

    def answer() -> Response:
        assert manager.require_active_context().outer == "outer"
        return Response()

    app = served(shop, sync_endpoint(adding(shop, answer)))
    assert get(PolydatumMiddleware(app, data_manager=manager)).status_code == 200
    assert (shop.names, log) == (["tea"], ["outer"])
