"""65: an application that never touches `request.dal` is what it was, with and without our middleware.

Each case is a view and the middleware of Django's that makes something of its answer, with ours outermost, innermost and in
between.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.contrib import messages
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import FileResponse, Http404, HttpResponse, HttpResponseNotModified, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.template import engines
from django.template.response import SimpleTemplateResponse
from django.test import AsyncClient, Client
from django.views import View
from django.views.decorators.http import condition, require_POST

from polydatum.testing import Answer
from polydatum.testing.shop import Shop
from tests.integration.django_serving import OURS, databases, serving

pytestmark = pytest.mark.usefixtures("django_settings")

CONDITIONAL = "django.middleware.http.ConditionalGetMiddleware"
COMMON = "django.middleware.common.CommonMiddleware"
GZIP = "django.middleware.gzip.GZipMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
MESSAGES = "django.contrib.messages.middleware.MessageMiddleware"
CSRF = "django.middleware.csrf.CsrfViewMiddleware"
LOCALE = "django.middleware.locale.LocaleMiddleware"

TEXT = b"all the tea in the shop " * 100


def plain(request: Any) -> HttpResponse:
    return HttpResponse(TEXT, headers={"X-Own": "1"})


def file(request: Any) -> FileResponse:
    return FileResponse(open(__file__, "rb"), filename="tea.txt", as_attachment=True)


def streamed(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(iter([TEXT[:100], TEXT[100:]]))


async def streamed_async(request: Any) -> StreamingHttpResponse:
    async def body() -> AsyncIterator[bytes]:
        yield TEXT[:100]
        yield TEXT[100:]

    return StreamingHttpResponse(body())


def broken_stream(request: Any) -> StreamingHttpResponse:
    def body() -> Iterator[bytes]:
        yield TEXT
        raise ZeroDivisionError("no")

    return StreamingHttpResponse(body())


def session(request: Any) -> HttpResponse:
    request.session["tea"] = 7
    messages.info(request, "added")
    response = HttpResponse(str([str(message) for message in messages.get_messages(request)]))
    response.set_cookie("own", "1")
    return response


def refused_session(request: Any) -> HttpResponse:
    request.session["tea"] = 7
    return HttpResponse(status=int(request.GET["status"]))


def form(request: Any) -> HttpResponse:
    assert get_token(request)
    return HttpResponse(request.POST.get("size", "none"))


@require_POST
def only_post(request: Any) -> HttpResponse:
    return HttpResponse("posted")


@condition(etag_func=lambda request: '"7"')
def tagged(request: Any) -> HttpResponse:
    return HttpResponse(TEXT)


def unchanged(request: Any) -> HttpResponse:
    return HttpResponseNotModified()


def template(request: Any) -> SimpleTemplateResponse:
    return SimpleTemplateResponse(engines["django"].from_string("{{ tea }}"), {"tea": "<tea>"})


class ClassBased(View):
    def get(self, request: Any) -> HttpResponse:
        return HttpResponse("class")


class AsyncClassBased(View):
    async def get(self, request: Any) -> HttpResponse:
        return HttpResponse("async class")


async def coroutine(request: Any) -> HttpResponse:
    return HttpResponse("async")


def nothing(request: Any) -> Any:
    return None


def raising(error: Exception) -> Any:
    def view(request: Any) -> HttpResponse:
        raise error

    return view


STACK = (SESSIONS, LOCALE, COMMON, CSRF, MESSAGES)
ZIPPED = {"Accept-Encoding": "gzip"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

CASES: dict[str, tuple[Any, tuple[str, ...], list[dict[str, Any]]]] = {
    "plain": (plain, STACK, [{}, {"method": "HEAD"}, {"method": "OPTIONS"}, {"method": "POST", "body": b"x"}]),
    "no middleware": (plain, (), [{}, {"method": "HEAD"}]),
    "coroutine": (coroutine, STACK, [{}, {"method": "HEAD"}]),
    "class": (ClassBased.as_view(), STACK, [{}, {"method": "HEAD"}, {"method": "OPTIONS"}, {"method": "PUT"}]),
    "async class": (AsyncClassBased.as_view(), STACK, [{}, {"method": "HEAD"}, {"method": "PUT"}]),
    "template": (template, STACK, [{}, {"method": "HEAD"}]),
    "gzip": (plain, (GZIP, COMMON), [{}, {"headers": ZIPPED}, {"headers": ZIPPED, "method": "HEAD"}]),
    "gzip stream": (streamed, (GZIP,), [{}, {"headers": ZIPPED}, {"headers": ZIPPED, "method": "HEAD"}]),
    "file": (file, (CONDITIONAL, GZIP), [{}, {"method": "HEAD"}, {"headers": ZIPPED}]),
    "ranges": (file, (CONDITIONAL,), [{"headers": {"Range": "bytes=0-9"}}, {"headers": {"Range": "bytes=9-0"}}]),
    "stream": (streamed, STACK, [{}, {"method": "HEAD"}]),
    "async stream": (streamed_async, (), [{}, {"method": "HEAD"}]),
    "broken stream": (broken_stream, (), [{}]),
    "conditional": (plain, (CONDITIONAL, COMMON), [{}, {"headers": {"If-None-Match": "*"}}]),
    "tagged": (tagged, STACK, [{}, *({"headers": {"If-None-Match": tag}} for tag in ('"7"', '"8"'))]),
    "304": (unchanged, STACK, [{}, {"method": "HEAD"}]),
    "session": (session, STACK, [{}, {"method": "HEAD"}]),
    "refused session": (refused_session, STACK, [{"query": "status=409"}, {"query": "status=503"}]),
    "csrf": (form, STACK, [{}, {"method": "POST", "headers": FORM, "body": b"size=m"}]),
    "form": (form, (), [{"method": "POST", "headers": FORM, "body": b"size=m"}]),
    "only POST": (only_post, (), [{}, {"method": "POST"}]),
    "404": (raising(Http404("no tea")), STACK, [{}, {"method": "HEAD"}]),
    "403": (raising(PermissionDenied("no")), STACK, [{}]),
    "400": (raising(SuspiciousOperation("no")), STACK, [{}]),
    "500": (raising(ZeroDivisionError("no")), STACK, [{}, {"method": "HEAD"}]),
    "None": (nothing, STACK, [{}]),
}

CHANGING = re.compile(
    rb"(sessionid|csrftoken|messages)=[^;]+|[Ee]xpires=[^;]+|csrfmiddlewaretoken\S+|0x[0-9a-f]+"
    rb"|\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"
)
"""What differs between two answers of the same application: random values and times."""


def fixed(answer: Answer, *, has_traceback: bool) -> tuple[Any, ...]:
    """An answer without what changes each time. A page with a traceback shows the middleware that it went through."""
    is_zipped = answer.header("content-encoding") == "gzip"
    dropped = {"content-length"} if has_traceback or is_zipped else set()  # gzip pads with random bytes
    headers = [(name, CHANGING.sub(b"", value.encode())) for name, value in answer.headers if name not in dropped]
    body = gzip.decompress(answer.body) if is_zipped and answer.body else answer.body
    body = CHANGING.sub(b"", body)
    if has_traceback:
        body = body[: body.find(b"Request Method")]
    return answer.status, headers, body, type(answer.raised), [type(error) for error in answer.logged]


def places(stack: tuple[str, ...]) -> list[tuple[str, ...]]:
    """A stack with ours outermost, innermost and in the middle."""
    return [(*stack[:at], OURS, *stack[at:]) for at in sorted({0, len(stack) // 2, len(stack)})]


ERROR_PAGES = {"404", "403", "400", "500", "None", "broken stream"}
RUNS = [(case, over, False) for case in CASES for over in ("wsgi", "asgi") if (case, over) != ("async stream", "wsgi")]
RUNS += [(case, over, True) for case in CASES for over in ("wsgi", "asgi") if case in ERROR_PAGES]


@pytest.mark.parametrize(("case", "over", "debug"), RUNS)
def test_65_an_answer_is_what_it_was(shop: Shop, case: str, over: str, debug: bool) -> None:
    view, stack, requests = CASES[case]
    settings = {
        "DEBUG": debug,
        "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
        "TEMPLATES": [{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        "LANGUAGES": [("en", "English")],
    }
    for request in requests:
        with serving(None, view, middleware=stack, over=over, **settings) as send:
            bare = quietly(send, request)
        for middleware in places(stack):
            with serving(shop.dm, view, middleware=middleware, over=over, **settings) as send:
                ours = quietly(send, request)
            has_traceback = debug and bare.status >= 400
            assert fixed(ours, has_traceback=has_traceback) == fixed(bare, has_traceback=has_traceback)
            assert shop.is_left
    assert shop.log == []


def quietly(send: Any, request: dict[str, Any]) -> Answer:
    """A request, without what Django warns about: a sync body under ASGI, which it reads in one piece."""
    with warnings.catch_warnings(action="ignore", category=Warning):
        answer: Answer = send(**request)
    return answer


@pytest.mark.parametrize("is_ours", [False, True], ids=["bare", "ours"])
def test_65_the_test_clients_work_as_ever(shop: Shop, is_ours: bool) -> None:
    settings = {"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"}
    middleware = (*STACK[:1], *((OURS,) if is_ours else ()), *STACK[1:])
    with databases(), serving(shop.dm, session, middleware=middleware, **settings):
        client = Client()
        response = client.get("/")
        assert (response.status_code, response.content) == (200, b"['added']")
        assert response.wsgi_request.session["tea"] == client.session["tea"] == 7
        assert response.resolver_match.func is session
        assert response.cookies["own"].value == "1"
        with (
            serving(shop.dm, raising(ZeroDivisionError("no")), middleware=middleware),
            pytest.raises(ZeroDivisionError),
        ):
            client.get("/")
        with serving(shop.dm, streamed, middleware=middleware):
            assert b"".join(client.get("/").streaming_content) == TEXT  # type: ignore[attr-defined]


@pytest.mark.parametrize("is_ours", [False, True], ids=["bare", "ours"])
def test_65_the_async_test_client_works_as_ever(shop: Shop, is_ours: bool) -> None:
    middleware = (OURS,) if is_ours else ()

    async def run() -> None:
        response = await AsyncClient().get("/")
        assert (response.status_code, response.content) == (200, b"async")
        assert response.resolver_match.func is coroutine

    with serving(shop.dm, coroutine, middleware=middleware):
        asyncio.run(run())
