"""The end of a Context whose close is claimed: clean, or by the policy.

The *clean* paths, spelled out for speed, know no hooks, vetoes or transactions, and hand the rest over to the policy in
`polydatum.settling` the moment anything is out of the ordinary. The fault-injection tests hold both to be equal.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from time import monotonic
from typing import Any

from .kinds import ASYNC_GENERATOR, GENERATOR, NOTHING, is_rethrown
from .opening import CLOSED, opening_of
from .outcome import COMMITTED, Outcome, committed_with, rolled_back_by
from .owner import enter_unwinding, leave_unwinding
from .resources import RegisteredResource
from .settling import Runner, aclose_by_policy, close_by_policy, report_slow
from .shield import AsyncioShield, current_anyio_scope, is_cancelled
from .unwinding import Unwinding


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
                        report_slow(part.closing, monotonic() - started, context._limit)
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
                        report_slow(part.closing, monotonic() - started, context._limit)
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


def aclose(
    context: Any, exc: BaseException | None, status: int | None, in_thread: Runner | None
) -> Coroutine[Any, Any, Outcome]:
    """End an async context whose close is claimed: gives the coroutine that does it."""
    takes_part = context._opened or context._frames or context._elsewhere
    if not takes_part and (exc is None or isinstance(exc, Exception)) and is_plain(context):
        return _aclose_untouched(context, exc, status)
    _, task, cancelling = context._home
    if exc is None and task is not None and not context._elsewhere and is_plain(context):
        asyncio = sys.modules["asyncio"]
        if (status is None or status < 400) and asyncio.current_task() is task and task.cancelling() == cancelling:
            scope = current_anyio_scope(asyncio)
            if not is_cancelled(scope):
                return _aclose_clean(context, status, asyncio, scope)
    return aclose_by_policy(context, Unwinding(context, exc, status), in_thread)


async def _aclose_untouched(context: Any, exc: Exception | None, status: int | None) -> Outcome:
    """Nothing takes part. So a cancel puts nothing at risk, and reaches the task as it would without a context."""
    return close(context, exc, status)


async def _aclose_clean(context: Any, status: int | None, asyncio: Any, scope: Any) -> Outcome:
    """Something takes part, nothing was raised, nobody has cancelled this asyncio task: everything is resumed."""
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
                    report_slow(part.closing, monotonic() - started, context._limit)
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
