"""The real thing under fault: a DataManager of a given shape, whose parts misbehave as a case says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, NamedTuple

from polydatum import CommitOutcomeUnknown, Context, DataManager, RolledBack
from polydatum.errors import (
    ContextClosedError,
    InvalidResourceError,
    MiddlewareSetupError,
    NoActiveContextError,
    ResourceSetupError,
    YieldedTwiceError,
)

from .model import INSIDE, OUTSIDE, VETO, Passed, Story
from .parts import ASYNC_PARTS, PARTS
from .shapes import (
    BARE,
    CANCEL,
    DOOM,
    DOOMED,
    EFFECT,
    ERROR,
    EXIT,
    GENERATOR_EXIT,
    HOOK,
    INTERRUPT,
    LATE,
    LENIENT,
    LOST,
    NO_YIELD,
    OPEN,
    OWN_BASE,
    STOP,
    TWO_YIELDS,
    Faults,
    Shape,
)

SYNC = "sync"
ADAPTED = "adapted"  # as SYNC, but led by open() and close(exc), as an adapter does
ASYNC = "async"  # every part is
MIXED = "mixed"  # an async context of sync and async parts in turn
SUSPENDING = "suspending"  # as ASYNC, and every part suspends at every point
TRIO = "trio"  # as ASYNC, on trio
THREADED = "threaded"  # an async context of sync parts, which a sync endpoint uses in its thread
ALL_SYNC = (SYNC, ADAPTED, THREADED)
MODES = (SYNC, ADAPTED, ASYNC, MIXED, SUSPENDING, TRIO, THREADED)

BODY = "the body of the context"
ENDS = ("resumed", "thrown", "close")
VERBS = {"prepare": "preparing", "commit": "committing", "rollback": "rolling back", "close": "closing"}


class Boom(Exception):
    """The plain error."""


class Blast(BaseException):
    """Somebody's own BaseException."""


RAISED: dict[str, Callable[[str], BaseException]] = {
    ERROR: Boom,
    OWN_BASE: Blast,
    INTERRUPT: KeyboardInterrupt,
    EXIT: SystemExit,
    CANCEL: asyncio.CancelledError,
    GENERATOR_EXIT: GeneratorExit,
    STOP: StopIteration,
    LOST: CommitOutcomeUnknown,
}

OURS: dict[type[BaseException], tuple[str, ...]] = {
    ResourceSetupError: (NO_YIELD,),
    InvalidResourceError: (NO_YIELD,),
    MiddlewareSetupError: (NO_YIELD,),
    YieldedTwiceError: (TWO_YIELDS,),
    RuntimeError: (STOP,),  # Python's, for a StopIteration that leaves a generator or coroutine (PEP 479)
}


async def raised(error: BaseException) -> None:
    """Raise what a thread has raised, as a coroutine does: a StopIteration becomes a RuntimeError."""
    raise error


def plain_rule(exc: BaseException | None, status: int | None) -> bool:
    """What a manager without ``rollback_on`` does; given as one, it takes the engine off its clean paths."""
    return exc is not None or (status is not None and status >= 400)


class Seen(NamedTuple):
    """What was seen of a case: the story, and what goes wrong outside of it."""

    story: Story
    wrong: list[str]
    details: tuple[Any, ...]
    """Messages, places, notes and reason: no matter of the model, but the same on every path."""


class Rig:
    """Makes contexts of one shape, strikes them with faults, and tells what was seen."""

    def __init__(self, shape: Shape, mode: str, *, by_policy: bool = False) -> None:
        self.shape = shape
        self.mode = mode
        self.faults: Faults = {}
        self.trace: list[Passed] = []
        self.raised: dict[int, tuple[str, BaseException]] = {}
        self.running = False
        self.manager: Any = DataManager(
            rollback_on=plain_rule if by_policy else None, commit_order=[f"r{number}" for number in range(4)]
        )
        self.names = [f"r{number}" for number in range(len(shape.resources))]
        self.manager.register_resources(**{name: self.part(name) for name in (*self.names, LATE)})
        middleware = [self.part(f"m{number}") for number in range(len(shape.middleware))]
        self.manager.register_context_middleware(*middleware)
        self.hooks = {event: self.hook(event) for event in ("before_commit", "on_commit", "on_rollback")}
        self.next_hooks = {event: self.hook(f"{event}.next") for event in self.hooks}

    # --- Points ------------------------------------------------------------------------------------------------------

    def reach(self, point: str, cause: BaseException | None = None) -> str | None:
        """Pass a point: raise the fault that strikes there, or return its kind if it is a misbehaviour."""
        if not self.running:
            return None
        where = INSIDE if self.manager.get_active_context() is self.context else self.elsewhere()
        self.trace.append(Passed(point, None if cause is None else self.label(cause), where))
        kind = self.faults.get(point)
        if kind is None:
            return None
        make = RAISED.get(kind)
        if make is not None:
            label = f"{point}:{kind}"
            error = make(label)
            self.raised[id(error)] = label, error
            raise error
        if kind == DOOM:
            self.context.set_rollback_only(point)
        elif kind == HOOK:
            for event in self.hooks:
                getattr(self.context, event)(self.hook(f"{event}.late"))
        elif kind == OPEN:
            getattr(self.context, LATE)
        return kind

    def elsewhere(self) -> str:
        try:
            self.manager.require_active_context()
        except ContextClosedError:
            return "in a closed context"
        except NoActiveContextError:
            return OUTSIDE
        return "in another context"

    async def areach(self, point: str, cause: BaseException | None = None) -> str | None:
        if self.mode == SUSPENDING:
            await asyncio.sleep(0)
        return self.reach(point, cause)

    # --- Parts -------------------------------------------------------------------------------------------------------

    def is_async(self, part: str) -> bool:
        if part == LATE:
            return False  # touched where nothing is awaited
        if self.mode == MIXED:
            return int(part[1:]) % 2 == 0
        return self.mode not in ALL_SYNC

    def part(self, name: str) -> Any:
        form = self.shape.form_of(name)
        make = (ASYNC_PARTS if self.is_async(name) else PARTS)[form]
        part = make(self, name, "effect" if form == EFFECT else "authority")
        part.__qualname__ = name
        return part

    def hook(self, point: str) -> Any:
        def hook() -> None:
            self.reach(point)

        async def async_hook() -> None:
            await self.areach(point)

        made = hook if self.mode in (*ALL_SYNC, MIXED) else async_hook
        made.__qualname__ = point
        return made

    # --- Lives -------------------------------------------------------------------------------------------------------

    def begin(self, faults: Faults) -> Any:
        self.faults = faults
        self.trace = []
        self.raised = {}
        self.outer = self.manager.get_active_context()
        self.context = self.manager.context()
        self.running = True
        return self.context

    def wish(self, context: Any, wish: str) -> None:
        if wish == DOOMED:
            context.set_rollback_only("the body said so")
        elif wish == LENIENT:
            context.commit_on_error()
        if wish == BARE:
            return
        for hooks in (self.hooks, self.next_hooks):
            for event, hook in hooks.items():
                getattr(context, event)(hook)

    def use(self, context: Any, wish: str) -> None:
        """What sync code does in a context."""
        self.wish(context, wish)
        for name in self.names:
            getattr(context, name)
        self.reach("body")

    def live(self, faults: Faults, wish: str) -> Seen:
        """A whole life in a sync context."""
        context = self.begin(faults)
        caught: BaseException | None = None
        try:
            with context:
                self.use(context, wish)
        except BaseException as error:
            caught = error
        self.running = False
        return self.seen(caught, context.close())

    def live_adapted(self, faults: Faults, wish: str) -> Seen:
        """A whole life as an adapter leads it: `open`, `close(exc)`, and the exception raised on."""
        context = self.begin(faults)
        caught: BaseException | None = None
        escaped: BaseException | None = None
        outcomes: list[Any] = []
        try:
            context.open()
            try:
                self.use(context, wish)
            except BaseException as error:
                escaped = error
            outcomes.append(context.close(escaped))
            if outcomes[0].suppressed is None:
                caught = escaped
        except BaseException as error:
            caught = error
        self.running = False
        return self.seen(caught, context.close(), *outcomes)

    async def alive(self, faults: Faults, wish: str) -> Seen:
        """A whole life in an async context."""
        context = self.begin(faults)
        caught: BaseException | None = None
        try:
            async with context:
                self.wish(context, wish)
                for name in self.names:
                    touched = getattr(context, name)
                    if self.is_async(name):
                        await touched
                await self.areach("body")
        except BaseException as error:
            caught = error
        self.running = False
        return self.seen(caught, await context.aclose())

    async def alive_threaded(self, faults: Faults, wish: str) -> Seen:
        """A whole life in an async context whose task waits for a sync endpoint."""
        context = self.begin(faults)
        caught: BaseException | None = None

        def endpoint() -> BaseException | None:
            try:
                self.use(context, wish)
            except BaseException as error:
                return error
            return None

        try:
            async with context:
                error = await asyncio.get_running_loop().run_in_executor(None, copy_context().run, endpoint)
                if error is not None:
                    await raised(error)
        except BaseException as error:
            caught = error
        self.running = False
        return self.seen(caught, await context.aclose())

    # --- What was seen -----------------------------------------------------------------------------------------------

    def label(self, error: BaseException) -> str:
        """The name the model has for an error."""
        if isinstance(error, RolledBack):
            return f"{VETO} of {self.label(error.__cause__)}" if error.__cause__ else VETO
        known = self.raised.get(id(error)) or self.raised.get(id(error.__cause__))
        if known is not None:
            return known[0]
        return self.label_of_ours(type(error), str(error))

    def label_of_ours(self, kind: type[BaseException], text: str) -> str:
        """The same for an error that is not raised by a fault but made of it: by its type, and the part it names."""
        kinds = OURS.get(kind, ())
        for point, fault in self.faults.items():
            part, _, moment = point.partition(".")
            named = f"'{part}'" in text and VERBS.get(moment, "") in text
            if fault in kinds and (named or (moment in ("", "setup") and text == BODY)):
                return f"{point}:{fault}"
        return f"unknown error {kind.__name__}: {text}"

    def seen(self, caught: BaseException | None, *outcomes: Any) -> Seen:
        """All that was seen of a life, the outcomes that each close gave included."""
        if isinstance(caught, KeyboardInterrupt) and id(caught) not in self.raised:
            raise caught  # from the keyboard
        context: Context = self.context
        outcome = outcomes[0]
        wrong: list[str] = []
        if any(other is not outcome for other in (context.outcome, *outcomes)):
            wrong.append(f"close() gave {outcomes}, the context has {context.outcome!r}")
        if self.manager.get_active_context() is not self.outer:
            wrong.append("the outer context is not current again")
        if any(name in key for key in vars(context) for name in (*self.names, LATE)):
            wrong.append("a value of a resource is left on the context")
        wrong += self.not_torn_down()
        errors = [self.label_of_record(record) for record in outcome.errors]
        reachable = "" if caught is None else self.reachable_from(caught)
        if "<unknown error" in reachable:
            wrong.append(f"the caller finds errors that are none of his: {reachable}")
        story = Story(
            trace=self.trace,
            caller_gets=None if caught is None else self.label(caught),
            outcome=str(outcome),
            errors=errors,
            suppressed=None if outcome.suppressed is None else self.label(outcome.suppressed),
            shown=[label for label in errors if f"<{label}>" in reachable],
        )
        return Seen(story, wrong, (outcome.errors, outcome.reason, reachable))

    def label_of_record(self, record: Any) -> str:
        """The same for a record of an error; it has to name its type and the place where it was raised."""
        for label, error in self.raised.values():
            if label in record.message and record.type is type(error):
                break
        else:
            label = self.label_of_ours(record.type, record.message)
            if label.startswith("unknown"):
                label = self.label_of_ours(record.type, record.where)
        part, _, moment = label.partition(":")[0].partition(".")
        in_body = part == "body" or (part[0] == "r" and moment == "setup")
        return label if (BODY if in_body else f"'{part}'") in record.where else f"{label}, recorded {record.where!r}"

    def reachable_from(self, winner: BaseException) -> str:
        """All that a traceback of the error shows: its chain, and the notes on it."""
        found: list[str] = []
        seen: set[int] = set()
        todo: list[BaseException | None] = [winner]
        while todo:
            error = todo.pop()
            if error is None or id(error) in seen:
                continue
            seen.add(id(error))
            found.append(f"<{self.label(error)}>")
            for note in getattr(error, "__notes__", ()):
                label = next((label for label, _ in self.raised.values() if label in note), None)
                if label is None:
                    name = note.partition(": ")[2].partition(":")[0]
                    kind = next((kind for kind in OURS if kind.__name__ == name), None)
                    label = note if kind is None else self.label_of_ours(kind, note)
                found.append(f"<{label}> in {note}")
            todo += (error.__cause__, None if error.__suppress_context__ else error.__context__)
        return "\n".join(found)

    def not_torn_down(self) -> list[str]:
        """What is wrong with the trace whatever the model says: each part that was set up ends once, in reverse."""
        set_up: list[str] = []
        ended: list[str] = []
        for point, _, _ in self.trace:
            part, _, moment = point.partition(".")
            if moment == "setup":
                if point not in self.faults:
                    set_up.append(part)
            elif moment in ENDS:
                ended.append(part)
        # Middleware is set up before all resources and ends before them, too.
        expected = sorted(reversed(set_up), key=lambda part: part[0] != "m")
        return [] if ended == expected else [f"set up: {set_up}, torn down: {ended}"]
