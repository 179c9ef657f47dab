"""`request.dal` through the Django REST framework and django-ninja: nothing to install but the middleware.

The numbers are those of the list of behaviours that adapters owe.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path

from django_polydatum import stream_context
from polydatum import NoActiveContextError, NotFound, ServiceError
from polydatum.testing import attach
from polydatum.testing.shop import Shop
from tests.integration.django_serving import databases, serving, sqlite

pytestmark = pytest.mark.usefixtures("django_settings")

BOTH = pytest.mark.parametrize("over", ["wsgi", "asgi"])
JSON = {"Accept": "application/json"}

# --- Django REST framework ------------------------------------------------------------------------------------------


def drf_view(act: Any, style: str) -> Any:
    """A view of DRF, as a class or as a function, that answers with what an action returns."""
    from rest_framework.decorators import api_view, renderer_classes
    from rest_framework.renderers import JSONRenderer
    from rest_framework.response import Response
    from rest_framework.views import APIView

    def answer(request: Any) -> Any:
        found = act(request)
        return found if isinstance(found, HttpResponse | StreamingHttpResponse) else Response(found)

    if style == "function":
        return api_view(["GET", "POST"])(renderer_classes([JSONRenderer])(answer))

    class View(APIView):
        renderer_classes = (JSONRenderer,)

        def get(self, request: Any) -> Any:
            return answer(request)

    return View.as_view()


STYLES = pytest.mark.parametrize("style", ["class", "function"])


def own_exception_handler(error: Exception, context: Any) -> Any:
    """A project's own handler, which asks the DAL before it answers."""
    from rest_framework.views import exception_handler

    response = exception_handler(error, context)
    if response is not None:
        response.data = {"names": context["request"].dal.items.names()}
    return response


@STYLES
@BOTH
def test_13_50_request_dal_through_the_request_of_drf(shop: Shop, style: str, over: str) -> None:
    def act(request: Any) -> Any:
        assert type(request).__module__ == "rest_framework.request"
        assert request.dal is shop.dm.get_dal()
        assert shop.here().meta.request is request._request
        request.dal.items.add("tea")
        return request.dal.items.names()

    with serving(shop.dm, drf_view(act, style), over=over) as send:
        answer = send()
    assert (answer.status, answer.body) == (200, b'["tea"]')
    assert shop.names == ["tea"]


@STYLES
@BOTH
@pytest.mark.parametrize(("kind", "status"), [("ValidationError", 400), ("PermissionDenied", 403), ("NotFound", 404)])
def test_04_50_an_exception_that_drf_answers_rolls_back(
    shop: Shop, style: str, over: str, kind: str, status: int
) -> None:
    def act(request: Any) -> Any:
        from rest_framework import exceptions

        request.dal.items.add("tea")
        raise getattr(exceptions, kind)("no")

    with serving(shop.dm, drf_view(act, style), over=over) as send:
        answer = send()
    assert answer.status == status
    assert b"no" in answer.body
    assert "db saw RolledBack" in shop.log
    assert shop.names == []


@BOTH
def test_13_50_an_exception_handler_of_drf_has_the_dal(shop: Shop, over: str) -> None:
    def act(request: Any) -> Any:
        request.dal.items.add("tea")
        raise Http404

    settings = {"EXCEPTION_HANDLER": f"{__name__}.own_exception_handler"}
    with override_settings(REST_FRAMEWORK=settings), serving(shop.dm, drf_view(act, "class"), over=over) as send:
        answer = send()
    assert (answer.status, answer.body) == (404, b'{"names":["tea"]}')
    assert shop.names == []


@STYLES
@BOTH
def test_61_a_not_found_in_a_view_of_drf_is_404(shop: Shop, style: str, over: str) -> None:
    def act(request: Any) -> Any:
        request.dal.items.add("tea")
        raise NotFound("item 7")

    with serving(shop.dm, drf_view(act, style), over=over) as send:
        answer = send(headers=JSON)
    assert (answer.status, answer.body) == (404, b'{"detail": "item 7"}')
    assert "db saw NotFound" in shop.log
    assert shop.names == []


@BOTH
def test_03_61_other_exceptions_in_a_view_of_drf_are_500(shop: Shop, over: str) -> None:
    error = ServiceError("broken")

    def act(request: Any) -> Any:
        request.dal.items.add("tea")
        raise error

    with serving(shop.dm, drf_view(act, "class"), over=over) as send:
        answer = send()
    assert answer.status == 500
    assert error in answer.reported
    assert shop.names == []


def test_01_a_failed_commit_behind_drf_is_500(shop: Shop) -> None:
    shop.fail("db commit", RuntimeError("disk full"))
    with serving(shop.dm, drf_view(lambda request: request.dal.items.names(), "class")) as send:
        answer = send()
    assert answer.status == 500
    assert b"[" not in answer.body


def test_13_drf_does_not_disguise_what_request_dal_raises(shop: Shop) -> None:
    """Its requests hide the AttributeErrors of what they stand for."""
    found: list[BaseException] = []

    def act(request: Any) -> Any:
        try:
            return request.dal.items.names()
        except Exception as error:
            found.append(error)
            raise

    with serving(shop.dm, drf_view(act, "class"), middleware=()) as send:
        assert send().status == 500
    (error,) = found
    assert isinstance(error, NoActiveContextError)
    assert "PolydatumMiddleware" in str(error)

    shop.fail("db open", AttributeError("no attribute 'cursor'"))
    with serving(shop.dm, drf_view(act, "class")) as send:
        answer = send()
    assert answer.status == 500
    assert found[1] is answer.logged[0] is shop.failures["db open"]


@BOTH
def test_50_set_rollback_of_drf_leaves_nothing_behind(shop: Shop, tmp_path: Path, over: str) -> None:
    """With ATOMIC_REQUESTS, DRF marks Django's transaction; the status rolls ours back."""

    def act(request: Any) -> Any:
        from rest_framework.exceptions import ValidationError

        request.dal.items.add("tea")
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO rows VALUES (1)")
        assert not transaction.get_rollback()
        raise ValidationError("no")

    with databases(default=sqlite(tmp_path / "django.db", ATOMIC_REQUESTS=True)):
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE rows (n integer)")
        with serving(shop.dm, drf_view(act, "class"), over=over) as send:
            assert send().status == 400
        with connection.cursor() as cursor:
            assert cursor.execute("SELECT count(*) FROM rows").fetchone() == (0,)
    assert shop.names == []


def test_18_a_stream_of_drf_has_a_context_of_its_own(shop: Shop) -> None:
    def act(request: Any) -> Any:
        request.dal.items.add("tea")

        def body() -> Iterator[str]:
            with stream_context(request) as context:
                yield from context.dal.items.names()

        return StreamingHttpResponse(body())

    with serving(shop.dm, drf_view(act, "class")) as send:
        assert send().body == b"tea"


@STYLES
def test_attach_gives_a_request_of_drfs_factory_its_dal(shop: Shop, style: str) -> None:
    from rest_framework.test import APIRequestFactory

    def act(request: Any) -> Any:
        request.dal.items.add(request.query_params["name"])
        return request.dal.items.names()

    request = APIRequestFactory().get("/", {"name": "tea"})
    with attach(request, shop.dm) as context:
        response = drf_view(act, style)(request)
    assert response.data == ["tea"]
    assert context.meta.params["name"] == "tea"
    assert shop.names == ["tea"]


def test_attach_unwraps_a_request_of_drf(shop: Shop) -> None:
    from rest_framework.request import Request
    from rest_framework.test import APIRequestFactory

    request = Request(APIRequestFactory().get("/"))
    with attach(request, shop.dm):
        request.dal.items.add("tea")
    assert shop.names == ["tea"]


# --- django-ninja ---------------------------------------------------------------------------------------------------


def ninja_urls(act: Any, *, is_async: bool, handlers: Any = None) -> list[Any]:
    """The URLs of an API of one operation, which answers with what an action returns."""
    from ninja import NinjaAPI

    api = NinjaAPI(urls_namespace=uuid.uuid4().hex)
    for kind, handler in (handlers or {}).items():
        api.add_exception_handler(kind, partial(handler, api))
    if is_async:

        @api.get("things/{id}")
        async def async_operation(request: Any, id: int) -> Any:
            return act(request)

    else:

        @api.get("things/{id}")
        def operation(request: Any, id: int) -> Any:
            return act(request)

    return [path("", api.urls)]


ASYNC = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@ASYNC
@BOTH
def test_13_50_request_dal_in_an_operation_of_ninja(shop: Shop, is_async: bool, over: str) -> None:
    def act(request: Any) -> Any:
        assert request.dal is shop.dm.get_dal()
        assert shop.here().meta.params["id"] == "7"
        request.dal.items.add("tea")
        return request.dal.items.names()

    with serving(shop.dm, ninja_urls(act, is_async=is_async), over=over) as send:
        answer = send("/things/7")
    assert (answer.status, answer.body) == (200, b'["tea"]')
    assert shop.names == ["tea"]


@ASYNC
@BOTH
def test_04_50_an_http_error_of_ninja_rolls_back(shop: Shop, is_async: bool, over: str) -> None:
    def act(request: Any) -> Any:
        from ninja.errors import HttpError

        request.dal.items.add("tea")
        raise HttpError(409, "sold out")

    with serving(shop.dm, ninja_urls(act, is_async=is_async), over=over) as send:
        answer = send("/things/7")
        assert (answer.status, answer.body) == (409, b'{"detail": "sold out"}')
        assert "db saw RolledBack" in shop.log
        assert send("/things/x").status == 422
    assert shop.names == []


@ASYNC
@BOTH
def test_61_a_not_found_in_an_operation_of_ninja_is_404(shop: Shop, is_async: bool, over: str) -> None:
    def act(request: Any) -> Any:
        request.dal.items.add("tea")
        raise NotFound("item 7")

    with serving(shop.dm, ninja_urls(act, is_async=is_async), over=over) as send:
        answer = send("/things/7", headers=JSON)
    assert (answer.status, answer.body) == (404, b'{"detail": "item 7"}')
    assert shop.names == []


@ASYNC
def test_61_an_exception_handler_of_ninja_wins(shop: Shop, is_async: bool) -> None:
    def act(request: Any) -> Any:
        request.dal.items.add("tea")
        raise NotFound("item 7")

    def gone(api: Any, request: Any, error: Exception) -> Any:
        return api.create_response(request, {"names": request.dal.items.names()}, status=410)

    urls = ninja_urls(act, is_async=is_async, handlers={ServiceError: gone})
    with serving(shop.dm, urls, over="asgi", DEBUG=True) as send:
        answer = send("/things/7")
    assert (answer.status, answer.body) == (410, b'{"names": ["tea"]}')
    assert shop.names == []


@ASYNC
@BOTH
def test_01_a_failed_commit_behind_ninja_is_500(shop: Shop, is_async: bool, over: str) -> None:
    shop.fail("db commit", DatabaseError("disk full"))
    with serving(shop.dm, ninja_urls(lambda request: request.dal.items.names(), is_async=is_async), over=over) as send:
        answer = send("/things/7")
    assert answer.status == 500
    assert answer.logged[0] is shop.failures["db commit"]
