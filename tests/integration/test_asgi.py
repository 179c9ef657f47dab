"""asgi_polydatum in Starlette, FastAPI and bare ASGI: what the contract of all adapters does not cover.

The numbers are those of the list of behaviours that adapters owe.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import anyio
import httpx2
import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from asgi_polydatum import PolydatumMiddleware, dal_context, stream_context
from polydatum import (
    AsyncResourceError,
    Context,
    ContextClosedError,
    DataManager,
    NoActiveContextError,
    NotFound,
    lazy,
)
from polydatum.adapting import InvalidManagerError, ManagerNotFoundError
from polydatum.testing import Answer, Call, Reply
from polydatum.testing.shop import Shop
from polydatum.testing.wire import over_asgi, over_asgi_async, scope_of
from tests.contract.asgi_hosts import BareRequest, BareResponse

Endpoint = Callable[[Request], Any]


def starlette(shop: Shop, endpoint: Endpoint, **options: Any) -> Starlette:
    app = Starlette(routes=[Route("/things/{id}", endpoint, methods=["GET", "POST"])], **options)
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
    return app


def get(app: Any, shop: Shop, **options: Any) -> Answer:
    return over_asgi(app, Call(lambda request: Reply(), None, shop.log, **options))


async def aget(app: Any, shop: Shop, **options: Any) -> Answer:
    return await over_asgi_async(app, Call(lambda request: Reply(), None, shop.log, **options))


class PassingOn(BaseHTTPMiddleware):
    """The middleware that hides exceptions and runs what is inside of it in a task of its own."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        return await call_next(request)  # type: ignore[no-any-return]


# --- Import, start-up, shutdown -------------------------------------------------------------------------------------


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run some code in a fresh interpreter."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


def test_the_import_needs_the_standard_library_only() -> None:
    code = (
        "import sys, asgi_polydatum\n"
        "tops = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(tops & {'starlette', 'anyio', 'fastapi', 'httpx2', 'trio', 'pydantic'}))"
    )
    done = python(code)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_bare_application_needs_no_starlette() -> None:
    code = """
import asyncio, sys
from asgi_polydatum import PolydatumMiddleware
from polydatum import DataManager

dm = DataManager()

async def app(scope, receive, send):
    meta = dm.require_active_context().meta
    assert meta.request["path"] == "/things/7", meta.request
    assert meta.params.getlist("tag") == ["a", "b"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})

async def send(message):
    print(message["type"])

scope = {"type": "http", "method": "GET", "path": "/things/7", "query_string": b"tag=a&tag=b", "headers": []}
asyncio.run(PolydatumMiddleware(app, data_manager=dm)(scope, None, send))
assert "starlette" not in sys.modules
"""
    done = python(code)
    assert done.stdout.split() == ["http.response.start", "http.response.body"], done.stderr


async def run_lifespan(
    app: Any, state: dict[str, Any] | None = None
) -> tuple[list[dict[str, Any]], BaseException | None]:
    """What a server does at start-up and, if that went well, at shutdown."""
    sent: list[dict[str, Any]] = []
    received = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, Any]:
        return {"type": next(received)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    try:
        await app(
            {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {} if state is None else state}, receive, send
        )
    except BaseException as error:
        return sent, error
    return sent, None


WRONG: list[tuple[object, type[Exception], str]] = [
    (None, ManagerNotFoundError, "no DataManager found; set one of these: PolydatumMiddleware(app, data_manager=...)"),
    (object(), InvalidManagerError, "got an object of type object"),
    (DataManager, InvalidManagerError, "got the class DataManager"),
    ("no_such_package.dm", ManagerNotFoundError, "cannot import 'no_such_package.dm'"),
    ("contextlib.dm", ManagerNotFoundError, "module 'contextlib' has no 'dm'"),
    ("dm", ManagerNotFoundError, "'dm' is not a dotted path"),
    ("contextlib.suppress", InvalidManagerError, "got the class suppress"),
]


@pytest.mark.parametrize(("given", "kind", "text"), WRONG)
def test_20_a_missing_or_wrong_manager_fails_the_start_up(given: Any, kind: type[Exception], text: str) -> None:
    ended: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        ended.append("ended")

    app = Starlette(lifespan=lifespan)
    app.add_middleware(PolydatumMiddleware, data_manager=given)

    sent, error = asyncio.run(run_lifespan(app))

    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert text in sent[0]["message"]
    assert isinstance(error, kind)
    with pytest.raises(kind):
        with TestClient(app):
            pass
    with pytest.raises(kind):  # a client that runs no lifespan
        TestClient(app).get("/")


def test_20_uvicorn_does_not_start_without_a_manager() -> None:
    code = """
import uvicorn
from starlette.applications import Starlette
from asgi_polydatum import PolydatumMiddleware

app = Starlette()
app.add_middleware(PolydatumMiddleware)
uvicorn.run(app, port=0)
"""
    done = python(code)
    assert done.returncode == 3
    assert "no DataManager found; set one of these: PolydatumMiddleware(app, data_manager=...)" in done.stderr


def lifespan_app(kind: str) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan" or kind == "returns":
            return
        if kind == "raises":
            raise NotImplementedError
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})

    return app


@pytest.mark.parametrize("kind", ["returns", "raises", "serves"])
def test_20_a_bare_application_without_a_manager_does_not_start(kind: str) -> None:
    sent, error = asyncio.run(run_lifespan(PolydatumMiddleware(lifespan_app(kind))))
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert isinstance(error, ManagerNotFoundError)


@pytest.mark.parametrize("kind", ["returns", "raises", "serves"])
def test_20_an_application_that_knows_no_lifespan_has_one_all_the_same(shop: Shop, kind: str) -> None:
    closed: list[str] = []

    def engine(manager: Any) -> Iterator[str]:
        yield "engine"
        closed.append("engine")

    shop.dm.register_app_resources(engine=engine)
    assert shop.dm.engine == "engine"
    app = PolydatumMiddleware(PolydatumMiddleware(lifespan_app(kind), data_manager=shop.dm), data_manager=shop.dm)
    sent, error = asyncio.run(run_lifespan(app))
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert error is None
    assert closed == ["engine"]


def test_20_an_application_that_fails_in_its_lifespan_has_failed(shop: Shop) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise OSError("no disk")

    sent, error = asyncio.run(run_lifespan(PolydatumMiddleware(app, data_manager=shop.dm)))
    assert sent == []
    assert isinstance(error, OSError)


def test_20_an_application_that_cannot_start_says_so_itself(shop: Shop) -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        raise ValueError("no disk")
        yield

    app = Starlette(lifespan=lifespan)
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
    sent, error = asyncio.run(run_lifespan(app))
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert "no disk" in sent[0]["message"]
    assert isinstance(error, ValueError)


def seven(request: Request) -> Response:
    return PlainTextResponse(f"{request.dal.items.names()}")  # type: ignore[attr-defined]


def test_the_manager_may_come_from_the_lifespan_state(shop: Shop) -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        yield {"polydatum": shop.dm}

    app = Starlette(routes=[Route("/", seven)], lifespan=lifespan)
    app.add_middleware(PolydatumMiddleware)
    with TestClient(app) as client:
        assert client.get("/").text == "[]"


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_manager_may_come_from_the_application_state(shop: Shop, wrapped: bool) -> None:
    app: Any = Starlette(routes=[Route("/", seven)])
    app.state.data_manager = shop.dm
    if wrapped:
        app = PolydatumMiddleware(app)
    else:
        app.add_middleware(PolydatumMiddleware)
    with TestClient(app) as client:
        assert client.get("/").text == "[]"
    assert TestClient(app).get("/").text == "[]"


def test_the_manager_may_be_a_dotted_path(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contextlib, "shop_dm", shop.dm, raising=False)
    app = Starlette(routes=[Route("/", seven)])
    app.add_middleware(PolydatumMiddleware, data_manager="contextlib:shop_dm")
    with TestClient(app) as client:
        assert client.get("/").text == client.get("/").text == "[]"


def test_the_shutdown_closes_resources_of_the_application_scope(shop: Shop) -> None:
    def engine(manager: Any) -> Iterator[str]:
        yield "engine"
        shop.log.append("engine closed")

    async def pool(manager: Any) -> AsyncIterator[str]:
        yield "pool"
        shop.log.append("pool closed")

    shop.dm.register_app_resources(engine=engine, pool=pool)

    async def endpoint(request: Request) -> Response:
        context = shop.here()
        return PlainTextResponse(f"{context.engine} {await context.pool}")

    app = starlette(shop, endpoint)
    for _ in range(2):  # the manager can be used again
        with TestClient(app) as client:
            assert client.get("/things/7").text == "engine pool"
            assert shop.log == []
        assert sorted(shop.log) == ["engine closed", "pool closed"]
        shop.log.clear()


def test_the_last_application_of_a_manager_closes_them(shop: Shop) -> None:
    def engine(manager: Any) -> Iterator[str]:
        yield "engine"
        shop.log.append("engine closed")

    shop.dm.register_app_resources(engine=engine)
    with TestClient(starlette(shop, seven)):
        with TestClient(starlette(shop, seven)):
            assert shop.dm.engine == "engine"
        assert shop.log == []
    assert shop.log == ["engine closed"]


def test_a_failure_to_close_them_fails_the_shutdown(shop: Shop) -> None:
    def engine(manager: Any) -> Iterator[str]:
        yield "engine"
        raise OSError("cannot close")

    shop.dm.register_app_resources(engine=engine)
    assert shop.dm.engine == "engine"
    sent, error = asyncio.run(run_lifespan(starlette(shop, seven)))
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.failed"]
    assert isinstance(error, OSError)


# --- The test client, dependencies, background tasks ----------------------------------------------------------------


def test_01_the_test_client_raises_the_commit_error_or_shows_500(shop: Shop) -> None:
    failure = shop.fail("db commit", RuntimeError("disk full"))
    app = starlette(shop, seven)
    with pytest.raises(RuntimeError) as raised:
        TestClient(app).get("/things/7")
    assert raised.value is failure
    answer = TestClient(app, raise_server_exceptions=False).get("/things/7")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")


def depend_on_dal(request: Request) -> Any:
    request.app.state.seen.append(request.dal)  # type: ignore[attr-defined]
    return request.dal  # type: ignore[attr-defined]


async def refuse(request: Request) -> None:
    request.dal.items.add("before")  # type: ignore[attr-defined]
    raise HTTPException(403)


def test_13_a_dependency_has_the_same_dal_and_its_errors_count(shop: Shop) -> None:
    app = FastAPI()
    app.state.seen = []
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)

    @app.get("/")
    def endpoint(request: Request, dal: Annotated[Any, Depends(depend_on_dal)]) -> list[str]:
        app.state.seen.append(request.dal)  # type: ignore[attr-defined]
        dal.items.add("tea")
        return dal.items.names()  # type: ignore[no-any-return]

    @app.get("/refused", dependencies=[Depends(refuse)])
    def refused() -> None:
        raise AssertionError("not called")

    client = TestClient(app)
    assert client.get("/").json() == ["tea"]
    assert app.state.seen == [shop.dm.get_dal()] * 2
    assert client.get("/refused").status_code == 403
    assert shop.names == ["tea"]


def test_13_a_template_has_the_same_dal(shop: Shop) -> None:
    jinja2 = pytest.importorskip("jinja2")
    from starlette.templating import Jinja2Templates

    pages = {"page": "{{ request.dal.items.names() }}"}
    templates = Jinja2Templates(env=jinja2.Environment(loader=jinja2.DictLoader(pages)))

    async def endpoint(request: Request) -> Response:
        request.dal.items.add("tea")  # type: ignore[attr-defined]
        return templates.TemplateResponse(request, "page")

    assert TestClient(starlette(shop, endpoint)).get("/things/7").text == "['tea']"


def test_13_an_assigned_dal_wins(shop: Shop) -> None:
    async def endpoint(request: Request) -> Response:
        request.dal = "fake"  # type: ignore[attr-defined]
        return PlainTextResponse(request.dal)  # type: ignore[attr-defined]

    assert TestClient(starlette(shop, endpoint)).get("/things/7").text == "fake"


def test_13_a_request_class_that_has_a_dal_keeps_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette.requests import HTTPConnection

    monkeypatch.setattr(HTTPConnection, "dal", "theirs", raising=False)
    with pytest.warns(UserWarning, match="has an attribute 'dal' that is not Polydatum's"):
        PolydatumMiddleware(lifespan_app("returns"), data_manager=shop.dm)
    assert HTTPConnection.dal == "theirs"  # type: ignore[attr-defined]


def test_13_state_holds_the_dal_too(shop: Shop) -> None:
    async def endpoint(request: Request) -> Response:
        assert request.state.dal is request.dal  # type: ignore[attr-defined]
        assert request.scope["polydatum.context"] is shop.dm.get_active_context()
        return PlainTextResponse("ok")

    assert TestClient(starlette(shop, endpoint)).get("/things/7").text == "ok"


def test_13_a_dal_of_the_lifespan_state_is_not_replaced(shop: Shop) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["state"]["dal"], scope["polydatum.context"].dal))
        await BareResponse(Reply())(scope, receive, send)

    served = PolydatumMiddleware(app, data_manager=shop.dm)

    async def serve() -> None:
        scope = {**scope_of(Call(lambda request: Reply(), None)), "state": {"dal": "the user's"}}
        await served(scope, None, unheard)  # type: ignore[arg-type]

    with pytest.warns(UserWarning, match="the lifespan state has a 'dal' that is not Polydatum's"):
        asyncio.run(serve())
    asyncio.run(serve())  # warns once
    assert seen == [("the user's", shop.dm.get_dal())] * 2


async def unheard(message: Any) -> None:
    pass


def test_27_a_background_task_finds_the_context_closed(shop: Shop) -> None:
    found: list[BaseException] = []

    async def endpoint(request: Request) -> Response:
        dal = request.dal  # type: ignore[attr-defined]
        dal.items.add("tea")

        def work() -> None:
            for touch in (lambda: request.dal, dal.items.names):  # type: ignore[attr-defined]
                try:
                    touch()
                except RuntimeError as error:
                    found.append(error)

        return PlainTextResponse("ok", background=BackgroundTask(work))

    app = starlette(shop, endpoint)
    assert get(app, shop).status == 200
    assert [type(error) for error in found] == [ContextClosedError, ContextClosedError]
    found.clear()
    shop.fail("db commit", RuntimeError("disk full"))
    assert get(app, shop).status == 500
    assert found == []


# --- The latch ------------------------------------------------------------------------------------------------------


def test_21_an_application_cannot_hide_a_failed_commit(shop: Shop) -> None:
    failure = shop.fail("db commit", RuntimeError("disk full"))
    refused: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        BareRequest(scope).dal.items.add("tea")
        for message in (
            {"type": "http.response.start", "status": 200, "headers": []},
            {"type": "http.response.body", "body": b"fine"},
            {"type": "http.response.start", "status": 200, "headers": []},
            {"type": "http.response.start", "status": 404, "headers": []},
        ):
            try:
                await send(message)
            except RuntimeError as error:
                refused.append(error)

    answer = get(PolydatumMiddleware(app, data_manager=shop.dm), shop)
    assert (answer.status, answer.headers, answer.body, answer.raised) == (500, [], b"", failure)
    assert refused == [failure] * 4
    assert shop.names == []


def test_21_its_own_server_error_is_let_through(shop: Shop) -> None:
    shop.fail("db commit", RuntimeError("disk full"))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        BareRequest(scope).dal.items.add("tea")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        except RuntimeError:
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b"later"})

    answer = get(PolydatumMiddleware(app, data_manager=shop.dm), shop)
    assert (answer.status, answer.body, answer.raised) == (503, b"later", None)


def test_21_an_error_after_its_own_server_error_is_its_own(shop: Shop) -> None:
    shop.fail("db commit", RuntimeError("disk full"))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        BareRequest(scope).dal.items.add("tea")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        except RuntimeError:
            await send({"type": "http.response.start", "status": 503, "headers": []})
            raise ZeroDivisionError from None

    answer = get(PolydatumMiddleware(app, data_manager=shop.dm), shop)
    assert answer.status == 503
    assert isinstance(answer.raised, ZeroDivisionError)


def test_21_an_error_after_the_start_is_raised_again(shop: Shop) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        BareRequest(scope).dal.items.add("tea")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise NotFound("too late")

    answer = get(PolydatumMiddleware(app, data_manager=shop.dm), shop)
    assert answer.status == 200
    assert isinstance(answer.raised, NotFound)
    assert shop.names == ["tea"]


def test_22_the_500_handler_gets_the_original_error_and_a_closed_dal(shop: Shop) -> None:
    failure = shop.fail("db commit", RuntimeError("disk full"))
    seen: list[Any] = []

    async def handle(request: Request, error: Exception) -> Response:
        seen.append(error)
        with pytest.raises(ContextClosedError, match="rolled_back"):
            request.dal  # type: ignore[attr-defined]  # noqa: B018
        return PlainTextResponse("sorry", 500)

    answer = get(starlette(shop, seven, exception_handlers={500: handle}), shop)
    assert (answer.status, answer.body) == (500, b"sorry")
    assert seen == [failure]


def test_22_a_handler_for_the_commit_error_does_not_get_in_the_way(shop: Shop) -> None:
    failure = shop.fail("db commit", RuntimeError("disk full"))

    async def handle(request: Request, error: Exception) -> Response:
        return PlainTextResponse("handled")

    answer = get(starlette(shop, seven, exception_handlers={RuntimeError: handle}), shop)
    assert (answer.status, answer.raised) == (500, failure)


def test_no_answer_at_all_rolls_back(shop: Shop) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        shop.here()
        BareRequest(scope).dal.items.add("tea")

    answer = get(PolydatumMiddleware(app, data_manager=shop.dm), shop)
    assert (answer.status, answer.raised) == (0, None)
    assert shop.names == []
    assert shop.outcomes == ["rolled_back"]


def test_messages_before_the_start_pass_through(shop: Shop) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.early_hint", "links": []})
        assert shop.here().state == "open"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    assert get(PolydatumMiddleware(app, data_manager=shop.dm), shop).body == b"ok"


def test_61_a_head_request_gets_no_body(shop: Shop) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise NotFound("item 7")

    wrapped = PolydatumMiddleware(app, data_manager=shop.dm)
    head, full = get(wrapped, shop, method="HEAD"), get(wrapped, shop)
    assert (head.status, head.body, head.headers) == (404, b"", full.headers)
    assert head.header("content-length") == str(len(full.body))


# --- Other middleware -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("outside", [False, True])
class TestBaseHTTPMiddleware:
    def app(self, shop: Shop, endpoint: Endpoint, inside: bool, outside: bool) -> Starlette:
        app = Starlette(routes=[Route("/things/{id}", endpoint)])
        if inside:
            app.add_middleware(PassingOn)
        app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
        if outside:
            app.add_middleware(PassingOn)
        return app

    def test_24_a_failed_commit_is_500(self, shop: Shop, inside: bool, outside: bool) -> None:
        failure = shop.fail("db commit", RuntimeError("disk full"))
        answer = get(self.app(shop, seven, inside, outside), shop)
        assert (answer.status, answer.raised) == (500, failure)

    def test_24_an_exception_rolls_back(self, shop: Shop, inside: bool, outside: bool) -> None:
        async def endpoint(request: Request) -> Response:
            request.dal.items.add("tea")  # type: ignore[attr-defined]
            raise ZeroDivisionError

        answer = get(self.app(shop, endpoint, inside, outside), shop)
        assert answer.status == 500
        assert isinstance(answer.raised, ZeroDivisionError)
        assert shop.names == []

    def test_25_a_raised_status_rolls_back(self, shop: Shop, inside: bool, outside: bool) -> None:
        async def endpoint(request: Request) -> Response:
            request.dal.items.add("tea")  # type: ignore[attr-defined]
            raise HTTPException(409)

        assert get(self.app(shop, endpoint, inside, outside), shop).status == 409
        assert shop.names == []

    def test_61_a_service_error_is_answered(self, shop: Shop, inside: bool, outside: bool) -> None:
        async def endpoint(request: Request) -> Response:
            request.dal.items.add("tea")  # type: ignore[attr-defined]
            raise NotFound("item 7")

        answer = get(self.app(shop, endpoint, inside, outside), shop)
        assert (answer.status, answer.body) == (404, b'{"detail": "item 7"}')
        assert shop.names == []


class Header(AuthenticationBackend):
    async def authenticate(self, conn: Any) -> Any:
        return AuthCredentials(["user"]), SimpleUser("ann")


@pytest.mark.parametrize("inside", [False, True])
def test_14_the_user_is_that_of_the_authentication_on_either_side(shop: Shop, inside: bool) -> None:
    async def endpoint(request: Request) -> Response:
        meta = shop.here().meta
        assert meta.user is meta.user is request.user
        assert meta.request.path_params == {"id": "7"}
        return PlainTextResponse(meta.user.display_name)

    app = Starlette(routes=[Route("/things/{id}", endpoint)])
    middleware: list[tuple[Any, dict[str, Any]]] = [
        (AuthenticationMiddleware, {"backend": Header()}),
        (PolydatumMiddleware, {"data_manager": shop.dm}),
    ]
    for cls, options in middleware if inside else reversed(middleware):
        app.add_middleware(cls, **options)
    assert get(app, shop).body == b"ann"


def test_14_a_lazy_user_is_loaded_in_the_context_of_the_request_when_it_is_read(shop: Shop) -> None:
    loaded: list[Context] = []

    class Lazily(AuthenticationBackend):
        async def authenticate(self, conn: Any) -> Any:
            return AuthCredentials(["user"]), lazy(lambda: loaded.append(shop.here()) or "ann")

    async def endpoint(request: Request) -> Response:
        assert loaded == []
        meta = shop.here().meta
        assert (meta.user, meta.user) == ("ann", "ann")
        assert loaded == [shop.here()]
        return PlainTextResponse("ok")

    app = starlette(shop, endpoint)
    app.add_middleware(AuthenticationMiddleware, backend=Lazily())
    assert get(app, shop).body == b"ok"


def test_14_facts_that_nobody_read_are_gone_with_the_request(shop: Shop) -> None:
    async def endpoint(request: Request) -> Response:
        shop.here().meta.params.getlist("tag")
        return PlainTextResponse("ok")

    get(starlette(shop, endpoint), shop, query="tag=a")
    (context,) = shop.contexts
    assert context.meta.params["tag"] == "a"
    with pytest.raises(ContextClosedError, match="read it before the request is over"):
        context.meta.user  # noqa: B018


def test_63_params_read_before_the_routing_are_read_again(shop: Shop) -> None:
    @shop.dm.context_middleware
    def early(context: Context) -> Iterator[None]:
        assert dict(context.meta.params) == {"tag": "a"}
        yield

    async def endpoint(request: Request) -> Response:
        assert dict(shop.here().meta.params) == {"tag": "a", "id": "7"}
        assert repr(shop.here().meta.params) == "<Params tag, id>"
        assert len(shop.here().meta.params) == 2
        return PlainTextResponse("ok")

    assert get(starlette(shop, endpoint), shop, query="tag=a").status == 200


def test_15_two_managers_have_a_context_each(shop: Shop) -> None:
    other = DataManager()
    other.register_context_middleware(shop.middleware("other"))
    shop.dm.register_context_middleware(shop.middleware("shop"))

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse(f"{request.dal.items.names()}")  # type: ignore[attr-defined]

    app = PolydatumMiddleware(starlette(shop, endpoint), data_manager=other)
    assert get(app, shop).status == 200
    assert [line for line in shop.log if "db" not in line] == [
        *("other begin", "shop begin", "shop commit", "other commit", "start 200")
    ]


def test_39_a_mounted_application_without_a_manager_uses_the_outer_one(shop: Shop) -> None:
    mounted = Starlette(routes=[Route("/things/{id}", seven)])
    mounted.add_middleware(PolydatumMiddleware)
    app = Starlette(routes=[Mount("/shop", mounted)])
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
    assert get(app, shop, path="/shop/things/7").body == b"[]"
    assert shop.log.count("db open") == 1


async def lost(request: Request) -> Response:
    request.dal.items.add("tea")  # type: ignore[attr-defined]
    raise NotFound("item 7")


@pytest.mark.parametrize("has_middleware", [False, True])
def test_39_a_service_error_that_leaves_a_mounted_application_is_answered_with_its_status(
    shop: Shop, has_middleware: bool
) -> None:
    mounted = Starlette(routes=[Route("/things/{id}", lost)])
    if has_middleware:
        mounted.add_middleware(PolydatumMiddleware)
    app = Starlette(routes=[Mount("/shop", mounted)])
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
    answer = get(app, shop, path="/shop/things/7")
    assert (answer.status, answer.body) == (404, b'{"detail": "item 7"}')
    assert shop.names == []


def test_39_so_is_one_that_leaves_a_wrapped_starlette(shop: Shop) -> None:
    app = PolydatumMiddleware(Starlette(routes=[Route("/things/{id}", lost)]), data_manager=shop.dm)
    assert get(app, shop).status == 404


def test_39_the_500_of_a_mounted_application_s_own_handler_stays(shop: Shop) -> None:
    async def handler(request: Request, error: Exception) -> Response:
        return PlainTextResponse("sorry", 500)

    mounted = Starlette(routes=[Route("/things/{id}", lost)], exception_handlers={500: handler})
    app = Starlette(routes=[Mount("/shop", mounted)])
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
    answer = get(app, shop, path="/shop/things/7")
    assert (answer.status, answer.body) == (500, b"sorry")


def test_39_the_500_of_a_middleware_s_own_stays(shop: Shop) -> None:
    class CatchAll:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            try:
                await self.app(scope, receive, send)
            except Exception:
                await PlainTextResponse("sorry", 500)(scope, receive, send)

    app = Starlette(routes=[Route("/things/{id}", lost)])
    app.add_middleware(CatchAll)
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
    answer = get(app, shop)
    assert (answer.status, answer.body) == (500, b"sorry")
    assert shop.names == []


def test_39_a_copied_scope_still_has_the_dal(shop: Shop) -> None:
    class Copying:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(dict(scope), receive, send)

    app = Starlette(routes=[Route("/things/{id}", seven)])
    app.add_middleware(Copying)
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
    assert get(app, shop).body == b"[]"


# --- Nesting and concurrency ----------------------------------------------------------------------------------------


def test_16_a_nested_call_has_its_own_context(shop: Shop) -> None:
    async def outer(request: Request) -> Response:
        context = shop.here()
        request.dal.items.names()  # type: ignore[attr-defined]
        transport = httpx2.ASGITransport(app=request.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
            answer = await client.get("/inner")
        assert answer.text == "[]"
        assert context.state == "open"
        assert shop.dm.get_active_context() is context
        return PlainTextResponse(f"{request.dal.items.names()}")  # type: ignore[attr-defined]

    async def inner(request: Request) -> Response:
        assert shop.here() is not shop.contexts[0]
        return PlainTextResponse(f"{request.dal.items.names()}")  # type: ignore[attr-defined]

    app = Starlette(routes=[Route("/outer", outer), Route("/inner", inner)])
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
    assert get(app, shop, path="/outer").status == 200
    assert shop.outcomes == ["committed", "committed"]


def one_object(context: Context) -> Iterator[object]:
    yield object()


@pytest.mark.parametrize("in_thread", [False, True])
def test_12_200_requests_at_once_do_not_see_each_other(shop: Shop, in_thread: bool) -> None:
    shop.dm.register_resources(own=one_object)
    seen: list[Any] = []

    def look(request: Request) -> tuple[str, Any]:
        context = shop.dm.require_active_context()
        return context.meta.params["id"], context.own

    def threaded(request: Request) -> Response:
        number, own = look(request)
        threading.Event().wait(0.001)
        assert look(request) == (number, own)
        seen.append(own)
        return PlainTextResponse(number)

    async def endpoint(request: Request) -> Response:
        number, own = look(request)
        await asyncio.sleep(0.001)
        assert look(request) == (number, own)
        seen.append(own)
        return PlainTextResponse(number)

    app = starlette(shop, threaded if in_thread else endpoint)

    async def run() -> list[Answer]:
        return await asyncio.gather(*(aget(app, shop, path=f"/things/{n}") for n in range(200)))

    assert [answer.body for answer in asyncio.run(run())] == [str(n).encode() for n in range(200)]
    assert len({id(own) for own in seen}) == 200


def test_a_scope_that_is_served_twice_has_two_contexts(shop: Shop) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        shop.here()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    wrapped = PolydatumMiddleware(app, data_manager=shop.dm)

    async def twice(scope: Any, receive: Any, send: Any) -> None:
        await wrapped(scope, receive, ignore)
        await wrapped(scope, receive, send)

    assert get(twice, shop).status == 200
    assert shop.outcomes == ["committed", "committed"]
    assert shop.contexts[0] is not shop.contexts[1]


async def ignore(message: Any) -> None:
    """A ``send`` that sends nothing."""


def test_38_a_websocket_has_no_context(shop: Shop) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        assert shop.dm.get_active_context() is None
        try:
            websocket.dal  # type: ignore[attr-defined]  # noqa: B018
        except NoActiveContextError as error:
            await websocket.send_text(str(error))
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/", endpoint)])
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
    with TestClient(app).websocket_connect("/") as websocket:
        assert "open one for each message" in websocket.receive_text()


# --- Streams, cancellation, trio ------------------------------------------------------------------------------------


def test_18_a_stream_has_a_context_of_its_own(shop: Shop) -> None:
    async def endpoint(request: Request) -> Response:
        request.dal.items.add("tea")  # type: ignore[attr-defined]

        async def body() -> AsyncIterator[str]:
            async with stream_context(request) as context:
                shop.contexts.append(context)
                assert context.meta.params["id"] == "7"
                for name in context.dal.items.names():
                    yield name
                context.dal.items.add("streamed")
            with pytest.raises(ContextClosedError):
                request.dal  # type: ignore[attr-defined]  # noqa: B018

        return StreamingResponse(body())

    assert get(starlette(shop, endpoint), shop).body == b"tea"
    assert shop.names == ["streamed", "tea"]
    assert shop.outcomes == ["committed"]


def test_64_a_request_and_its_streams_have_one_id(shop: Shop) -> None:
    async def endpoint(request: Request) -> Response:
        async def rows() -> AsyncIterator[str]:
            for _ in range(2):
                async with stream_context(request) as ctx:
                    yield f"{ctx.meta.request_id} "

        return StreamingResponse(rows(), headers={"X-Id": shop.here().meta.request_id})

    answer = get(starlette(shop, endpoint), shop)
    assert answer.body.decode().split() == [answer.header("X-Id")] * 2


def test_38_64_the_messages_of_a_websocket_have_one_id(shop: Shop) -> None:
    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        ids = []
        for _ in range(2):
            async with dal_context(websocket):
                ids.append(shop.here().meta.request_id)
        await websocket.send_json(ids)

    app = Starlette(routes=[WebSocketRoute("/", chat)])
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
    with TestClient(app).websocket_connect("/") as websocket:
        ids = websocket.receive_json()
    assert ids[0] == ids[1]


def test_13_a_middleware_further_out_is_told_where_it_belongs(shop: Shop) -> None:
    class Early(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            request.dal  # type: ignore[attr-defined]  # noqa: B018
            raise AssertionError

    app = starlette(shop, seven)
    app.add_middleware(Early)
    answer = get(app, shop)
    assert isinstance(answer.raised, NoActiveContextError)
    assert "outside of every middleware that uses request.dal" in str(answer.raised)


def test_18_the_stream_helper_needs_the_middleware() -> None:
    with pytest.raises(NoActiveContextError, match="add_middleware"):
        stream_context(Request({"type": "http"}))


def cancelled_endpoint(shop: Shop, started: anyio.Event) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        shop.here()
        request.dal.items.add("tea")  # type: ignore[attr-defined]
        started.set()
        await anyio.sleep(60)
        return PlainTextResponse("never")

    return endpoint


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_30_40_a_cancelled_request_rolls_back(shop: Shop, backend: str) -> None:
    async def run() -> None:
        started = anyio.Event()
        app = starlette(shop, cancelled_endpoint(shop, started))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(app, scope_of(Call(lambda request: Reply(), None)), never, nothing)
            await started.wait()
            tasks.cancel_scope.cancel()

    anyio.run(run, backend=backend)
    assert shop.names == []
    assert shop.outcomes == ["rolled_back"]
    assert shop.log[-1] == "db close"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_65_a_cancel_is_left_alone_in_a_request_that_touches_nothing(shop: Shop, backend: str) -> None:
    """As without us: an answer that reaches no checkpoint any more goes out."""
    sent: list[str] = []

    async def run() -> None:
        async def endpoint(request: Request) -> Response:
            scope.cancel()
            return PlainTextResponse("done")

        async def send(message: Any) -> None:
            sent.append(message["type"])

        with anyio.CancelScope() as scope:
            await starlette(shop, endpoint)(scope_of(Call(lambda request: Reply(), None)), never, send)
        assert not scope.cancelled_caught

    anyio.run(run, backend=backend)
    assert sent == ["http.response.start", "http.response.body"]


async def never() -> Any:
    await anyio.sleep(60)


async def nothing(message: Any) -> None:
    raise AssertionError("nothing is answered")


def test_31_a_cancelled_task_rolls_back(shop: Shop) -> None:
    async def run() -> None:
        started = anyio.Event()
        app = starlette(shop, cancelled_endpoint(shop, started))
        task = asyncio.ensure_future(app(scope_of(Call(lambda request: Reply(), None)), never, nothing))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert shop.names == []
    assert shop.outcomes == ["rolled_back"]


@pytest.mark.parametrize("status", [200, 404, 500, None])
def test_40_trio(shop: Shop, status: int | None) -> None:
    async def endpoint(request: Request) -> Response:
        request.dal.items.add("tea")  # type: ignore[attr-defined]
        if status == 500:
            raise ZeroDivisionError
        if status == 404:
            raise NotFound("item 7")
        if status is None:
            shop.fail("db commit", RuntimeError("disk full"))
        return PlainTextResponse("ok")

    app = starlette(shop, endpoint)
    with TestClient(app, backend="trio", raise_server_exceptions=False) as client:
        assert client.get("/things/7").status_code == (status or 500)
    assert shop.names == (["tea"] if status == 200 else [])


def test_37_an_async_resource_cannot_be_used_in_a_sync_endpoint(shop: Shop) -> None:
    async def pg(context: Context) -> AsyncIterator[str]:
        shop.log.append("pg open")
        yield "pg"

    shop.dm.register_resources(pg=pg)

    def endpoint(request: Request) -> Response:
        with pytest.raises(AsyncResourceError):
            shop.here().pg + "!"
        return PlainTextResponse("ok")

    assert get(starlette(shop, endpoint), shop).status == 200
    assert shop.log == ["start 200"]


def test_36_what_a_sync_endpoint_opened_is_closed_off_the_loop(shop: Shop) -> None:
    threads: list[int] = []

    def tracked(context: Context) -> Iterator[None]:
        yield
        threads.append(threading.get_ident())

    shop.dm.register_resources(tracked=tracked)

    def endpoint(request: Request) -> Response:
        assert shop.here().tracked is None
        return PlainTextResponse("ok")

    assert get(starlette(shop, endpoint), shop).status == 200
    assert threads
    assert threading.get_ident() not in threads


# --- Nothing left behind --------------------------------------------------------------------------------------------


def test_a_request_leaves_no_cyclic_garbage(shop: Shop) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        BareRequest(scope).dal.items.names()
        shop.dm.require_active_context().meta.params.getlist("tag")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    wrapped = PolydatumMiddleware(app, data_manager=shop.dm)

    async def receive() -> Any:
        raise AssertionError("not called")

    async def send(message: Any) -> None:
        pass

    async def run(scopes: list[dict[str, Any]]) -> int:
        await wrapped(scopes.pop(), receive, send)
        gc.collect()
        gc.disable()
        try:
            while scopes:
                await wrapped(scopes.pop(), receive, send)
            return gc.collect()
        finally:
            gc.enable()

    assert asyncio.run(run([scope_of(Call(lambda request: Reply(), None)) for _ in range(50)])) == 0
