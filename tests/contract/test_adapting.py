"""polydatum.adapting: what adapters share, by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from polydatum import Context, ContextClosedError, DataManager, NoActiveContextError, NotFound, ServiceError
from polydatum.adapting import (
    InvalidManagerError,
    ManagerNotFoundError,
    RequestDal,
    RequestFacts,
    StreamedBody,
    answer_for,
    find_manager,
    prefers_json,
)

# --- Finding the DataManager ------------------------------------------------------------------------------------------


def test_the_first_place_that_holds_anything_wins() -> None:
    first, second = DataManager(), DataManager()
    assert find_manager(("one", None), ("two", first), ("three", second)) is first
    with pytest.raises(InvalidManagerError, match="two: a DataManager, or a dotted path to one, is needed"):
        find_manager(("one", None), ("two", 0), ("three", second))


def test_an_empty_search_names_every_place() -> None:
    with pytest.raises(ManagerNotFoundError, match="set one of these: one, two") as raised:
        find_manager(("one", None), ("two", None))
    assert raised.value.places == ("one", "two")


# --- request.dal ------------------------------------------------------------------------------------------------------


class Request:
    context: Context | None = None


def test_request_dal_lives_as_long_as_the_context() -> None:
    class Own(Request):
        pass

    def keep(request: Any, context: Context) -> None:
        request.context = context

    RequestDal(lambda request: request.context, keep, Facts, fix="install it", stream="stream it").put_on(Own)
    assert isinstance(Own.dal, RequestDal)  # type: ignore[attr-defined]
    dm = DataManager()
    request: Any = Own()
    with pytest.raises(NoActiveContextError, match=r"no context for request\.dal: install it") as raised:
        request.dal  # noqa: B018
    assert (raised.value.wanted, raised.value.fix) == ("request.dal", "install it")  # type: ignore[attr-defined]
    with dm.context() as request.context:
        assert request.dal is dm.get_dal()
    with pytest.raises(ContextClosedError, match=r"outcome committed.*stream it"):
        request.dal  # noqa: B018


# --- ctx.meta ---------------------------------------------------------------------------------------------------------


class Facts(RequestFacts[dict[str, Any]]):
    """The smallest adapter's."""

    def find_params(self, request: dict[str, Any]) -> Iterable[tuple[str, object]]:
        yield from request["params"]

    def find_header(self, request: dict[str, Any], name: str) -> str | None:
        return None


def test_facts_need_no_more_than_params() -> None:
    request = {"params": [("tag", "a"), ("id", 9), ("tag", "b"), ("id", 7)]}
    facts = Facts(request)
    with DataManager().context(meta=facts) as context:
        assert sorted(context.meta) == ["params", "request", "request_id", "user"]
        assert context.meta.user is None
        assert context.meta.request["params"][0] == ("tag", "a")
        assert dict(context.meta.params) == {"tag": "b", "id": 7}
        assert context.meta.params.getlist("tag") == ["a", "b"]
        assert context.meta.params.getlist("missing") == []
    with pytest.raises(KeyError):
        facts["session"]


def test_facts_end_with_the_request() -> None:
    facts = Facts({"params": [("tag", "a")]})
    read, unread = DataManager().context(meta=facts), DataManager().context(meta=facts)
    assert read.meta.params["tag"] == "a"
    facts.end()
    assert read.meta.params["tag"] == "a"
    with pytest.raises(ContextClosedError, match=r"meta\.params.*before the request is over"):
        unread.meta.params["tag"]
    with pytest.raises(ContextClosedError, match=r"meta\.user"):
        unread.meta.user  # noqa: B018


# --- Answering a ServiceError -----------------------------------------------------------------------------------------


class Teapot(ServiceError):
    code = 418


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (NotFound("item 7"), 404, "item 7"),
        (NotFound(), 404, "Not Found"),
        (Teapot("short and stout"), 418, "short and stout"),
        (ServiceError("odd", code=499), 499, "odd"),
        (ServiceError(code=499), 499, "error"),
        (ServiceError("\ud800", code=400), 400, "?"),
    ],
)
def test_a_service_error_of_the_client_s_is_answered(error: ServiceError, status: int, detail: str) -> None:
    answer = answer_for(error, "text/plain")
    assert answer is not None
    assert (answer.status, answer.body.decode()) == (status, detail)
    assert answer.headers == {"Content-Type": "text/plain; charset=utf-8", "Vary": "Accept"}


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), ServiceError("broken"), ServiceError("x", code=399), ServiceError("x", code="404")],  # type: ignore[arg-type]
)
def test_nothing_else_is(error: Exception) -> None:
    assert answer_for(error) is None


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, True),
        ("", True),
        ("*/*", True),
        ("application/json", True),
        ("application/problem+json, text/plain;q=0.5", True),
        ("APPLICATION/JSON; Q=0.9, text/plain;q=0.8", True),
        ("image/png", True),
        ("application/*", True),
        ("text/plain", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("text/*;q=0.3, application/json;q=0.2", False),
        ("application/json;q=0, */*", False),
        ("text/plain;charset=utf-8;q=0.5, application/json;q=0.4", False),
        ("application/json;q=high, text/plain;q=0.1", False),
    ],
)
def test_json_unless_the_client_prefers_text(accept: str | None, expected: bool) -> None:
    assert prefers_json(accept) is expected


# --- Streamed bodies --------------------------------------------------------------------------------------------------


class TestStreamedBody:
    @pytest.fixture
    def dm(self) -> DataManager[Any, Any]:
        return DataManager()

    @pytest.fixture
    def closed(self, dm: DataManager[Any, Any]) -> Context:
        context: Context = dm.context().open()
        context.close(keep_current=True)
        return context

    def test_it_leaves_at_its_end(self, dm: DataManager[Any, Any], closed: Context) -> None:
        def body() -> Iterator[int]:
            yield 1
            with pytest.raises(ContextClosedError):
                dm.require_active_context()
            yield 2

        assert list(StreamedBody(body(), closed)) == [1, 2]
        with pytest.raises(NoActiveContextError):
            dm.require_active_context()

    def test_it_leaves_when_it_fails(self, dm: DataManager[Any, Any], closed: Context) -> None:
        def body() -> Iterator[int]:
            raise ZeroDivisionError
            yield 1

        with pytest.raises(ZeroDivisionError):
            next(StreamedBody(body(), closed))
        with pytest.raises(NoActiveContextError):
            dm.require_active_context()

    @pytest.mark.parametrize("closable", [False, True])
    def test_it_leaves_when_it_is_closed(self, dm: DataManager[Any, Any], closed: Context, closable: bool) -> None:
        ended: list[bool] = []

        def body() -> Iterator[int]:
            try:
                yield 1
            finally:
                ended.append(True)

        streamed = StreamedBody(body() if closable else [1], closed)
        assert next(streamed) == 1
        streamed.close()
        assert ended == ([True] if closable else [])
        with pytest.raises(NoActiveContextError):
            dm.require_active_context()
