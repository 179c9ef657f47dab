"""django_polydatum among other middleware: sync-only, async-only and both, before it and after it.

The numbers are those of the list of behaviours that adapters owe.
"""

from __future__ import annotations

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import Client
from django.utils.decorators import async_only_middleware, sync_and_async_middleware, sync_only_middleware

from polydatum.testing import Answer, Call, Reply
from polydatum.testing.shop import Shop
from polydatum.testing.wire import over_asgi_together, over_wsgi
from tests.integration.django_serving import OURS, serving

pytestmark = pytest.mark.usefixtures("django_settings")

HERE = "tests.integration.test_django_middleware"


@sync_only_middleware
def sync_only(get_response: Any) -> Any:
    return lambda request: get_response(request)


@async_only_middleware
def async_only(get_response: Any) -> Any:
    async def around(request: Any) -> Any:
        return await get_response(request)

    return around


@sync_and_async_middleware
def both(get_response: Any) -> Any:
    return async_only(get_response) if iscoroutinefunction(get_response) else sync_only(get_response)


KINDS = ["sync_only", "async_only", "both"]
STACKS = [
    *((before, OURS) for before in KINDS),
    *((OURS, after) for after in KINDS),
    *((before, OURS, after) for before, after in itertools.permutations(KINDS, 2)),
]


def view(request: Any) -> HttpResponse:
    request.dal.items.add(request.GET.get("name", "tea"))
    if "raise" in request.GET:
        raise ZeroDivisionError
    return HttpResponse("added")


async def async_view(request: Any) -> HttpResponse:
    await asyncio.sleep(0)
    return view(request)


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: "-".join("ours" if one == OURS else one for one in stack))
@pytest.mark.parametrize("view", [view, async_view])
@pytest.mark.parametrize("over", ["wsgi", "asgi"])
class TestEveryOrder:
    def serving(self, shop: Shop, view: Any, stack: tuple[str, ...], over: str) -> Any:
        names = tuple(name if name == OURS else f"{HERE}.{name}" for name in stack)
        return serving(shop.dm, view, middleware=names, over=over)

    def test_01_48_the_answer_waits_for_the_commit(self, shop: Shop, view: Any, stack: Any, over: str) -> None:
        with self.serving(shop, view, stack, over) as send:
            assert send().body == b"added"
            assert shop.names == ["tea"]
            failure = shop.fail("db commit", RuntimeError("disk full"))
            answer = send(query="name=milk")
        assert answer.status == 500
        assert failure in answer.reported
        assert shop.names == ["tea"]
        assert shop.is_left

    def test_03_48_an_exception_rolls_back(self, shop: Shop, view: Any, stack: Any, over: str) -> None:
        with self.serving(shop, view, stack, over) as send:
            answer = send(query="raise")
        assert answer.status == 500
        assert isinstance(answer.logged[0], ZeroDivisionError)
        assert "db saw ZeroDivisionError" in shop.log
        assert shop.names == []
        assert shop.is_left


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: "-".join("ours" if one == OURS else one for one in stack))
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("over", ["wsgi", "asgi"])
def test_12_48_requests_at_once_do_not_see_each_other(
    shop: Shop, stack: tuple[str, ...], is_async: bool, over: str
) -> None:
    count = 50  # 200 are those of the contract
    caches: list[Any] = []

    def look(request: Any) -> HttpResponse:
        context = request.polydatum_context
        caches.append(context.cache)
        context.cache["n"] = request.GET["n"]
        assert request.dal is context.dal
        assert shop.dm.require_active_context() is context
        return HttpResponse(context.meta.params["n"])

    async def look_async(request: Any) -> HttpResponse:
        await asyncio.sleep(0.001)
        return look(request)

    names = tuple(name if name == OURS else f"{HERE}.{name}" for name in stack)
    calls = [Call(lambda request: Reply(), None, path="/", query=f"n={number}") for number in range(count)]
    with serving(shop.dm, look_async if is_async else look, middleware=names, over=over):
        answers = together(over, calls)
    assert [answer.body for answer in answers] == [str(number).encode() for number in range(count)]
    assert len({id(cache) for cache in caches}) == count
    assert {cache["n"] for cache in caches} == {str(number) for number in range(count)}
    assert shop.log.count("cache commit") == shop.log.count("cache close") == count


def together(over: str, calls: list[Call]) -> list[Answer]:
    if over == "asgi":
        return over_asgi_together(ASGIHandler(), calls)
    handler = WSGIHandler()
    with ThreadPoolExecutor(20) as pool:
        return list(pool.map(lambda call: over_wsgi(handler, call), calls))


def failing(get_response: Any) -> Any:
    def around(request: Any) -> HttpResponse:
        get_response(request)
        return HttpResponse("out of order", status=500)

    return around


@pytest.mark.parametrize("over", ["wsgi", "asgi"])
@pytest.mark.parametrize(("stack", "kept"), [((f"{HERE}.failing", OURS), ["tea"]), ((OURS, f"{HERE}.failing"), [])])
def test_05_what_is_further_out_cannot_roll_back_any_more(
    shop: Shop, over: str, stack: tuple[str, ...], kept: list[str]
) -> None:
    with serving(shop.dm, view, over=over, middleware=stack) as send:
        assert send().status == 500
    assert shop.names == kept


def log_in(request: Any) -> HttpResponse:
    request.session["user"] = request.GET["user"]
    request.dal.items.add("tea")
    return HttpResponse(request.dal.items.names())


SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"


@pytest.mark.parametrize(("stack", "user"), [((SESSIONS, OURS), "ann"), ((OURS, SESSIONS), "bob")])
def test_01_a_session_that_is_saved_further_in_is_not_taken_back(shop: Shop, stack: tuple[str, ...], user: str) -> None:
    with serving(shop.dm, log_in, middleware=stack, SESSION_ENGINE="django.contrib.sessions.backends.cache"):
        browser = Client(raise_request_exception=False)
        assert browser.get("/?user=ann").status_code == 200
        shop.fail("db commit", RuntimeError("disk full"))
        assert browser.get("/?user=bob").status_code == 500
        assert browser.session["user"] == user
