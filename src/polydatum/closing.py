"""The end of a Context whose close is claimed: clean, or by the policy.

The *clean* paths, spelled out for speed, know no hooks and no vetoes, and no transaction but a single one, and hand the rest
over to the policy in `polydatum.settling` the moment anything is out of the ordinary. The fault-injection tests hold both to be equal.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from threading import get_ident
from time import monotonic
from typing import Any, TypeAlias

from .kinds import ASYNC_GENERATOR, GENERATOR, NOTHING, TRANSACTION, Judged, is_async_transaction, is_rethrown
from .opening import CLOSED, opening_of
from .outcome import COMMIT, COMMITTED, Outcome, committed_with, rolled_back_by
from .owner import enter_unwinding, leave_unwinding
from .resources import RegisteredResource
from .settling import Runner, aclose_by_policy, close_by_policy, raise_as_it_is, refuse_awaitable, report_slow
from .shield import AsyncioShield, current_anyio_scope, is_cancelled
from .unwinding import Step, Unwinding, planned_nothing, transaction_step
from .workers import run_in_worker

Ending: TypeAlias = "Outcome | Coroutine[Any, Any, Outcome]"
"""How a context ended; of an async one perhaps what has to be awaited for it."""

_LOOP_HELPS = sys.version_info < (3, 12)
"""``current_task()`` asks for the loop, and that asks the kernel whether the process has forked: 0.15 of 0.2 µs."""


def close(context: Any, exc: BaseException | None, status: int | None) -> Outcome:
    """End a sync context whose close is claimed."""
    ending: Any = None
    under_way = context._under_way
    if not under_way or opening_of(under_way, context) is None:
        if context._plain:
            if exc is None:
                if status is None or status < 400:
                    ending = close_clean(context, status)
            elif isinstance(exc, Exception):
                ending = close_raised(context, exc, status)
        elif exc is None and (status is None or status < 400) and context._wishes is None and not context._settles:
            if context._frames:
                ending = _close_middleware(context, status)
            elif is_plain(context):
                ending = close_clean(context, status)
    return ending or close_by_policy(context, Unwinding(context, exc, status))


def is_plain(context: Any) -> bool:
    """Whether nothing but middleware, resources and one transaction takes part in the end, under the plain rule."""
    return _needs_no_policy(context) and (
        context._transactions is None or (context._home is None and _commits_alone(context))
    )


def _needs_no_policy(context: Any) -> bool:
    """Whether there is no wish, no rule of its own, and nothing that is being opened."""
    return (
        context._wishes is None
        and not context._settles
        and (not context._under_way or opening_of(context._under_way, context) is None)
    )


def _commits_alone(context: Any) -> bool:
    """Whether a context has one transaction, whose commit decides and is not awaited."""
    transactions = context._transactions
    if len(transactions) > 1:
        return False
    transaction = transactions[0][1]
    return transaction.kind == "authority" and not is_async_transaction(transaction)


def _close_middleware(context: Any, status: int | None) -> Ending:
    """Nothing was raised: middleware is resumed, then resources are."""
    frames = context._frames
    part = handle = None
    kept = may_commit = False
    unwinding: Unwinding | None = None
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
    except BaseException as error:
        unwinding = _surprised(context, status, kept, part, handle, error, may_commit)
    finally:
        leave_unwinding(token)
    if unwinding is None and is_plain(context):
        return close_clean(context, status, kept)
    return close_by_policy(context, unwinding or _surprised(context, status, kept), decided=True)


def close_clean(
    context: Any, status: int | None, kept: bool = False, scope: Any = None, shield: AsyncioShield | None = None
) -> Ending:
    """Nothing was raised, and only resources are left: the transaction commits, each is resumed.

    ``kept``: something has committed before. In an async context steps are driven by hand, as most never suspend;
    `_aclose_clean` goes on from one that does. ``scope``: the anyio scope around it all.
    """
    opened = context._opened
    if opened:
        part = handle = None
        unwinding: Unwinding | None = None
        if context._transactions is not None:
            unwinding = _commit(context, status, kept)
            if unwinding is not None:
                return _by_policy(context, unwinding, shield)
            kept = True
        limit = context._limit
        started = monotonic()
        try:
            while opened:
                handle = opened.pop()
                part = opened.pop()
                kind = part.kind
                if kind is GENERATOR:
                    try:
                        delattr(context, part.name)
                    except AttributeError:
                        context._forget(part)  # it is parked, or it came late and was not kept
                    if next(handle, NOTHING) is not NOTHING:
                        GENERATOR.refuse_second_yield(handle)
                    kept = True
                elif kind is ASYNC_GENERATOR:
                    part.forget(context)
                    step = handle.__anext__()
                    try:
                        signal = step.send(None)
                    except StopAsyncIteration:
                        kept = True
                    except StopIteration:  # it yielded at once
                        return _aclose_clean(
                            context, status, kept, part, handle, step, NOTHING, shield or _shield(context, scope)
                        )
                    else:
                        return _aclose_clean(
                            context, status, kept, part, handle, step, signal, shield or _shield(context, scope)
                        )
                elif type(handle) is Judged and handle.kind is TRANSACTION:
                    context._forget(part)
                    answer = handle.handle.close()
                    if answer is not None:
                        refuse_awaitable(answer, part.closing)
                else:
                    step = part.end_step(context, handle)
                    pending = step.call(None)
                    if step.is_async:
                        return _aclose_clean(
                            context, status, kept, part, handle, pending, NOTHING, shield or _shield(context, scope)
                        )
                    kept = kept or handle is not None
                ended = monotonic()
                if ended - started > limit:
                    report_slow(part.closing, ended - started, limit)
                started = ended  # of the next one: a reading costs as much as a step
        except BaseException as error:
            unwinding = _surprised(context, status, kept, part, handle, error)
        if unwinding is not None:
            return _by_policy(context, unwinding, shield)
    outcome = COMMITTED
    if status is not None:
        outcome = context._outcome = committed_with(status)
    context._state = CLOSED
    if context._closers_waiting is not None:
        context._wake_closers()
    return outcome


def _commit(context: Any, status: int | None, kept: bool) -> Unwinding | None:
    """The transaction prepares and commits; if that fails, or has to wait, the policy for the rest."""
    context._seal()
    if (
        context._under_way and opening_of(context._under_way, context) is not None
    ):  # pragma: no cover - since a moment ago
        return _surprised(context, status, kept)
    name, transaction = context._transactions[0]
    for verb, call in (("preparing", transaction.prepare), ("committing", transaction.commit)):
        started = monotonic()
        try:
            answer = call()
            if answer is not None:
                refuse_awaitable(answer, transaction_step(verb, name, call).where)
        except BaseException as error:
            unwinding = _surprised(context, status, kept)
            unwinding.failed(transaction_step(verb, name, call, rank=COMMIT, commits=verb == "committing"), error)
            return unwinding
        seconds = monotonic() - started
        if seconds > context._limit:
            report_slow(transaction_step(verb, name, call).where, seconds, context._limit)
    context._transactions = None
    return None


def _by_policy(context: Any, unwinding: Unwinding, shield: AsyncioShield | None) -> Ending:
    if context._home is None:
        return close_by_policy(context, unwinding, decided=True)
    return aclose_by_policy(context, unwinding, None, decided=True, shield=shield)


def close_raised(context: Any, exc: Exception, status: int | None) -> Outcome:
    """The body raised, no middleware: the exception is thrown into the generators, which let it through."""
    opened = context._opened
    if opened:
        traceback = exc.__traceback__
        started = monotonic()
        while opened:
            handle = opened.pop()
            part = opened.pop()
            if part.kind is GENERATOR:
                part.forget(context)
                try:
                    handle.throw(exc)
                except BaseException as error:
                    ended = monotonic()
                    report_slow(part.closing, ended - started, context._limit)
                    started = ended
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
        if is_resource:
            step = part.end_step(context, handle, quiet=part.is_transaction(handle))
        else:
            step = part.end_step(handle, commits=may_commit)
        unwinding.failed(step, error)
    unwinding.notice_late_veto()
    return unwinding


def aclose(context: Any, exc: BaseException | None, status: int | None, in_thread: Runner | None) -> Ending:
    """End an async context whose close is claimed."""
    takes_part = context._opened or context._frames or context._elsewhere
    if not takes_part and (exc is None or isinstance(exc, Exception)) and is_plain(context):
        # A cancel puts nothing at risk then, and reaches the task as it would without a context.
        return close(context, exc, status)
    resumes = exc is None and (status is None or status < 400)
    if resumes and (
        _fits_thread(context)
        if context._elsewhere
        else (context._plain and not context._under_way) or is_plain(context)
    ):
        thread, task, cancelling = context._home
        if task is not None:
            loop = task.get_loop() if _LOOP_HELPS and thread == get_ident() else None
            if sys.modules["asyncio"].current_task(loop) is task and task.cancelling() == cancelling:
                scope = current_anyio_scope(task)
                if scope is None or not is_cancelled(scope):
                    if context._elsewhere:
                        return _aclose_in_thread(context, status, in_thread, scope)
                    if context._frames:
                        return _aclose_middleware(context, status, scope)
                    return close_clean(context, status, False, scope)
    return aclose_by_policy(context, Unwinding(context, exc, status), in_thread)


async def _aclose_clean(
    context: Any,
    status: int | None,
    kept: bool,
    part: Any,
    handle: Any,
    step: Any,
    signal: Any,
    shield: AsyncioShield,
) -> Outcome:
    """Go on with `close_clean` from a step of an async context that has suspended with ``signal``, or not begun."""
    unwinding: Unwinding | None = None
    try:
        if part.kind is not ASYNC_GENERATOR:
            await shield.run(step, part.closing)
        else:
            try:
                if signal is not NOTHING:
                    await shield.finish(step, signal, part.closing)
            except StopAsyncIteration:
                pass
            else:
                await ASYNC_GENERATOR.refuse_second_yield(handle)
    except BaseException as error:
        unwinding = _surprised(context, status, kept, part, handle, error)
    return await _rest(context, status, True, shield, unwinding)


def _fits_thread(context: Any) -> bool:
    """Whether only sync resources and one transaction take part in the end of an async context, under the plain rule."""
    opened = list(context._opened or ())
    return (
        _needs_no_policy(context)
        and not context._frames
        and (context._transactions is None or _commits_alone(context))
        and not any(part.is_async(handle) for part, handle in zip(opened[::2], opened[1::2], strict=True))
    )


async def _aclose_in_thread(context: Any, status: int | None, in_thread: Runner | None, scope: Any) -> Outcome:
    """The clean path in one turn of a thread, where what was opened in one has to close."""
    shield = _shield(context, scope)
    context._park()  # an endpoint's thread may run on
    context._seal()  # nothing is being opened, and nobody but what closes now is let in
    has_begun = False

    def close_there() -> Ending:
        nonlocal has_begun
        has_begun = True
        token = enter_unwinding(context)
        try:
            return close_clean(context, status, False, scope, shield)
        finally:
            leave_unwinding(token)

    async def run() -> Ending:
        return await (in_thread or run_in_worker)(close_there)  # type: ignore[no-any-return]

    where = "closing in a thread"
    try:
        ending: Any = await shield.run(run(), where, bounded=False)  # see settling._take_in_thread
    except BaseException as error:  # of the runner's: what happens in the thread ends in the ending
        unwinding = _surprised(context, status, kept=has_begun)
        if has_begun:
            unwinding.failed(Step(where, planned_nothing), error)
        ending = aclose_by_policy(context, unwinding, in_thread, decided=True, shield=shield)
    if type(ending) is not Outcome:
        return await ending  # type: ignore[no-any-return]
    shield.exit()
    late = await shield.late_cancel()
    if late is not None:
        raise_as_it_is(late)
    return ending


async def _aclose_middleware(context: Any, status: int | None, scope: Any) -> Outcome:
    """Nothing was raised, nobody has cancelled this asyncio task: middleware is resumed, then resources are."""
    frames = context._frames
    part = handle = None
    kept = may_commit = False
    shield: AsyncioShield | None = None
    unwinding: Unwinding | None = None
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
                    shield = shield or _shield(context, scope)
                    await shield.run(ended, step.where)
            kept = kept or may_commit
    except BaseException as error:
        unwinding = _surprised(context, status, kept, part, handle, error, may_commit)
    finally:
        leave_unwinding(token)
    if unwinding is None and not is_plain(context):
        unwinding = _surprised(context, status, kept)
    return await _rest(context, status, kept, shield, unwinding, scope)


async def _rest(
    context: Any,
    status: int | None,
    kept: bool,
    shield: AsyncioShield | None,
    unwinding: Unwinding | None,
    scope: Any = None,
) -> Outcome:
    """Go on, by the policy if there is an unwinding of it already, or if a cancel came meanwhile."""
    if unwinding is None and shield is not None and shield.interrupted is not None:
        unwinding = _surprised(context, status, kept)
    if unwinding is not None:
        return await aclose_by_policy(context, unwinding, None, decided=True, shield=shield)
    ending: Any = close_clean(context, status, kept, scope, shield)
    return ending if type(ending) is Outcome else await ending


def _shield(context: Any, scope: Any) -> AsyncioShield:
    return AsyncioShield(context._limit, sys.modules["asyncio"], scope, context._home[2])
