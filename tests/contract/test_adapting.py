"""polydatum.adapting: what adapters share, by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import pytest

from polydatum import Context, ContextClosedError, DataManager, NoActiveContextError, NotFound, ServiceError
from polydatum.adapting import (
    AdapterMissingError,
    AsyncStreamedBody,
    InvalidManagerError,
    InvalidRuleError,
    ManagerNotFoundError,
    RequestDal,
    RequestFacts,
    RequestRules,
    StreamedBody,
    answer_for,
    find_manager,
    prefers_json,
)

# --- Finding the DataManager ------------------------------------------------------------------------------------------


def test_the_first_place_that_holds_anything_wins() -> None:
    first, second = DataManager(), DataManager()
    assert find_manager(("one", None), ("two", first), ("three", second)) is first
    with pytest.raises(InvalidManagerError, match="two: expected a DataManager or a dotted path to one, got"):
        find_manager(("one", None), ("two", 0), ("three", second))


def test_an_empty_search_names_every_place() -> None:
    with pytest.raises(ManagerNotFoundError, match="set one of these: one, two") as raised:
        find_manager(("one", None), ("two", None))
    assert raised.value.places == ("one", "two")


# --- request.dal ------------------------------------------------------------------------------------------------------


class Request:
    context: Context | None = None


@pytest.mark.parametrize("find", [lambda request: request.context, "context"], ids=["function", "attribute"])
def test_request_dal_lives_as_long_as_the_context(find: Any) -> None:
    class Own(Request):
        pass

    def keep(request: Any, context: Context) -> None:
        request.context = context

    RequestDal(find, keep, Facts, fix="install it", stream="stream it").put_on(Own)
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


def test_a_stream_s_context_is_found_by_the_name_of_an_attribute_too() -> None:
    dal = RequestDal("context", lambda request, context: None, Facts, fix="install it", stream="stream it")
    request: Any = Request()
    with pytest.raises(AdapterMissingError, match="install it"):
        dal.stream_context(request)
    request.context = DataManager().context()
    assert dal.stream_context(request).data_manager is request.context.data_manager


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


def test_64_the_contexts_of_one_request_have_one_id() -> None:
    request: dict[str, Any] = {"params": []}
    ids = []
    for _ in range(2):
        with DataManager().context(meta=Facts(request)) as context:
            ids.append(context.meta.request_id)
    assert ids[0] == ids[1]
    with DataManager().context(meta=Facts({"params": []})) as context:
        assert context.meta.request_id not in ids


class RoutedLater(Facts):
    """An adapter's where a router may still find something."""

    def find_params(self, request: dict[str, Any]) -> Iterable[tuple[str, object]]:
        request["readings"] = request.get("readings", 0) + 1
        yield from request["params"]

    def is_routed(self, request: dict[str, Any]) -> bool:
        return "routed" in request


def test_63_params_are_read_once_until_a_router_has_more() -> None:
    request: dict[str, Any] = {"params": [("tag", "a")]}
    with DataManager().context(meta=RoutedLater(request)) as context:
        params = context.meta.params
        assert dict(params) == dict(params) == {"tag": "a"}
        assert request["readings"] == 1
        request |= {"params": [("tag", "a"), ("id", 7)], "routed": True}
        assert dict(params) == dict(params) == {"tag": "a", "id": 7}
        assert request["readings"] == 2


def test_63_params_that_were_read_and_empty_stay_so() -> None:
    facts = RoutedLater({"params": []})
    with DataManager().context(meta=facts) as context:
        assert dict(context.meta.params) == {}
    facts.end()
    assert dict(context.meta.params) == {}


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
        context.close()
        return context

    def test_16_17_it_runs_with_the_closed_context_and_its_reader_does_not(
        self, dm: DataManager[Any, Any], closed: Context
    ) -> None:
        ended: list[bool] = []

        def body() -> Iterator[int]:
            try:
                for number in range(3):
                    with pytest.raises(ContextClosedError):
                        dm.require_active_context()
                    yield number
            finally:
                with pytest.raises(ContextClosedError):
                    dm.require_active_context()
                ended.append(True)

        with dm.context() as outer:
            streamed = StreamedBody(body(), closed)
            for _ in streamed:
                assert dm.require_active_context() is outer
                break
            streamed.close()
            assert ended == [True]
            assert dm.require_active_context() is outer
        assert list(StreamedBody(body(), closed)) == [0, 1, 2]

    def test_18_what_it_opens_is_current_in_it_until_it_ends(self, dm: DataManager[Any, Any], closed: Context) -> None:
        def body() -> Iterator[int]:
            with dm.context() as own:
                yield 1
                assert dm.require_active_context() is own
                yield 2
            with pytest.raises(ContextClosedError):
                dm.require_active_context()

        for _ in StreamedBody(body(), closed):
            assert dm.get_active_context() is None

    def test_it_leaves_when_it_fails(self, dm: DataManager[Any, Any], closed: Context) -> None:
        def body() -> Iterator[int]:
            raise ZeroDivisionError
            yield 1

        with pytest.raises(ZeroDivisionError):
            next(StreamedBody(body(), closed))
        with pytest.raises(NoActiveContextError):
            dm.require_active_context()

    def test_a_body_that_cannot_be_closed_is_left_alone(self, closed: Context) -> None:
        streamed = StreamedBody([1], closed)
        assert next(streamed) == 1
        streamed.close()

    def test_16_17_an_async_one_does_the_same(self, dm: DataManager[Any, Any], closed: Context) -> None:
        async def body() -> AsyncIterator[int]:
            async with dm.context() as own:
                yield 1
                assert dm.require_active_context() is own
            with pytest.raises(ContextClosedError):
                dm.require_active_context()
            yield 2

        async def read() -> list[int]:
            async with dm.context() as outer:
                found = []
                async for number in AsyncStreamedBody(body(), closed):
                    assert dm.require_active_context() is outer
                    found.append(number)
                return found

        assert asyncio.run(read()) == [1, 2]


# --- Rules ------------------------------------------------------------------------------------------------------------


def sometimes(error: BaseException | None, status: int | None) -> bool:
    return True


def find_rules(**given: Any) -> RequestRules:
    return RequestRules.find(lambda name: [(f"option {name}", given.get(name))])


def test_04_a_rule_may_be_a_dotted_path() -> None:
    assert find_rules(rollback_on=f"{__name__}:sometimes", teardown_timeout=1) == RequestRules(sometimes, 1)
    assert find_rules() == RequestRules()


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("rollback_on", 7, "expected a function or a dotted path to one, got an object of type int"),
        ("rollback_on", "sometimes", "'sometimes' is not a dotted path"),
        ("on_commit_error", "no_such_package.rule", "cannot import 'no_such_package.rule'"),
        ("on_commit_error", "sys.no_such_function", "module 'sys' has no 'no_such_function'"),
        ("teardown_timeout", 0, "expected a number of seconds above 0"),
        ("teardown_timeout", float("nan"), "expected a number of seconds above 0"),
        ("teardown_timeout", "5", "expected a number of seconds, got an object of type str"),
        ("teardown_timeout", True, "expected a number of seconds, got an object of type bool"),
    ],
)
def test_20_a_rule_of_another_kind_is_refused(name: str, value: Any, problem: str) -> None:
    with pytest.raises(InvalidRuleError, match=f"option {name}: {problem}") as raised:
        find_rules(**{name: value})
    assert raised.value.place == f"option {name}"


def test_04_the_contexts_of_an_adapter_are_made_by_its_rules() -> None:
    manager = DataManager()
    assert find_rules().context_factory(manager) == manager.context
    context = find_rules(rollback_on=sometimes).context_factory(manager)({"user": "ann"})
    with context:
        assert context.meta.user == "ann"
    assert context.outcome == "rolled_back"
