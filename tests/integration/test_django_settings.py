"""The setting `POLYDATUM` of django_polydatum, and what its keys do.

The numbers are those of the list of behaviours that adapters owe.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import got_request_exception
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, override_settings

from django_polydatum import PolydatumMiddleware, stream_context
from django_polydatum.checks import check_settings
from django_polydatum.configuration import Configuration
from django_polydatum.requests import FAILED_HINT
from polydatum import ConfigurationError, Context, ContextClosedError, ResourceTimeoutError, ServiceError
from polydatum.testing.shop import Shop
from tests.integration.django_serving import OURS, serving

pytestmark = pytest.mark.usefixtures("django_settings")

HERE = "tests.integration.test_django_settings"
BOTH = pytest.mark.parametrize("over", ["wsgi", "asgi"])


def add(request: Any) -> HttpResponse:
    request.dal.items.add("tea")
    return HttpResponse("added", status=int(request.GET.get("status", 200)))


async def add_async(request: Any) -> HttpResponse:
    return add(request)


# --- What it may hold -----------------------------------------------------------------------------------------------

WRONG: list[tuple[dict[Any, Any], str, str]] = [
    ({"ROLBACK_ON": len}, "E003", "unknown keys: ROLBACK_ON; the keys are DATA_MANAGER, ROLLBACK_ON,"),
    ({7: None}, "E003", "unknown keys: 7"),
    ({"ROLLBACK_ON": "no.such.rule"}, "E004", "POLYDATUM['ROLLBACK_ON']: cannot import 'no.such.rule': No module"),
    ({"ROLLBACK_ON": "nowhere"}, "E004", "POLYDATUM['ROLLBACK_ON']: 'nowhere' is not a dotted path"),
    (
        {"ON_COMMIT_ERROR": f"{HERE}.HERE"},
        "E004",
        "expected a function or a dotted path to one, got an object of type str",
    ),
    ({"ON_COMMIT_ERROR": 409}, "E004", "POLYDATUM['ON_COMMIT_ERROR']: expected a function or a dotted path to one"),
    ({"TEARDOWN_TIMEOUT": 0}, "E004", "POLYDATUM['TEARDOWN_TIMEOUT']: expected a number of seconds above 0"),
]


@pytest.mark.parametrize(("options", "code", "text"), WRONG)
@BOTH
def test_20_52_a_setting_that_cannot_be_used_fails_the_start_up(
    shop: Shop, options: Any, code: str, text: str, over: str
) -> None:
    with override_settings(POLYDATUM={"DATA_MANAGER": shop.dm, **options}, MIDDLEWARE=[OURS]):
        (problem,) = check_settings(None)
    assert problem.id == f"polydatum.{code}"
    assert text in problem.msg
    with pytest.raises(ImproperlyConfigured) as raised, serving(shop.dm, add, over=over, options=options):
        pass
    assert text in str(raised.value)


def test_20_52_a_setting_that_is_no_dict_fails_the_start_up() -> None:
    with override_settings(POLYDATUM="shop.data.dm", MIDDLEWARE=[OURS]):
        (problem,) = check_settings(None)
        with pytest.raises(ImproperlyConfigured, match="POLYDATUM: has to be a dict, not an object of type str"):
            PolydatumMiddleware(add)
    assert problem.id == "polydatum.E001"
    assert "has to be a dict" in problem.msg


def test_52_the_checks_report_everything_at_once() -> None:
    options = {"DATA_MANAGER": "no.such.dm", "ROLLBACK": 1, "ROLLBACK_ON": 1, "TEARDOWN_TIMEOUT": -1}
    with override_settings(POLYDATUM=options, MIDDLEWARE=[]):
        found = [problem.id for problem in check_settings(None)]
    assert found == [f"polydatum.{code}" for code in ("E003", "E001", "E004", "E004", "W003")]


def test_keys_that_are_none_are_as_if_left_out(shop: Shop) -> None:
    options = {"ROLLBACK_ON": None, "TEARDOWN_TIMEOUT": None, "ON_COMMIT_ERROR": None}
    with override_settings(POLYDATUM={"DATA_MANAGER": shop.dm, **options}):
        configuration = Configuration()
    assert configuration.new_context == shop.dm.context
    assert configuration.on_commit_error is None


# --- ROLLBACK_ON, TEARDOWN_TIMEOUT ----------------------------------------------------------------------------------


def server_errors_only(error: BaseException | None, status: int | None) -> bool:
    return error is not None or (status is not None and status >= 500)


@pytest.mark.parametrize("rule", [server_errors_only, f"{HERE}.server_errors_only"])
@BOTH
def test_04_rollback_on_takes_the_place_of_the_managers(shop: Shop, rule: Any, over: str) -> None:
    with serving(shop.dm, add, over=over, options={"ROLLBACK_ON": rule}) as send:
        assert send(query="status=404").status == 404
        assert shop.names == ["tea"]
        assert send(query="status=503").status == 503
        assert shop.names == ["tea"]


def test_04_rollback_on_is_told_the_exception_that_became_an_answer(shop: Shop) -> None:
    asked: list[Any] = []

    def rule(error: BaseException | None, status: int | None) -> bool:
        asked.append((type(error), status))
        return True

    def view(request: Any) -> HttpResponse:
        raise ServiceError("sold out", code=409)

    with serving(shop.dm, view, options={"ROLLBACK_ON": rule}) as send:
        assert send().status == 409
    assert asked == [(ServiceError, 409)]


def test_04_rollback_on_holds_for_streams(shop: Shop) -> None:
    def view(request: Any) -> StreamingHttpResponse:
        def body() -> Iterator[str]:
            with contextlib.suppress(ZeroDivisionError), stream_context(request) as context:
                context.dal.items.add("audit")
                raise ZeroDivisionError
            yield "audited"

        return StreamingHttpResponse(body())

    with serving(shop.dm, view, options={"ROLLBACK_ON": lambda error, status: False}) as send:
        assert send().body == b"audited"
    assert shop.names == ["audit"]


def test_32_teardown_timeout_takes_the_place_of_the_managers(shop: Shop) -> None:
    @shop.dm.resource
    async def hangs(context: Context) -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()

    async def view(request: Any) -> HttpResponse:
        await shop.here().hangs
        return HttpResponse("ok")

    with serving(shop.dm, view, over="asgi", options={"TEARDOWN_TIMEOUT": 0.05}) as send:
        answer = send()
    assert answer.status == 500
    (error,) = (error for error in answer.logged if isinstance(error, ResourceTimeoutError))
    assert error.limit == 0.05


# --- ON_COMMIT_ERROR ------------------------------------------------------------------------------------------------


def conflict(request: Any, error: Exception) -> HttpResponse:
    return HttpResponse(f"{request.path}: {error}", status=409)


async def conflict_async(request: Any, error: Exception) -> HttpResponse:
    await asyncio.sleep(0)
    return conflict(request, error)


@pytest.mark.parametrize("handler", [conflict, f"{HERE}.conflict"])
@pytest.mark.parametrize("view", [add, add_async])
@BOTH
def test_01_23_on_commit_error_answers_a_failed_commit(shop: Shop, handler: Any, view: Any, over: str) -> None:
    shop.fail("db commit", RuntimeError("disk full"))
    with serving(shop.dm, view, over=over, options={"ON_COMMIT_ERROR": handler}) as send:
        answer = send("/items")
    assert (answer.status, answer.body) == (409, b"/items: disk full")
    assert answer.raised is None
    assert shop.names == []
    assert shop.is_left


def test_01_23_on_commit_error_may_be_async_under_asgi(shop: Shop) -> None:
    shop.fail("db commit", RuntimeError("disk full"))
    with serving(shop.dm, add, over="asgi", options={"ON_COMMIT_ERROR": conflict_async}) as send:
        assert send().status == 409


def test_01_23_an_async_on_commit_error_where_nothing_can_be_awaited_is_refused(shop: Shop) -> None:
    failure = shop.fail("db commit", RuntimeError("disk full"))
    with serving(shop.dm, add, options={"ON_COMMIT_ERROR": conflict_async}) as send:
        answer = send()
    assert answer.status == 500
    assert isinstance(answer.logged[0], ConfigurationError)
    assert failure in answer.reported


def returns_none(request: Any, error: Exception) -> None:
    return None


def returns_success(request: Any, error: Exception) -> HttpResponse:
    return HttpResponse("all is well")


def returns_text(request: Any, error: Exception) -> Any:
    return "conflict"


def touches_the_dal(request: Any, error: Exception) -> Any:
    return request.dal.items.names()


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (returns_none, None),
        (returns_success, ConfigurationError),
        (returns_text, ConfigurationError),
        (touches_the_dal, ContextClosedError),
    ],
)
@BOTH
def test_01_23_an_answer_in_vain_leaves_the_commits_error(
    shop: Shop, handler: Callable[..., Any], told: type[Exception] | None, over: str
) -> None:
    failure = shop.fail("db commit", RuntimeError("disk full"))
    with serving(shop.dm, add, over=over, options={"ON_COMMIT_ERROR": handler}) as send:
        answer = send()
    assert answer.status == 500
    assert b"well" not in answer.body
    assert failure in answer.reported
    assert [type(error) for error in answer.logged] == [kind for kind in (told, RuntimeError) if kind is not None]
    assert shop.names == []


@BOTH
def test_01_what_is_told_of_a_failed_commit_is_advised_to_open_a_context_of_its_own(shop: Shop, over: str) -> None:
    advice: list[str] = []

    def receive(request: Any, **facts: Any) -> None:
        try:
            request.dal.items.names()
        except ContextClosedError as error:
            advice.append(error.hint)
        with shop.dm.dal() as dal:
            assert dal.items.names() == []

    shop.fail("db commit", RuntimeError("disk full"))
    got_request_exception.connect(receive)
    try:
        with serving(shop.dm, add, over=over) as send:
            assert send().status == 500
    finally:
        got_request_exception.disconnect(receive)
    assert advice == [FAILED_HINT]


SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"


def log_in(request: Any) -> HttpResponse:
    request.session["user"] = request.GET["user"]
    request.dal.items.add("tea")
    return HttpResponse("welcome")


def busy(request: Any, error: Exception) -> HttpResponse:
    return HttpResponse(f"busy, {request.session.get('user')}", status=503)


class AwaitedClient(AsyncClient):
    """Django's async client, called as the other one is."""

    def get(self, *args: Any, **options: Any) -> Any:
        return async_to_sync(super().get)(*args, **options)


@pytest.mark.parametrize("engine", ["signed_cookies", "cache"])
@pytest.mark.parametrize("client", [Client, AwaitedClient])
def test_01_23_the_session_is_what_the_client_has_sent(shop: Shop, engine: str, client: Any) -> None:
    settings = {"SESSION_ENGINE": f"django.contrib.sessions.backends.{engine}"}
    options = {"ON_COMMIT_ERROR": busy}
    with serving(shop.dm, log_in, middleware=(SESSIONS, OURS), options=options, **settings):
        browser = client()
        shop.fail("db commit", RuntimeError("disk full"))
        failed = browser.get("/?user=bob")
        assert (failed.content, failed.cookies) == (b"busy, None", {})
        shop.failures.clear()
        assert browser.get("/?user=ann").cookies
        shop.fail("db commit", RuntimeError("disk full"))
        failed = browser.get("/?user=bob")
        assert (failed.content, failed.cookies) == (b"busy, ann", {})
        assert browser.session["user"] == "ann"


@BOTH
def test_23_on_commit_error_is_not_asked_about_an_error_of_the_views(shop: Shop, over: str) -> None:
    shop.fail("db rollback", RuntimeError("disk full"))

    def view(request: Any) -> HttpResponse:
        add(request)
        raise ZeroDivisionError

    with serving(shop.dm, view, over=over, options={"ON_COMMIT_ERROR": conflict}) as send:
        answer = send()
    assert answer.status == 500
    assert isinstance(answer.logged[0], ZeroDivisionError)


@BOTH
def test_23_on_commit_error_comes_before_the_answer_to_a_service_error(shop: Shop, over: str) -> None:
    shop.fail("db commit", ServiceError("sold out", code=422))
    with serving(shop.dm, add, over=over, options={"ON_COMMIT_ERROR": conflict}) as send:
        assert send().status == 409
    with serving(shop.dm, add, over=over, options={"ON_COMMIT_ERROR": returns_none}) as send:
        assert send().status == 422


def test_23_on_commit_error_runs_in_the_thread_of_the_sync_view(shop: Shop) -> None:
    threads: list[int] = []
    shop.fail("db commit", RuntimeError("disk full"))

    def view(request: Any) -> HttpResponse:
        threads.append(threading.get_ident())
        return add(request)

    def handler(request: Any, error: Exception) -> HttpResponse:
        threads.append(threading.get_ident())
        return conflict(request, error)

    with serving(shop.dm, view, over="asgi", options={"ON_COMMIT_ERROR": handler}) as send:
        assert send().status == 409
    assert threads[0] == threads[1] != threading.get_ident()
