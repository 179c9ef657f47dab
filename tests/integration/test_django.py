"""django_polydatum: what the contract of all adapters does not cover.

The numbers are those of the list of behaviours that adapters owe.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import FileResponse, Http404, HttpResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import SimpleTemplateResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import path
from django.utils.decorators import sync_and_async_middleware

import django_polydatum
from django_polydatum import PolydatumMiddleware, stream_context
from django_polydatum.checks import check_settings
from polydatum import (
    AsyncResourceError,
    Context,
    ContextClosedError,
    DataManager,
    NoActiveContextError,
    NotFound,
    ServiceError,
)
from polydatum.adapting import UnsendableAnswerError
from polydatum.testing import Call, Reply
from polydatum.testing.shop import Shop
from polydatum.testing.wire import over_asgi, over_asgi_async, over_wsgi, scope_of

pytestmark = pytest.mark.usefixtures("django_settings")

OURS = "django_polydatum.PolydatumMiddleware"
HERE = "tests.integration.test_django"

View = Callable[..., Any]


@pytest.fixture
def serve(shop: Shop, django_settings: None) -> Iterator[Callable[..., None]]:
    """Serve a view at every URL, with our middleware or what is given."""
    active: list[Any] = []

    def serve(view: View, *, middleware: tuple[str, ...] = (OURS,), **settings: Any) -> None:
        urls = type("urls", (), {"urlpatterns": [path("things/<int:id>", view), path("", view)]})
        settings = {"POLYDATUM": {"DATA_MANAGER": shop.dm}, **settings}
        override = override_settings(ROOT_URLCONF=urls, MIDDLEWARE=middleware, **settings)
        override.enable()
        active.append(override)

    yield serve
    for override in reversed(active):
        override.disable()


def add(request: Any, **captured: Any) -> HttpResponse:
    request.dal.items.add("tea")
    return HttpResponse("added")


async def add_async(request: Any, **captured: Any) -> HttpResponse:
    return add(request)


def _start(*args: Any) -> Any:
    """A start_response that looks at nothing."""


def call(**options: Any) -> Call:
    return Call(lambda request: Reply(), None, path=options.pop("path", "/"), **options)


# --- Start-up -------------------------------------------------------------------------------------------------------

WRONG: list[tuple[object, str, str]] = [
    (None, "E001", "settings.POLYDATUM['DATA_MANAGER']"),
    ({}, "E001", "settings.POLYDATUM['DATA_MANAGER']"),
    ({"DATA_MANAGER": "no_such_package.dm"}, "E001", "cannot import 'no_such_package.dm'"),
    ({"DATA_MANAGER": object()}, "E002", "got an object of type object"),
    ({"DATA_MANAGER": "polydatum.DataManager"}, "E002", "got the class DataManager"),
]


@pytest.mark.parametrize(("setting", "code", "text"), WRONG)
@pytest.mark.parametrize("handler", [WSGIHandler, ASGIHandler])
def test_20_a_missing_or_wrong_manager_fails_the_start_up(setting: Any, code: str, text: str, handler: Any) -> None:
    with override_settings(POLYDATUM=setting, MIDDLEWARE=[OURS]):
        (problem,) = check_settings(None)
        assert (problem.id, text in problem.msg) == (f"polydatum.{code}", True)
        with pytest.raises(ImproperlyConfigured) as raised:
            handler()
        assert text in str(raised.value)


def test_20_the_checks_are_registered() -> None:
    from django.core.checks import run_checks

    with override_settings(POLYDATUM={}, MIDDLEWARE=[]):
        assert {problem.id for problem in run_checks(tags=["polydatum"])} == {"polydatum.E001", "polydatum.W003"}


class Ours(PolydatumMiddleware):
    """A project's own subclass."""


AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"


@pytest.mark.parametrize(
    ("middleware", "databases", "codes"),
    [
        ([AUTH, OURS], {}, set()),
        ([AUTH, f"{HERE}.Ours", "no.such.Middleware"], {}, set()),
        ([OURS], {"default": {"ATOMIC_REQUESTS": False}}, set()),
        ([OURS, AUTH], {}, {"polydatum.W001"}),
        ([OURS], {"default": {"ATOMIC_REQUESTS": True}}, {"polydatum.W002"}),
        (["no.such.Middleware"], {}, {"polydatum.W003"}),
    ],
)
def test_52_the_checks(shop: Shop, middleware: list[str], databases: Any, codes: set[str]) -> None:
    with override_settings(POLYDATUM={"DATA_MANAGER": shop.dm}, MIDDLEWARE=middleware):
        from django.conf import settings

        settings.DATABASES = databases  # override_settings(DATABASES=...) warns
        assert {problem.id for problem in check_settings(None)} == codes


def test_the_manager_may_be_a_dotted_path(shop: Shop, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_polydatum, "shop_dm", shop.dm, raising=False)
    serve(add, POLYDATUM={"DATA_MANAGER": "django_polydatum.shop_dm"})
    assert Client().get("/").content == b"added"
    assert shop.names == ["tea"]


# --- Django's own test clients --------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", [add, add_async])
def test_51_the_client_raises_the_commit_error_or_shows_500(shop: Shop, serve: Any, view: View) -> None:
    failure = shop.fail("db commit", RuntimeError("disk full"))
    serve(view)
    with pytest.raises(RuntimeError) as raised:
        Client().get("/")
    assert raised.value is failure
    assert Client(raise_request_exception=False).get("/").status_code == 500

    async def run() -> int:
        with pytest.raises(RuntimeError) as raised:
            await AsyncClient().get("/")
        assert raised.value is failure
        return (await AsyncClient(raise_request_exception=False).get("/")).status_code

    assert asyncio.run(run()) == 500
    assert shop.names == []


@sync_and_async_middleware
def remember_status(get_response: Any) -> Any:
    from asgiref.sync import iscoroutinefunction

    async def around_async(request: Any) -> Any:
        response = await get_response(request)
        STATUSES.append(response.status_code)
        return response

    def around(request: Any) -> Any:
        response = get_response(request)
        STATUSES.append(response.status_code)
        return response

    return around_async if iscoroutinefunction(get_response) else around


STATUSES: list[int] = []


def unsendable(kind: str) -> HttpResponse:
    response = HttpResponse("bought")
    if kind == "cookie":
        response.set_cookie("name", "účet")
    elif kind == "header":
        response["X-Name"] = "a\x00b"
    elif kind == "reason":
        response.reason_phrase = "účet"
    return response


@pytest.mark.parametrize("kind", ["cookie", "header", "reason"])
@pytest.mark.parametrize("is_async", [False, True])
def test_01_an_answer_that_no_server_sends_keeps_nothing(shop: Shop, serve: Any, kind: str, is_async: bool) -> None:
    def view(request: Any) -> HttpResponse:
        request.dal.items.add("tea")
        return unsendable(kind)

    async def async_view(request: Any) -> HttpResponse:
        return view(request)

    serve(async_view if is_async else view)
    with pytest.raises(UnsendableAnswerError, match="this answer cannot be sent: the "):
        Client().get("/")
    with pytest.raises(UnsendableAnswerError):
        asyncio.run(AsyncClient().get("/"))
    assert shop.names == []
    assert shop.is_left


def test_51_outer_middleware_sees_the_500(shop: Shop, serve: Any) -> None:
    shop.fail("db commit", RuntimeError("disk full"))
    STATUSES.clear()
    serve(add, middleware=(f"{HERE}.remember_status", OURS))
    assert over_wsgi(WSGIHandler(), call()).status == 500
    assert over_asgi(ASGIHandler(), call()).status == 500
    assert STATUSES == [500, 500]


# --- Requests at once ------------------------------------------------------------------------------------------------


def test_12_200_requests_at_once_do_not_see_each_other(shop: Shop, serve: Any) -> None:
    def own(context: Context) -> Iterator[object]:
        yield object()

    shop.dm.register_resources(own=own)
    seen: list[Any] = []

    async def look(request: Any, id: int) -> HttpResponse:
        context = shop.dm.require_active_context()
        mine = context.own
        await asyncio.sleep(0.001)
        assert shop.dm.require_active_context() is context
        seen.append(mine)
        return HttpResponse(str(context.meta.params["id"]))

    serve(look)
    handler = ASGIHandler()

    async def run() -> list[bytes]:
        answers = await asyncio.gather(*(over_asgi_async(handler, call(path=f"/things/{n}")) for n in range(200)))
        return [answer.body for answer in answers]

    assert asyncio.run(run()) == [str(n).encode() for n in range(200)]
    assert len({id(one) for one in seen}) == 200


# --- Threads, disconnects -------------------------------------------------------------------------------------------


def test_49_a_sync_view_s_resources_are_closed_in_its_thread(shop: Shop, serve: Any) -> None:
    threads: list[int] = []

    def tracked(context: Context) -> Iterator[None]:
        threads.append(threading.get_ident())
        yield
        threads.append(threading.get_ident())

    shop.dm.register_resources(tracked=tracked)

    def view(request: Any) -> HttpResponse:
        assert shop.here().tracked is None
        threads.append(threading.get_ident())
        return HttpResponse()

    serve(view)
    assert over_asgi(ASGIHandler(), call()).status == 200
    assert len(threads) == 3
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


@pytest.mark.parametrize("raises", ["the resource", "the view"])
def test_49_so_are_those_that_close_after_one_has_failed(shop: Shop, serve: Any, raises: str) -> None:
    closed: list[int] = []
    opened: list[int] = []

    def first(context: Context) -> Iterator[None]:
        opened.append(threading.get_ident())
        try:
            yield
        finally:
            closed.append(threading.get_ident())

    def second(context: Context) -> Iterator[None]:
        yield
        raise ValueError("the resource")

    shop.dm.register_resources(first=first, second=second)

    def view(request: Any) -> HttpResponse:
        _ = shop.here().first, shop.here().second
        if raises == "the view":
            raise ValueError("the view")
        return HttpResponse()

    serve(view)
    assert over_asgi(ASGIHandler(), call()).status == 500
    assert closed == opened


async def disconnecting(shop: Shop, started: threading.Event) -> None:
    """A client that leaves once the view has started."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": b""}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.to_thread(started.wait)
        shop.log.append("client left")
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError("nothing is answered")

    await ASGIHandler()(scope_of(call()), receive, send)


def test_49_a_client_that_leaves_an_async_view_rolls_it_back_at_once(shop: Shop, serve: Any) -> None:
    started = threading.Event()

    async def view(request: Any) -> HttpResponse:
        shop.here()
        request.dal.items.add("tea")
        started.set()
        await asyncio.sleep(60)
        return HttpResponse()

    serve(view)
    asyncio.run(disconnecting(shop, started))
    assert shop.log[-4:] == ["client left", "db saw CancelledError", "db rollback", "db close"]
    assert shop.outcomes == ["rolled_back"]


def test_49_a_client_that_leaves_a_sync_view_rolls_it_back_when_it_has_returned(shop: Shop, serve: Any) -> None:
    started = threading.Event()

    def view(request: Any) -> HttpResponse:
        shop.here()
        request.dal.items.add("tea")
        started.set()
        threading.Event().wait(0.1)
        shop.log.append("view returned")
        return HttpResponse()

    serve(view)
    asyncio.run(disconnecting(shop, started))
    assert shop.names == []
    assert shop.log[-5:] == ["client left", "view returned", "db saw CancelledError", "db rollback", "db close"]
    assert shop.outcomes == ["rolled_back"]


def test_37_an_async_resource_cannot_be_used_in_a_sync_view(shop: Shop, serve: Any) -> None:
    async def pg(context: Context) -> AsyncIterator[str]:
        yield "pg"

    shop.dm.register_resources(pg=pg)

    def view(request: Any) -> HttpResponse:
        with pytest.raises(AsyncResourceError):
            shop.here().pg + "!"
        return HttpResponse("ok")

    async def async_view(request: Any) -> HttpResponse:
        return HttpResponse(await shop.here().pg)

    serve(view)
    assert over_asgi(ASGIHandler(), call()).body == b"ok"
    assert over_wsgi(WSGIHandler(), call()).body == b"ok"
    serve(async_view)
    assert over_asgi(ASGIHandler(), call()).body == b"pg"


# --- request.dal ----------------------------------------------------------------------------------------------------

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]


def test_13_52_a_template_has_the_dal_and_is_rendered_in_time(shop: Shop, serve: Any) -> None:
    def view(request: Any) -> SimpleTemplateResponse:
        request.dal.items.add("tea")
        page: Any = engines["django"].from_string("{{ request.dal.items.names|safe }}")
        return SimpleTemplateResponse(page, {"request": request})

    serve(view, TEMPLATES=TEMPLATES)
    assert over_wsgi(WSGIHandler(), call()).body == b"['tea']"
    assert shop.names == ["tea"]


def test_13_a_request_without_the_middleware_has_no_dal() -> None:
    with pytest.raises(NoActiveContextError, match="to MIDDLEWARE, after AuthenticationMiddleware"):
        RequestFactory().get("/").dal  # type: ignore[attr-defined]  # noqa: B018


def test_16_a_nested_call_has_its_own_context(shop: Shop, serve: Any) -> None:
    def view(request: Any) -> HttpResponse:
        context = shop.here()
        if "inner" in request.GET:
            return StreamingHttpResponse(iter([str(request.dal.items.names())]))  # type: ignore[return-value]
        before = request.dal.items.names()
        answer = Client().get("/?inner")
        inner = b"".join(answer.streaming_content)  # type: ignore[attr-defined]
        assert context.state == "open"
        assert shop.dm.get_active_context() is context
        return HttpResponse(f"{before} {inner.decode()} {request.dal.items.names()}")

    serve(view)
    assert over_wsgi(WSGIHandler(), call()).body == b"[] [] []"
    assert shop.outcomes == ["committed", "committed"]


# --- ServiceError ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", ["wsgi", "asgi"])
@pytest.mark.parametrize(("code", "status"), [(409, 409), (500, 500)])
def test_61_a_service_error_of_the_context_itself(shop: Shop, serve: Any, over: str, code: int, status: int) -> None:
    def view(request: Any) -> HttpResponse:
        request.dal.items.add("tea")

        @shop.here().before_commit  # type: ignore[untyped-decorator]
        def check() -> None:
            raise ServiceError("sold out", code=code)

        return HttpResponse("ok")

    async def async_view(request: Any) -> HttpResponse:
        return view(request)

    def run() -> int:
        return (over_asgi(ASGIHandler(), call()) if over == "asgi" else over_wsgi(WSGIHandler(), call())).status

    serve(async_view if over == "asgi" else view)
    assert run() == status
    assert shop.names == []

    @shop.dm.context_middleware
    def refuse(context: Context) -> Iterator[None]:
        raise ServiceError("not today", code=code)
        yield

    assert run() == status
    assert shop.is_left


# --- Streams --------------------------------------------------------------------------------------------------------


def test_18_a_stream_has_a_context_of_its_own(shop: Shop, serve: Any) -> None:
    def view(request: Any, id: int) -> StreamingHttpResponse:
        request.dal.items.add("tea")

        def body() -> Iterator[str]:
            with stream_context(request) as context:
                assert context.meta.params["id"] == 7
                yield from context.dal.items.names()
                context.dal.items.add("streamed")
            with pytest.raises(ContextClosedError):
                request.dal  # noqa: B018

        return StreamingHttpResponse(body())

    serve(view)
    assert over_wsgi(WSGIHandler(), call(path="/things/7")).body == b"tea"
    assert shop.names == ["streamed", "tea"]
    assert shop.is_left


def test_18_an_async_stream_has_one_too(shop: Shop, serve: Any) -> None:
    async def view(request: Any, id: int) -> StreamingHttpResponse:
        request.dal.items.add("tea")

        async def body() -> AsyncIterator[str]:
            async with stream_context(request) as context:
                for name in context.dal.items.names():
                    yield name
                context.dal.items.add("streamed")
            with pytest.raises(ContextClosedError):
                request.dal  # noqa: B018

        return StreamingHttpResponse(body())

    serve(view)
    assert over_asgi(ASGIHandler(), call(path="/things/7")).body == b"tea"
    assert shop.names == ["streamed", "tea"]


def test_18_the_stream_helper_needs_the_middleware() -> None:
    with pytest.raises(NoActiveContextError, match="MIDDLEWARE"):
        stream_context(RequestFactory().get("/"))


def test_a_streamed_body_that_nobody_reads_leaves_too(shop: Shop, serve: Any) -> None:
    def view(request: Any) -> StreamingHttpResponse:
        return StreamingHttpResponse(iter(["one"]))

    serve(view)
    WSGIHandler()({**RequestFactory().get("/").environ}, _start).close()
    assert shop.is_left


def test_a_file_is_sent_as_it_is(shop: Shop, serve: Any) -> None:
    def view(request: Any) -> FileResponse:
        request.dal.items.add("tea")
        return FileResponse(open(__file__, "rb"))

    serve(view)
    assert over_wsgi(WSGIHandler(), call()).body.startswith(b'"""django_polydatum')
    assert shop.names == ["tea"]


# --- ctx.meta -------------------------------------------------------------------------------------------------------


@sync_and_async_middleware
def authenticate(get_response: Any) -> Any:
    def around(request: Any) -> Any:
        request.user = object()
        return get_response(request)

    return around


@pytest.mark.parametrize("inside", [False, True])
def test_14_the_user_is_djangos_on_either_side(shop: Shop, serve: Any, inside: bool) -> None:
    def view(request: Any) -> HttpResponse:
        assert shop.here().meta.user is request.user
        assert shop.here().meta.request is request
        return HttpResponse("ok")

    order = [f"{HERE}.authenticate", OURS]
    serve(view, middleware=tuple(reversed(order) if inside else order))
    assert over_wsgi(WSGIHandler(), call()).body == b"ok"


@pytest.mark.parametrize("name", ["X-User", "X-Remote-User", "Remote-User", "Authorization"])
def test_64_a_header_is_no_user(shop: Shop, serve: Any, name: str) -> None:
    def view(request: Any) -> HttpResponse:
        return HttpResponse(str(shop.here().meta.user))

    serve(view)
    assert over_wsgi(WSGIHandler(), call(headers={name: "mallory"})).body == b"None"


def test_63_params_read_before_the_routing_are_read_again(shop: Shop, serve: Any) -> None:
    @shop.dm.context_middleware
    def early(context: Context) -> Iterator[None]:
        assert dict(context.meta.params) == {"tag": "a"}
        yield

    def view(request: Any, id: int) -> HttpResponse:
        assert dict(shop.here().meta.params) == {"tag": "a", "id": 7}
        return HttpResponse("ok")

    serve(view)
    assert over_wsgi(WSGIHandler(), call(path="/things/7", query="tag=a")).body == b"ok"


def answers(status: int) -> View:
    def view(request: Any) -> HttpResponse:
        request.dal.items.names()
        return HttpResponse(status=status)

    return view


def streams(request: Any) -> StreamingHttpResponse:
    request.dal.items.names()
    return StreamingHttpResponse(iter([b"tea"]))


def raises(error: type[Exception]) -> View:
    def view(request: Any) -> HttpResponse:
        request.dal.items.names()
        raise error("no")

    return view


@pytest.mark.parametrize(
    "view", [answers(200), answers(404), streams, raises(NotFound), raises(Http404), raises(ZeroDivisionError)]
)
def test_a_request_leaves_no_cyclic_garbage(shop: Shop, serve: Any, view: View) -> None:
    serve(view)
    handler = WSGIHandler()

    def request() -> None:
        body = handler({**RequestFactory().get("/").environ}, _start)
        for _ in body:
            pass
        body.close()

    logging.disable()  # pytest would keep what is logged alive
    try:
        request()
        gc.collect()
        gc.disable()
        for _ in range(20):
            request()
        assert gc.collect() == 0
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)


def test_61_a_not_found_of_the_dal_is_answered(shop: Shop, serve: Any) -> None:
    def view(request: Any) -> HttpResponse:
        raise NotFound("item 7")

    serve(view)
    answer = Client().get("/")
    assert (answer.status_code, answer.json()) == (404, {"detail": "item 7"})
    assert answer["Vary"] == "Accept"
    assert isinstance(shop.dm, DataManager)
