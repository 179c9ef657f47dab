"""The end of a Context in full, by the policy: the sync and the async loop that take its steps.

`polydatum.unwinding` decides what happens, in which order, and which error wins. This module takes the steps: `_take`
the sync ones, `_atake` also async ones.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any, NoReturn

from . import workers
from .errors import AsyncResourceError
from .opening import CLOSED, Opening, await_, opening_of, wait
from .outcome import CANCELLATION, Outcome, is_cancellation
from .owner import enter_unwinding, leave_unwinding
from .reporting import log_error
from .shield import AsyncioShield, Shield, TrioShield, current_anyio_scope, is_cancelled, raised_by
from .unwinding import Step, Unwinding, planned_nothing
from .waiting import running_asyncio

Runner = Callable[[Callable[[], Any]], Awaitable[Any]]


# --- Sync -------------------------------------------------------------------------------------------------------------


def close_by_policy(context: Any, unwinding: Unwinding, *, decided: bool = False) -> Outcome:
    """End a sync context in full."""
    if not decided:
        unwinding.decide(context._rollback_on)
    token = enter_unwinding(context)
    try:
        _take_all(unwinding, _steps_to_the_end(context, unwinding))
    finally:
        leave_unwinding(token)
    outcome = _fix_outcome(context, unwinding)
    outside = context._var.set(None)
    try:
        _take_all(unwinding, _steps_afterwards(context, unwinding, outcome))
    finally:
        context._var.reset(outside)
    _hand_over(context, unwinding)
    return outcome


def _take(unwinding: Unwinding, steps: Iterator[Step], first: Step | None = None) -> Step | None:
    """Take sync steps until there are no more, or an async one is next: that one is returned.

    Every exception of a step is caught and left to the policy, so that each step is taken whatever another one raised.
    """
    step = first or next(steps, None)
    while step is not None and not step.is_async:
        started = monotonic()
        try:
            swallowed = step.call(unwinding.cause)
        except BaseException as error:
            unwinding.failed(step, error)
        else:
            if isinstance(swallowed, Awaitable):
                return step.awaiting(swallowed)
            unwinding.done(step, swallowed)
        report_slow(step.where, monotonic() - started, unwinding.limit)
        step = next(steps, None)
    return step


def _take_all(unwinding: Unwinding, steps: Iterator[Step]) -> None:
    """Take the steps of a sync context; one that turns out to be async cannot be awaited, and counts as failed."""
    step = _take(unwinding, steps)
    while step is not None:
        try:
            refuse_awaitable(step.call(unwinding.cause), step.where)
        except AsyncResourceError as error:
            unwinding.failed(step, error)
        step = _take(unwinding, steps)


def refuse_awaitable(answer: Any, where: str) -> None:
    """Refuse the result of a step if it would have to be awaited."""
    if isinstance(answer, Awaitable):
        close: Any = getattr(answer, "close", None)
        if close is not None:
            close()
        raise AsyncResourceError(where, "returned an awaitable, which a sync context cannot await", where)


# --- Async ------------------------------------------------------------------------------------------------------------


async def aclose_by_policy(
    context: Any, unwinding: Unwinding, *, decided: bool = False, shield: Shield | None = None
) -> Outcome:
    """End an async context in full, with every async step behind a shield."""
    asyncio = running_asyncio()
    if not decided:
        cancel = await _arrived_cancel(context, unwinding)
        if cancel is None:
            unwinding.decide(context._rollback_on)
        else:
            unwinding.cancelled(cancel)
    if shield is None:
        shield = shield_for(context._limit, asyncio)
    if context._used_thread or unwinding.rank <= CANCELLATION:
        context._park()  # an endpoint's thread may still be running
    shield.enter()
    try:
        token = enter_unwinding(context)
        try:
            await _atake(context, unwinding, shield, _steps_to_the_end(context, unwinding))
        finally:
            leave_unwinding(token)
        outcome = _fix_outcome(context, unwinding)
        outside = context._var.set(None)
        try:
            await _atake(context, unwinding, shield, _steps_afterwards(context, unwinding, outcome))
        finally:
            context._var.reset(outside)
    finally:
        shield.exit()
    if unwinding.rank > CANCELLATION:
        late = await shield.late_cancel()
        if late is not None:
            unwinding.interrupted(late)
    _hand_over(context, unwinding)
    return outcome


async def _atake(context: Any, unwinding: Unwinding, shield: Shield, steps: Iterator[Step]) -> None:
    """Take sync and async steps; consecutive sync ones share one job in a thread, if they need a thread."""
    step = next(steps, None)
    while step is not None:
        if not step.is_async:
            if context._used_thread:
                step = await _take_in_thread(context, unwinding, shield, steps, step)
            else:
                step = _take(unwinding, steps, step)
            continue
        try:
            swallowed = await shield.run(_sendable(step.call(unwinding.cause)), step.where)
        except BaseException as error:
            unwinding.failed(step, error)
        else:
            unwinding.done(step, swallowed)
        step = next(steps, None)


def _sendable(awaitable: Any) -> Any:
    """An awaitable that can be driven by hand: futures and users' awaitable objects are wrapped in a coroutine."""
    return awaitable if hasattr(awaitable, "send") else _awaited(awaitable)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


async def _take_in_thread(
    context: Any, unwinding: Unwinding, shield: Shield, steps: Iterator[Step], first: Step
) -> Step | None:
    job = ThreadJob(lambda: _take(unwinding, steps, first))
    try:
        return await job.run(context, shield, first.where)  # type: ignore[no-any-return]
    except BaseException as error:
        unwinding.failed(Step(f"running sync steps in a thread, from {first.where} on", planned_nothing), error)
        return next(steps, None) if job.has_begun else _take(unwinding, steps, first)


class ThreadJob:
    """Sync steps to be taken in a thread, of the adapter's choice or one of ours.

    Attributes:
        has_begun: whether the job has begun; also known if the runner fails.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self.has_begun = False

    async def run(self, context: Any, shield: Shield, where: str) -> Any:
        """Await the job, without a limit: a sync step cannot be interrupted, and would run on concurrently."""
        return await shield.run(self._run(context._in_thread or workers.run_in_worker), where, bounded=False)

    async def _run(self, in_thread: Runner) -> Any:
        return await in_thread(self._begin)

    def _begin(self) -> Any:
        self.has_begun = True
        return self._work()


def shield_for(limit: float, asyncio: Any) -> Shield:
    """A shield for steps of the running task, which may take ``limit`` seconds in total."""
    if asyncio is None:
        return TrioShield(limit, sys.modules["trio"])
    task = asyncio.current_task()
    return AsyncioShield(limit, asyncio, current_anyio_scope(task), task.cancelling())


async def _arrived_cancel(context: Any, unwinding: Unwinding) -> BaseException | None:
    """A cancel of this task that has not been raised: swallowed on the way, or not delivered yet."""
    if unwinding.given is not None and is_cancellation(unwinding.given):
        return None
    _, task, cancelling = context._home
    if running_asyncio() is None:
        trio = sys.modules["trio"]
        if trio.current_effective_deadline() == float("-inf"):
            return await raised_by(trio.lowlevel.checkpoint_if_cancelled)
        return None
    asyncio = sys.modules["asyncio"]
    if sys.version_info < (3, 13) and isinstance(unwinding.given, BaseExceptionGroup):
        return None  # a failed TaskGroup leaves the task's cancel count raised; the context rolls back anyway
    if is_cancelled(current_anyio_scope(asyncio.current_task())):  # first: a scope catches its own cancel only
        return await raised_by(sys.modules["anyio.lowlevel"].checkpoint_if_cancelled)
    if task is not None and asyncio.current_task() is task and task.cancelling() > cancelling:
        return asyncio.CancelledError()  # type: ignore[no-any-return]
    return None


# --- Both -------------------------------------------------------------------------------------------------------------


def _steps_to_the_end(context: Any, unwinding: Unwinding) -> Iterator[Step]:
    """All steps up to the close of the last resource."""
    yield from _opening_steps(context)
    yield from unwinding.steps_before_prepare(context._teardown_hook if context._settles else None)
    context._seal()
    yield from _opening_steps(context)
    yield from unwinding.steps_to_the_end()


def _steps_afterwards(context: Any, unwinding: Unwinding, outcome: Outcome) -> Iterator[Step]:
    return unwinding.steps_afterwards(outcome, context._final_hook if context._settles else None)


def _opening_steps(context: Any) -> Iterator[Step]:
    """Wait for openings under way in other threads or tasks, before the list of open resources is read."""
    failed = None
    while (found := opening_of(context._under_way, context)) is not None:
        resource, other = found
        if other is failed:
            return  # it exceeds the limit: its opener will find the context closed, and close what it opened
        failed = other
        where = f"waiting for resource {resource.name!r} to open"
        if context._home is None:
            yield Step(where, partial(_wait, other))
        else:
            yield Step(where, partial(_await, other), is_async=True)


def _wait(other: Opening, cause: BaseException | None) -> None:
    wait(other)


async def _await(other: Opening, cause: BaseException | None) -> None:
    await await_(other)


def _fix_outcome(context: Any, unwinding: Unwinding) -> Outcome:
    """Set the outcome, which is known only now that every resource is closed."""
    context._outcome = outcome = unwinding.outcome()
    context._exit_errors = unwinding.exit_errors
    context._state = CLOSED
    return outcome


def _hand_over(context: Any, unwinding: Unwinding) -> None:
    """The last act: wake waiting closers, and raise a new error to the caller."""
    context._wake_closers()
    context._wishes = context._transactions = None  # hooks and transactions may refer to the context
    unwinding.release()
    winner = unwinding.winner
    if winner is not None and winner is not unwinding.given:
        try:
            raise_as_it_is(winner)
        finally:
            del winner, unwinding


def raise_as_it_is(error: BaseException) -> NoReturn:
    """Raise an error with its own ``__context__``, which ``raise`` would replace by the error being handled."""
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context
        del error


def report_slow(where: str, seconds: float, limit: float) -> None:
    """Log a sync step that took longer than the teardown limit: it could not be interrupted."""
    if seconds > limit:
        log_error(
            "%s took %.1f s, more than the teardown limit of %g s; a sync step cannot be interrupted",
            where,
            seconds,
            limit,
        )
