"""A state machine: whatever is done to contexts, in whatever order and thread, a small model foretells it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from polydatum import Context, DataAccessLayer, DataManager, Service
from polydatum.errors import ContextClosedError, ContextError, ContextReusedError, NoActiveContextError

RESOURCES = ("db", "cache", "tx", "broken")
EVENTS = ("before_commit", "on_commit", "on_rollback")
NOT_USABLE = (NoActiveContextError, ContextClosedError)


class Boom(Exception):
    """The error of bodies and of the broken resource."""


# --- The model -------------------------------------------------------------------------------------------------------


class ModelContext:
    """One context, as far as anybody can tell."""

    def __init__(self, name: int) -> None:
        self.name = name
        self.state = "created"
        self.outer: ModelContext | None = None
        self.opened: list[str] = []
        self.doomed = False
        self.lenient = False
        self.hooks: dict[str, int] = dict.fromkeys(EVENTS, 0)
        self.outcome: str | None = None


class Model:
    """All contexts of one manager, and everything that parts and hooks were seen to do."""

    def __init__(self) -> None:
        self.current: ModelContext | None = None
        self.log: list[tuple[int, str]] = []

    def active(self) -> ModelContext | None:
        return self.current if self.current is not None and self.current.state != "closed" else None

    def open(self, context: ModelContext) -> Any:
        if context.state != "created":
            return ContextReusedError
        context.state = "open"
        context.outer, self.current = self.current, context
        return context.name

    def touch(self, context: ModelContext, resource: str) -> Any:
        if context.state != "open":
            return ContextClosedError if context.state == "closed" else NoActiveContextError
        if resource == "broken":
            self.log.append((context.name, "try broken"))
            return Boom
        for needed in ("db", "cache") if resource == "cache" else (resource,):
            if needed not in context.opened:
                context.opened.append(needed)
                self.log.append((context.name, f"open {needed}"))
        return (context.name, resource)

    def call(self) -> Any:
        return NOT_USABLE if self.active() is None else self.touch(self.current, "db")

    def wish(self, context: ModelContext, change: Callable[[ModelContext], None]) -> Any:
        if context.state == "closed":
            return ContextClosedError
        change(context)
        return None

    def close(self, context: ModelContext, error: type[BaseException] | None, status: int | None) -> Any:
        if context.state == "created":
            return ContextError
        if context.state == "open":
            failed = error is not None or (status is not None and status >= 400)
            rolls_back = context.doomed or error is KeyboardInterrupt or (failed and not context.lenient)
            context.outcome = "rolled_back" if rolls_back else "committed"
            self.log += [(context.name, "before_commit")] * (0 if rolls_back else context.hooks["before_commit"])
            if "tx" in context.opened:
                self.log += [
                    (context.name, f"{step} tx") for step in (["rollback"] if rolls_back else ["prepare", "commit"])
                ]
            ending = "undo" if rolls_back else "end"
            self.log += [(context.name, f"{ending} {name}") for name in reversed(context.opened)]
            event = "on_rollback" if rolls_back else "on_commit"
            self.log += [(context.name, event)] * context.hooks[event]
            context.state, context.opened = "closed", []
        return context.outcome

    def leave(self, context: ModelContext) -> None:
        if self.current is context:
            self.current = context.outer


# --- The real thing --------------------------------------------------------------------------------------------------


class ItemService(Service[Any]):
    def read(self) -> Any:
        return self._ctx.db


class ShopDAL(DataAccessLayer):
    items = ItemService()


def make_manager(log: list[tuple[int, str]]) -> Any:
    """A manager whose parts say what they do."""

    class Transaction:
        kind = "authority"

        def __init__(self, context: Any) -> None:
            self.name = context.meta.number
            log.append((self.name, "open tx"))

        def prepare(self) -> None:
            log.append((self.name, "prepare tx"))

        def commit(self) -> None:
            log.append((self.name, "commit tx"))
            self.end = "end tx"

        end = "undo tx"

        def rollback(self) -> None:
            log.append((self.name, "rollback tx"))

        def close(self) -> None:
            log.append((self.name, self.end))

        def __eq__(self, other: object) -> bool:
            return (self.name, "tx") == other

    def generator(context: Any, name: str) -> Iterator[Any]:
        number = context.meta.number
        log.append((number, f"open {name}"))
        try:
            yield (number, name)
        except BaseException:
            log.append((number, f"undo {name}"))
            raise
        log.append((number, f"end {name}"))

    def db(context: Any) -> Iterator[Any]:
        yield from generator(context, "db")

    def cache(context: Any) -> Iterator[Any]:
        assert context.db == (context.meta.number, "db")
        yield from generator(context, "cache")

    def broken(context: Any) -> Iterator[Any]:
        log.append((context.meta.number, "try broken"))
        raise Boom
        yield

    manager = DataManager(ShopDAL)
    manager.register_resources(db=db, cache=cache, tx=Transaction, broken=broken)
    return manager


def outcome_of(action: Callable[[], Any]) -> Any:
    """What an action gives: its result, or the class of the error it raises."""
    try:
        return action()
    except Exception as error:
        return type(error)


def in_a_thread(action: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(outcome_of(action)))
    thread.start()
    thread.join()
    return results[0]


# --- The machine -----------------------------------------------------------------------------------------------------


class Contexts(RuleBasedStateMachine):
    """Does things to contexts, and to their models."""

    contexts = Bundle("contexts")

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[int, str]] = []
        self.manager = make_manager(self.log)
        self.model = Model()
        self.pairs: list[tuple[Context, ModelContext]] = []

    @precondition(lambda self: len(self.pairs) < 5)
    @rule(target=contexts)
    def create(self) -> int:
        number = len(self.pairs)
        self.pairs.append((self.manager.context(meta={"number": number}), ModelContext(number)))
        return number

    @rule(number=contexts)
    def open(self, number: int) -> None:
        context, model = self.pairs[number]
        opened = outcome_of(context.open)
        assert opened is context or opened is self.model.open(model)
        if opened is context:
            assert self.model.open(model) == number

    @precondition(lambda self: len(self.pairs) < 5)
    @rule(target=contexts)
    def nest(self) -> int:
        number = self.create()
        self.open(number)
        return number

    @rule(number=contexts, name=st.sampled_from(RESOURCES), again=st.booleans())
    def touch(self, number: int, name: str, again: bool) -> None:
        context, model = self.pairs[number]
        for _ in range(1 + again):
            assert outcome_of(lambda: getattr(context, name)) == self.model.touch(model, name)

    @rule(number=contexts, name=st.sampled_from(RESOURCES))
    def touch_in_a_thread(self, number: int, name: str) -> None:
        context, model = self.pairs[number]
        assert in_a_thread(lambda: getattr(context, name)) == self.model.touch(model, name)

    @rule()
    def call_a_service(self) -> None:
        got, expected = outcome_of(self.manager.get_dal().items.read), self.model.call()
        assert got in expected if expected is NOT_USABLE else got == expected

    @rule()
    def call_a_service_in_a_thread(self) -> None:
        assert in_a_thread(self.manager.get_dal().items.read) is NoActiveContextError

    @rule(number=contexts)
    def set_rollback_only(self, number: int) -> None:
        context, model = self.pairs[number]
        assert outcome_of(context.set_rollback_only) is self.model.wish(model, lambda it: setattr(it, "doomed", True))

    @rule(number=contexts)
    def commit_on_error(self, number: int) -> None:
        context, model = self.pairs[number]
        assert outcome_of(context.commit_on_error) is self.model.wish(model, lambda it: setattr(it, "lenient", True))

    @rule(number=contexts, event=st.sampled_from(EVENTS))
    def hook(self, number: int, event: str) -> None:
        context, model = self.pairs[number]

        def hook() -> None:
            self.log.append((number, event))

        def count(it: ModelContext) -> None:
            it.hooks[event] += 1

        got, expected = outcome_of(lambda: getattr(context, event)(hook)), self.model.wish(model, count)
        assert got is (hook if expected is None else expected)

    @rule(
        number=contexts,
        error=st.sampled_from((None, None, Boom, KeyboardInterrupt)),
        status=st.sampled_from((None, None, 200, 404)),
        keep=st.booleans(),
    )
    def close(self, number: int, error: type[BaseException] | None, status: int | None, keep: bool) -> None:
        """Close it: open, closed before, around one that is still open, or never opened."""
        context, model = self.pairs[number]
        exc = None if error is None else error()
        got = outcome_of(lambda: context.close(exc, status=status, keep_current=keep))
        assert got == self.model.close(model, error, status)
        if not keep:
            self.model.leave(model)

    @rule(number=contexts, error=st.sampled_from((None, Boom)))
    def close_in_a_thread(self, number: int, error: type[BaseException] | None) -> None:
        """There it is not the current one; here the closed context stays that, until somebody leaves it."""
        context, model = self.pairs[number]
        assert in_a_thread(lambda: context.close(error and error())) == self.model.close(model, error, None)

    @rule(number=contexts)
    def leave(self, number: int) -> None:
        context, model = self.pairs[number]
        context.leave()
        self.model.leave(model)

    @invariant()
    def all_is_as_foretold(self) -> None:
        assert self.log == self.model.log
        active = self.model.active()
        assert self.manager.get_active_context() is (None if active is None else self.pairs[active.name][0])
        for context, model in self.pairs:
            assert context.state == model.state
            assert context.outcome == model.outcome
            assert [name for name in RESOURCES if name in context] == [
                name for name in RESOURCES if name in model.opened
            ]

    def teardown(self) -> None:
        for context, _ in self.pairs:
            if context.state == "open":
                context.close()
        for _ in self.pairs:  # closed in any order, they are left from the inside out
            for context, _ in self.pairs:
                context.leave()


Contexts.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
test_contexts_behave_as_the_model = pytest.mark.timeout(60)(Contexts.TestCase)
