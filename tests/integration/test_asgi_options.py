"""The options of asgi_polydatum's middleware, and the end of an application that still serves requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_polydatum import PolydatumMiddleware, stream_context
from polydatum import ConfigurationError, Context, ContextClosedError
from polydatum.testing import Answer, Call, Reply
from polydatum.testing.shop import Shop
from polydatum.testing.wire import over_asgi, over_asgi_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def served(shop: Shop, endpoint: Any, **options: Any) -> Starlette:
    app = Starlette(routes=[Route("/things/{id}", endpoint)])
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm, **options)
    return app


def get(app: Any, shop: Shop) -> Answer:
    return over_asgi(app, Call(lambda request: Reply(), None, shop.log))


async def add(request: Request) -> Response:
    request.dal.items.add("tea")  # type: ignore[attr-defined]
    return PlainTextResponse("added", background=BackgroundTask(request.app.state.task))


# --- rollback_on, teardown_timeout -----------------------------------------------------------------------------------


def test_04_rollback_on_of_the_middleware_takes_the_place_of_the_managers(shop: Shop) -> None:
    async def refuse(request: Request) -> Response:
        request.dal.items.add("audit")  # type: ignore[attr-defined]
        return PlainTextResponse("no", 403)

    assert get(served(shop, refuse), shop).status == 403
    assert shop.names == []
    assert get(served(shop, refuse, rollback_on=lambda exc, status: exc is not None), shop).status == 403
    assert shop.names == ["audit"]


async def test_32_a_close_that_hangs_is_given_up(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    @shop.dm.resource
    async def hanging(context: Context) -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()

    async def endpoint(request: Request) -> Response:
        await shop.here().hanging
        return PlainTextResponse("done")

    app = served(shop, endpoint, teardown_timeout=0.05)
    loop = asyncio.get_running_loop()
    started = loop.time()
    answer = await over_asgi_async(app, Call(lambda request: Reply(), None, shop.log))
    assert loop.time() - started < 0.55
    assert answer.status == 500
    assert isinstance(answer.raised, TimeoutError)
    assert shop.outcomes == ["unknown"]
    assert [record for record in caplog.records if record.levelno == logging.ERROR]


@pytest.mark.parametrize(
    "options", [{"teardown_timeout": 0}, {"rollback_on": "never"}, {"on_commit_error": "shop.sorry"}]
)
async def test_a_wrong_option_is_found_out_by_the_lifespan_or_else_by_the_request(shop: Shop, options: Any) -> None:
    app = served(shop, add, **options)
    answer = await over_asgi_async(app, Call(lambda request: Reply(), None, shop.log))
    assert isinstance(answer.raised, ConfigurationError)
    server = Server(app)
    server.received.put_nowait({"type": "lifespan.startup"})
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        await server.lifespan()
    assert server.sent == ["lifespan.startup.failed"]


async def test_04_rollback_on_of_the_middleware_holds_for_streams(shop: Shop) -> None:
    async def endpoint(request: Request) -> Response:
        async def rows() -> AsyncIterator[bytes]:
            with contextlib.suppress(ZeroDivisionError):
                async with stream_context(request) as context:
                    context.dal.items.add("audit")
                    raise ZeroDivisionError
            yield b"audited"

        return StreamingResponse(rows())

    app = served(shop, endpoint, rollback_on=lambda exc, status: False)
    answer = await over_asgi_async(app, Call(lambda request: Reply(), None, shop.log))
    assert (answer.body, shop.names) == (b"audited", ["audit"])


# --- on_commit_error -------------------------------------------------------------------------------------------------


@pytest.fixture
def failing(shop: Shop) -> BaseException:
    return shop.fail("db commit", RuntimeError("serialization"))


def with_handler(shop: Shop, handler: Any) -> tuple[Answer, list[str]]:
    ran: list[str] = []
    app = served(shop, add, on_commit_error=handler)
    app.state.task = lambda: ran.append("background task")
    return get(app, shop), ran


@pytest.mark.parametrize("is_async", [False, True])
def test_23_on_commit_error_answers(shop: Shop, failing: BaseException, is_async: bool) -> None:
    seen: list[Any] = []

    def handler(request: Request, error: Exception) -> Response:
        seen.extend([request.url.path, error])
        return JSONResponse({"retry": True}, 409, {"Retry-After": "1"})

    async def async_handler(request: Request, error: Exception) -> Response:
        return handler(request, error)

    answer, ran = with_handler(shop, async_handler if is_async else handler)
    assert (answer.status, answer.body, answer.header("retry-after")) == (409, b'{"retry":true}', "1")
    assert seen == ["/things/7", failing]
    assert answer.raised is None
    assert ran == []
    assert shop.names == []
    assert shop.log[-1] == "start 409"


def test_23_on_commit_error_may_leave_it(shop: Shop, failing: BaseException) -> None:
    answer, ran = with_handler(shop, lambda request, error: None)
    assert (answer.status, answer.raised, ran) == (500, failing, [])


def test_23_a_handler_that_fails_changes_nothing(
    shop: Shop, failing: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(request: Request, error: Exception) -> Response:
        raise LookupError("of the handler")

    answer, _ = with_handler(shop, handler)
    assert (answer.status, answer.raised) == (500, failing)
    assert "of the handler" in caplog.text


@pytest.mark.parametrize("status", [200, 204, 302])
def test_23_it_cannot_say_that_all_is_well(
    shop: Shop, failing: BaseException, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    answer, _ = with_handler(shop, lambda request, error: Response(status_code=status))
    assert (answer.status, answer.raised) == (500, failing)
    assert f"a response with status {status}" in caplog.text


@pytest.mark.parametrize("answer", [lambda request, error: PlainTextResponse("busy", 409), None])
@pytest.mark.parametrize("sent", [{}, {"seen": 1}])
def test_01_23_the_session_is_what_it_was_before_the_view(shop: Shop, answer: Any, sent: dict[str, Any]) -> None:
    async def log_in(request: Request) -> Response:
        request.session["user"] = "ann"
        request.session.pop("seen", None)
        request.dal.items.add("tea")  # type: ignore[attr-defined]
        return PlainTextResponse("welcome")

    async def sorry(request: Request, error: Exception) -> Response:
        return PlainTextResponse(str(sorted(request.session)), 503)

    async def visit(request: Request) -> Response:
        request.session.update(sent)
        return PlainTextResponse(str(dict(request.session)))

    app = Starlette(routes=[Route("/", visit), Route("/log_in", log_in)])
    if answer is None:  # the application's own answer to the failure
        app = Starlette(routes=app.routes, exception_handlers={RuntimeError: sorry})
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm, on_commit_error=answer)
    app.add_middleware(SessionMiddleware, secret_key="for tests only")
    client = TestClient(app, raise_server_exceptions=False)
    client.get("/")
    shop.fail("db commit", RuntimeError("disk full"))

    failed = client.get("/log_in")

    assert failed.status_code == (409 if answer else 500)
    assert "Set-Cookie" not in failed.headers
    assert client.get("/").text == str(sent)


def test_01_a_session_that_is_no_dict_is_left_alone(shop: Shop) -> None:
    shop.fail("db commit", RuntimeError("disk full"))
    session = object()

    class Sessions:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            scope["session"] = session
            await self.app(scope, receive, send)
            assert scope["session"] is session

    async def view(request: Request) -> Response:
        request.dal.items.add("tea")  # type: ignore[attr-defined]
        return PlainTextResponse("added")

    app = served(shop, view, on_commit_error=lambda request, error: PlainTextResponse("busy", 503))
    app.add_middleware(Sessions)
    assert get(app, shop).status == 503


def test_23_an_application_that_answers_the_error_itself_is_not_heard_twice(shop: Shop, failing: BaseException) -> None:
    """Starlette's own 500 page stands inside of a middleware that wraps the whole application."""
    app = Starlette(routes=[Route("/things/{id}", add)])
    app.state.task = None
    wrapped = PolydatumMiddleware(app, shop.dm, on_commit_error=lambda request, error: PlainTextResponse("again", 503))
    answer = get(wrapped, shop)
    assert (answer.status, answer.body, answer.raised) == (503, b"again", None)


def test_23_an_error_of_the_view_is_none_of_its_business(shop: Shop) -> None:
    async def endpoint(request: Request) -> Response:
        raise ZeroDivisionError

    answer = get(served(shop, endpoint, on_commit_error=lambda request, error: PlainTextResponse("no", 409)), shop)
    assert answer.status == 500
    assert isinstance(answer.raised, ZeroDivisionError)


# --- Shutdown --------------------------------------------------------------------------------------------------------


class Server:
    """What a server does that shuts down while it still serves."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[str] = []
        self.started = asyncio.Event()

    async def send(self, message: Any) -> None:
        self.sent.append(message["type"])
        self.started.set()

    async def lifespan(self) -> None:
        await self.app({"type": "lifespan", "state": {}}, self.received.get, self.send)


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_34_a_shutdown_rolls_back_what_still_runs(shop: Shop, is_cancelled: bool) -> None:
    running, released = asyncio.Event(), asyncio.Event()
    late: list[BaseException] = []

    async def endpoint(request: Request) -> Response:
        shop.here()
        request.dal.items.add("tea")  # type: ignore[attr-defined]
        running.set()
        await released.wait()
        with pytest.raises(ContextClosedError) as raised:
            request.dal.items.names()  # type: ignore[attr-defined]
        late.append(raised.value)
        return PlainTextResponse("done")

    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        shop.log.append("application shuts down")

    app = Starlette(routes=[Route("/things/{id}", endpoint)], lifespan=asynccontextmanager(lifespan))
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
    server = Server(app)
    life = asyncio.ensure_future(server.lifespan())
    request = asyncio.ensure_future(over_asgi_async(app, Call(lambda request: Reply(), None, shop.log)))
    await running.wait()
    server.received.put_nowait({"type": "lifespan.startup"})
    await server.started.wait()
    if is_cancelled:
        request.cancel()  # and not waited for, as uvicorn does it
    server.received.put_nowait({"type": "lifespan.shutdown"})
    await life

    assert server.sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    seen = "CancelledError" if is_cancelled else "RolledBack"
    assert shop.log == ["db open", f"db saw {seen}", "db rollback", "db close", "application shuts down"]
    assert shop.outcomes == ["rolled_back"]
    released.set()
    answer = await request
    if not is_cancelled:
        assert len(late) == 1
        assert isinstance(answer.raised, ContextClosedError)
    assert answer.status == 500
    assert shop.names == []


async def test_34_a_shutdown_gives_up_after_its_limit(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    @shop.dm.resource
    async def hanging(context: Context) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.Event().wait()

    async def endpoint(request: Request) -> Response:
        await shop.here().hanging
        if len(shop.contexts) == 3:
            running.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    running = asyncio.Event()
    app = served(shop, endpoint, teardown_timeout=0.05)
    server = Server(app)
    life = asyncio.ensure_future(server.lifespan())
    server.received.put_nowait({"type": "lifespan.startup"})
    call = Call(lambda request: Reply(), None, shop.log)
    requests = [asyncio.ensure_future(over_asgi_async(app, call)) for _ in range(3)]
    await running.wait()
    server.received.put_nowait({"type": "lifespan.shutdown"})
    await life
    assert server.sent[-1] == "lifespan.shutdown.complete"
    assert "rolling back took more than 0.05 s" in caplog.text
    for request in requests:
        request.cancel()
    await asyncio.gather(*requests)
