"""The end of a Context, step by step: the sync and the async loop, and the clean paths spelled out for speed.

What happens, in which order and which error wins is decided in `polydatum.unwinding`; here the steps are taken. A
*clean* path knows no hooks, vetoes or transactions and hands the rest over to the policy the moment anything is out of
the ordinary. The fault-injection tests hold the clean paths to be equal to the policy.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from time import monotonic
from typing import Any

from . import workers
from .errors import AsyncResourceError
from .kinds import ASYNC_GENERATOR, GENERATOR, NOTHING, is_rethrown
from .opening import CLOSED, await_, opening_of, wait
from .outcome import CANCELLATION, COMMITTED, Outcome, committed_with, is_cancellation, rolled_back_by
from .owner import enter_unwinding, leave_unwinding
from .reporting import log_error
from .resources import RegisteredResource
from .shield import AsyncioShield, Shield, TrioShield, current_anyio_scope, is_cancelled, raised_by
from .unwinding import Step, Unwinding, planned_nothing
from .waiting import running_asyncio

Runner = Callable[[Callable[[], Any]], Awaitable[Any]]


# --- Sync --------------------------------------------------------------------------------------------------------------


def close(context: Any, exc: BaseException | None, status: int | None) -> Outcome:
    """End a sync context whose close is claimed."""
    if is_plain(context):
        if exc is None:
            if status is None or status < 400:
                return close_clean(context, status)
        elif isinstance(exc, Exception) and context._frames is None:
            return close_raised(context, exc, status)
    return close_by_policy(context, Unwinding(context, exc, status))


def is_plain(context: Any) -> bool:
    """Whether nothing but middleware and resources takes part in the end, under the plain rule."""
    return (
        context._wishes is None
        and context._transactions is None
        and not context._settles
        and (not context._under_way or opening_of(context._under_way, context) is None)
    )


def close_clean(context: Any, status: int | None) -> Outcome:
    """Nothing was raised: everything is resumed."""
    if context._opened or context._frames:
        part = handle = None
        kept = may_commit = False
        plain = True
        try:
            frames = context._frames
            if frames:
                token = enter_unwinding(context)
                try:
                    while frames and context._wishes is None:
                        may_commit = frames.pop()
                        handle = frames.pop()
                        part = frames.pop()
                        if part.kind is GENERATOR:
                            if next(handle, NOTHING) is not NOTHING:
                                GENERATOR.refuse_second_yield(handle)
                        else:
                            part.end_step(handle).call(None)
                        kept = kept or may_commit
                finally:
                    leave_unwinding(token)
                plain = is_plain(context)
            opened = context._opened if plain else None
            while opened:
                handle = opened.pop()
                part = opened.pop()
                if part.kind is GENERATOR:
                    try:
                        delattr(context, part.name)
                    except AttributeError:
                        pass  # it came late and was not kept
                    started = monotonic()
                    if next(handle, NOTHING) is not NOTHING:
                        GENERATOR.refuse_second_yield(handle)
                    if monotonic() - started > context._limit:
                        _report_slow(part.closing, monotonic() - started, context._limit)
                    kept = True
                else:
                    part.end_step(context, handle).call(None)
                    kept = kept or handle is not None
        except BaseException as error:
            unwinding: Unwinding | None = _surprised(context, status, kept, part, handle, error, may_commit)
        else:
            unwinding = None if plain else _surprised(context, status, kept)
        if unwinding is not None:
            return close_by_policy(context, unwinding, decided=True)
    outcome = COMMITTED
    if status is not None:
        outcome = context._outcome = committed_with(status)
    context._state = CLOSED
    if context._closers_waiting is not None:
        context._wake_closers()
    return outcome


def close_raised(context: Any, exc: Exception, status: int | None) -> Outcome:
    """The body raised, no middleware: the exception is thrown into the generators, which let it through."""
    opened = context._opened
    if opened:
        traceback = exc.__traceback__
        while opened:
            handle = opened.pop()
            part = opened.pop()
            if part.kind is GENERATOR:
                part.forget(context)
                started = monotonic()
                try:
                    handle.throw(exc)
                except BaseException as error:
                    if monotonic() - started > context._limit:
                        _report_slow(part.closing, monotonic() - started, context._limit)
                    if error is exc or isinstance(error, StopIteration) or is_rethrown(error, exc):
                        continue  # let through, or swallowed: a resource suppresses nothing
                    surprise = error
                else:
                    surprise = GENERATOR.second_yield(handle)
                unwinding = Unwinding(context, exc, status)
                unwinding.cause = exc
                unwinding.failed(part.end_step(context, handle), surprise)
                return close_by_policy(context, unwinding, decided=True)
            opened += (part, handle)
            return close_by_policy(context, Unwinding(context, exc, status))
        exc.__traceback__ = traceback
    context._outcome = outcome = rolled_back_by(exc, status)
    context._state = CLOSED
    if context._closers_waiting is not None:
        context._wake_closers()
    return outcome


def _surprised(
    context: Any,
    status: int | None,
    kept: bool,
    part: Any = None,
    handle: Any = None,
    error: BaseException | None = None,
    may_commit: bool = False,
) -> Unwinding:
    """The policy from where a clean path has come to; ``may_commit``: of the middleware that raised."""
    unwinding = Unwinding(context, None, status)
    unwinding.kept = kept
    unwinding.middleware_has_begun = True
    if error is not None:
        is_resource = isinstance(part, RegisteredResource)
        step = part.end_step(context, handle) if is_resource else part.end_step(handle, commits=may_commit)
        unwinding.failed(step, error)
    unwinding.notice_late_veto()
    return unwinding


def close_by_policy(context: Any, unwinding: Unwinding, *, decided: bool = False) -> Outcome:
    """The end in full."""
    if not decided:
        unwinding.decide(context._rollback_on)
    token = enter_unwinding(context)
    try:
        _take_all(unwinding, _opening_steps(context))
        _take_all(unwinding, unwinding.steps_before_prepare(context._teardown_hook if context._settles else None))
        context._seal()
        _take_all(unwinding, _opening_steps(context))
        _take_all(unwinding, unwinding.steps_to_the_end())
    finally:
        leave_unwinding(token)
    outcome = _fix_outcome(context, unwinding)
    outside = context._var.set(None)
    try:
        _take_all(unwinding, unwinding.steps_afterwards(outcome, context._final_hook if context._settles else None))
    finally:
        context._var.reset(outside)
    _hand_over(context, unwinding)
    return outcome


def _take(unwinding: Unwinding, steps: Iterator[Step], first: Step | None = None) -> Step | None:
    """Take sync steps until they end, or until an async one comes: that one is returned.

    Whatever a step raises is the policy's to weigh, so everything is caught: each step is taken, whatever is raised.
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
        _report_slow(step.where, monotonic() - started, unwinding.limit)
        step = next(steps, None)
    return step


def _take_all(unwinding: Unwinding, steps: Iterator[Step]) -> None:
    """Take the steps of a sync context; what turns out to be async cannot be awaited there, and has failed."""
    step = _take(unwinding, steps)
    while step is not None:
        unawaited = step.call(unwinding.cause)
        if hasattr(unawaited, "close"):
            unawaited.close()
        unwinding.failed(step, AsyncResourceError(step.where, "gave an awaitable, which a sync context cannot await"))
        step = _take(unwinding, steps)


# --- Async -------------------------------------------------------------------------------------------------------------


def aclose(
    context: Any, exc: BaseException | None, status: int | None, in_thread: Runner | None
) -> Coroutine[Any, Any, Outcome]:
    """End an async context whose close is claimed: gives the coroutine that does it."""
    _, task, cancelling = context._home
    if exc is None and task is not None and not context._elsewhere and is_plain(context):
        asyncio = sys.modules["asyncio"]
        if (status is None or status < 400) and asyncio.current_task() is task and task.cancelling() == cancelling:
            scope = current_anyio_scope(asyncio)
            if not is_cancelled(scope):
                return _aclose_clean(context, status, asyncio, scope)
    return aclose_by_policy(context, Unwinding(context, exc, status), in_thread)


async def _aclose_clean(context: Any, status: int | None, asyncio: Any, scope: Any) -> Outcome:
    """Nothing was raised, nobody has cancelled this asyncio task: everything is resumed."""
    if context._opened or context._frames:
        part = handle = None
        kept = may_commit = False
        plain = True
        shield: AsyncioShield | None = None  # made when the first step suspends
        try:
            frames = context._frames
            if frames:
                token = enter_unwinding(context)
                try:
                    while frames and context._wishes is None:
                        may_commit = frames.pop()
                        handle = frames.pop()
                        part = frames.pop()
                        if part.kind is GENERATOR:
                            if next(handle, NOTHING) is not NOTHING:
                                GENERATOR.refuse_second_yield(handle)
                        else:
                            step = part.end_step(handle)
                            ended = step.call(None)
                            if step.is_async:
                                shield = shield or AsyncioShield(context._limit, asyncio, scope, context._home[2])
                                await shield.run(ended, step.where)
                        kept = kept or may_commit
                finally:
                    leave_unwinding(token)
                plain = is_plain(context)
            opened = context._opened if plain else None
            while opened:
                handle = opened.pop()
                part = opened.pop()
                kind = part.kind
                if kind is GENERATOR:
                    try:
                        delattr(context, part.name)
                    except AttributeError:
                        pass  # it came late and was not kept
                    started = monotonic()
                    if next(handle, NOTHING) is not NOTHING:
                        GENERATOR.refuse_second_yield(handle)
                    if monotonic() - started > context._limit:
                        _report_slow(part.closing, monotonic() - started, context._limit)
                    kept = True
                elif kind is ASYNC_GENERATOR:
                    part.forget(context)
                    step = handle.__anext__()
                    ended = False
                    try:  # driven by hand: most never suspend
                        signal = step.send(None)
                        shield = shield or AsyncioShield(context._limit, asyncio, scope, context._home[2])
                        await shield.finish(step, signal, part.closing)
                    except StopAsyncIteration:
                        ended = True
                    except StopIteration:
                        pass  # it yielded at once
                    if not ended:
                        await ASYNC_GENERATOR.refuse_second_yield(handle)
                    kept = True
                else:
                    step = part.end_step(context, handle)
                    ended = step.call(None)
                    if step.is_async:
                        shield = shield or AsyncioShield(context._limit, asyncio, scope, context._home[2])
                        await shield.run(ended, step.where)
                    kept = kept or handle is not None
        except BaseException as error:
            unwinding: Unwinding | None = _surprised(context, status, kept, part, handle, error, may_commit)
        else:
            interrupted = shield is not None and shield.interrupted is not None
            unwinding = None if plain and not interrupted else _surprised(context, status, kept)
        if unwinding is not None:
            return await aclose_by_policy(context, unwinding, None, decided=True, shield=shield)
    outcome = COMMITTED
    if status is not None:
        outcome = context._outcome = committed_with(status)
    context._state = CLOSED
    if context._closers_waiting is not None:
        context._wake_closers()
    return outcome


async def aclose_by_policy(
    context: Any, unwinding: Unwinding, in_thread: Runner | None, *, decided: bool = False, shield: Shield | None = None
) -> Outcome:
    """The end in full, with every async step behind a shield."""
    asyncio = running_asyncio()
    if not decided:
        cancel = await _arrived_cancel(context, unwinding)
        if cancel is None:
            unwinding.decide(context._rollback_on)
        else:
            unwinding.cancelled(cancel)
    if shield is None:
        shield = _shield(context._limit, asyncio)
    if context._elsewhere or unwinding.rank <= CANCELLATION:
        context._park()  # an endpoint's thread may run on
    take = partial(_atake, context, unwinding, shield, in_thread or workers.run_in_worker)
    shield.enter()
    try:
        token = enter_unwinding(context)
        try:
            await take(_opening_steps(context))
            await take(unwinding.steps_before_prepare(context._teardown_hook if context._settles else None))
            context._seal()
            await take(_opening_steps(context))
            await take(unwinding.steps_to_the_end())
        finally:
            leave_unwinding(token)
        outcome = _fix_outcome(context, unwinding)
        outside = context._var.set(None)
        try:
            await take(unwinding.steps_afterwards(outcome, context._final_hook if context._settles else None))
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


async def _atake(context: Any, unwinding: Unwinding, shield: Shield, in_thread: Runner, steps: Iterator[Step]) -> None:
    """Take sync and async steps; each run of consecutive sync ones is one job of ``in_thread``, if there is need."""
    step = next(steps, None)
    while step is not None:
        if not step.is_async:
            if context._elsewhere:
                step = await _take_in_thread(unwinding, shield, in_thread, steps, step)
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
    """An awaitable as something that can be driven by hand: futures, and awaitable objects of users, are not yet."""
    return awaitable if hasattr(awaitable, "send") else _awaited(awaitable)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


async def _take_in_thread(
    unwinding: Unwinding, shield: Shield, in_thread: Runner, steps: Iterator[Step], first: Step
) -> Step | None:
    started = False

    def job() -> Step | None:
        nonlocal started
        started = True
        return _take(unwinding, steps, first)

    async def run() -> Any:
        return await in_thread(job)

    try:
        # Not bounded: a sync step cannot be interrupted, and would go on with steps that we had taken over.
        return await shield.run(run(), first.where, bounded=False)  # type: ignore[no-any-return]
    except BaseException as error:
        unwinding.failed(Step(f"running sync steps in a thread, from {first.where} on", planned_nothing), error)
        return next(steps, None) if started else _take(unwinding, steps, first)


def _shield(limit: float, asyncio: Any) -> Shield:
    if asyncio is None:
        return TrioShield(limit, sys.modules["trio"])
    return AsyncioShield(limit, asyncio, current_anyio_scope(asyncio), asyncio.current_task().cancelling())


async def _arrived_cancel(context: Any, unwinding: Unwinding) -> BaseException | None:
    """A cancel of this task that nobody has raised yet: swallowed on the way, or not delivered."""
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
        return None  # a TaskGroup that failed leaves the task's count of cancels raised; it rolls back anyway
    if is_cancelled(current_anyio_scope(asyncio)):  # first: a scope catches its own cancel only
        return await raised_by(sys.modules["anyio.lowlevel"].checkpoint_if_cancelled)
    if task is not None and asyncio.current_task() is task and task.cancelling() > cancelling:
        return asyncio.CancelledError()  # type: ignore[no-any-return]
    return None


# --- Both --------------------------------------------------------------------------------------------------------------


def _opening_steps(context: Any) -> Iterator[Step]:
    """Wait for openers under way, in other threads or tasks, before the list of what is open is read."""
    failed = None
    while (other := opening_of(context._under_way, context)) is not None:
        if other is failed:
            return  # it outlasts the limit: its opener will find the context closed, and end what it opened himself
        failed = other
        where = f"waiting for resource {other.resource.name!r} to open"
        if context._home is None:
            yield Step(where, partial(_wait, context, other))
        else:
            yield Step(where, partial(_await, context, other), is_async=True)


def _wait(context: Any, other: Any, cause: BaseException | None) -> None:
    wait(context, other)


async def _await(context: Any, other: Any, cause: BaseException | None) -> None:
    await await_(context, other)


def _fix_outcome(context: Any, unwinding: Unwinding) -> Outcome:
    """Only now, with every resource closed, it is known how it ended."""
    context._outcome = outcome = unwinding.outcome()
    context._exit_errors = unwinding.exit_errors
    context._state = CLOSED
    return outcome


def _hand_over(context: Any, unwinding: Unwinding) -> None:
    """The last act: waiting closers go on, and a new error goes to the caller."""
    context._wake_closers()
    context._wishes = context._transactions = None  # hooks and transactions may refer to the context
    unwinding.release()
    winner = unwinding.winner
    if winner is not None and winner is not unwinding.given:
        replaced = winner.__context__
        try:
            raise winner
        finally:
            winner.__context__ = replaced  # `raise` puts the error that is being handled around us in its place
            del winner, unwinding


def _report_slow(where: str, seconds: float, limit: float) -> None:
    if seconds > limit:
        log_error(
            "%s took %.1f s, more than the teardown limit of %g s; a sync step cannot be interrupted",
            where,
            seconds,
            limit,
        )
