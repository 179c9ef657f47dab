"""The end of a Context whose close is claimed: clean, or by the policy.

The *clean* ends are the fast path. They support no hooks, no vetoes and at most one transaction, and hand the rest over
to the policy in `polydatum.settling` as soon as anything is out of the ordinary. They consume the context's lists, so
that they can resume after a step that had to be awaited. The fault-injection tests check that both behave the same.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from threading import get_ident
from time import monotonic
from typing import Any, TypeAlias

from .kinds import ASYNC_GENERATOR, GENERATOR, NOTHING, TRANSACTION, HandleWithKind, is_async_transaction, is_rethrown
from .opening import CLOSED, opening_of
from .outcome import COMMIT, COMMITTED, Outcome, committed_with, rolled_back_by
from .owner import enter_unwinding, leave_unwinding
from .settling import ThreadJob, aclose_by_policy, close_by_policy, raise_as_it_is, refuse_awaitable, report_slow
from .shield import AsyncioShield, current_anyio_scope, is_cancelled
from .unwinding import Step, Unwinding, planned_nothing, transaction_step

Ending: TypeAlias = "Outcome | Coroutine[Any, Any, Outcome]"
"""The outcome of a context; for an async one perhaps a coroutine that returns it."""

_PASS_LOOP = sys.version_info < (3, 12)
"""``current_task()`` looks up the loop, which asks the kernel whether the process has forked: 0.15 of 0.2 µs."""


# --- Clean or by the policy -------------------------------------------------------------------------------------------


def close(context: Any, exc: BaseException | None, status: int | None) -> Outcome:
    """End a sync context whose close is claimed."""
    ending: Any = None
    under_way = context._under_way
    if not under_way or opening_of(under_way, context) is None:
        if context._plain:
            if exc is None:
                if status is None or status < 400:
                    ending = close_resources(context, status)
            elif isinstance(exc, Exception):
                ending = _close_raised(context, exc, status)
        elif exc is None and (status is None or status < 400) and _is_plain(context):
            ending = _close_clean(context, status)
    return ending or close_by_policy(context, Unwinding(context, exc, status))


def aclose(context: Any, exc: BaseException | None, status: int | None) -> Ending:
    """End an async context whose close is claimed."""
    takes_part = context._opened or context._frames or context._used_thread
    if not takes_part and (exc is None or isinstance(exc, Exception)) and _is_plain(context):
        # Then a cancel puts nothing at risk, and reaches the task as it would without a context.
        return close(context, exc, status)
    resumes = exc is None and (status is None or status < 400)
    if resumes and (
        _fits_thread(context)
        if context._used_thread
        else (context._plain and not context._under_way) or _is_plain(context)
    ):
        thread, task, cancelling = context._home
        if task is not None:
            loop = task.get_loop() if _PASS_LOOP and thread == get_ident() else None
            if sys.modules["asyncio"].current_task(loop) is task and task.cancelling() == cancelling:
                scope = current_anyio_scope(task)
                if scope is None or not is_cancelled(scope):
                    if context._used_thread:
                        return _aclose_in_thread(context, status, scope)
                    return _close_clean(context, status, scope=scope)
    return aclose_by_policy(context, Unwinding(context, exc, status))


def _is_plain(context: Any) -> bool:
    """Whether at most middleware, resources and one transaction take part in the end, under the default rule."""
    return _needs_no_policy(context) and (
        context._transactions is None or (context._home is None and _commits_alone(context))
    )


def _fits_thread(context: Any) -> bool:
    """Whether at most sync resources and one transaction take part in an async context's end, by the default rule."""
    opened = list(context._opened or ())
    return (
        _needs_no_policy(context)
        and not context._frames
        and (context._transactions is None or _commits_alone(context))
        and not any(part.is_async(handle) for part, handle in zip(opened[::2], opened[1::2], strict=True))
    )


def _needs_no_policy(context: Any) -> bool:
    """Whether there are no wishes, no rule other than the default, and no openings under way."""
    return (
        context._wishes is None
        and not context._settles
        and (not context._under_way or opening_of(context._under_way, context) is None)
    )


def _commits_alone(context: Any) -> bool:
    """Whether a context has a single transaction, an authority whose commit is not awaited."""
    transactions = context._transactions
    if len(transactions) > 1:
        return False
    transaction = transactions[0][1]
    return transaction.kind == "authority" and not is_async_transaction(transaction)


# --- Clean: nothing was raised ----------------------------------------------------------------------------------------


def _close_clean(
    context: Any, status: int | None, kept: bool = False, scope: Any = None, shield: AsyncioShield | None = None
) -> Ending:
    """Resume middleware, commit the transaction, resume resources: whatever of that is still to be done.

    ``kept``: something has committed already. ``scope``: the anyio scope around the close. In an async context steps
    are driven by hand, as most never suspend; `_aclose_rest` awaits one that does, behind a shield, and continues here.
    """
    if context._frames:
        return _close_middleware(context, status, kept, scope, shield)
    return close_resources(context, status, kept, scope, shield)


def _close_middleware(context: Any, status: int | None, kept: bool, scope: Any, shield: AsyncioShield | None) -> Ending:
    """Resume the middleware, then close the rest."""
    frames = context._frames
    part: Any = None
    handle = None
    may_commit = False
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
                step = part.end_step(handle, commits=may_commit)
                pending = step.call(None)
                if step.is_async:
                    shield = shield or _shield(context, scope)
                    return _aclose_rest(context, status, kept, step, shield.run(pending, step.where), shield)
            kept = kept or may_commit
    except BaseException as error:
        unwinding = _policy_from_here(context, status, kept, part.end_step(handle, commits=may_commit), error)
    finally:
        leave_unwinding(token)
    if unwinding is None and _is_plain(context):
        return close_resources(context, status, kept, scope, shield)
    return _by_policy(context, unwinding or _policy_from_here(context, status, kept), shield)


def close_resources(
    context: Any, status: int | None, kept: bool = False, scope: Any = None, shield: AsyncioShield | None = None
) -> Ending:
    """With only resources left: commit the transaction, then resume each resource."""
    opened = context._opened
    if opened:
        part: Any = None
        handle = None
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
                        context._forget(part)  # it is parked, or came too late to be cached
                    if next(handle, NOTHING) is not NOTHING:
                        GENERATOR.refuse_second_yield(handle)
                    kept = True
                elif kind is ASYNC_GENERATOR:
                    part.forget(context)
                    resumed = handle.__anext__()
                    signal: Any = NOTHING
                    has_ended = False
                    try:
                        signal = resumed.send(None)
                    except StopAsyncIteration:
                        kept = has_ended = True
                    except StopIteration:
                        pass  # it yielded again, without suspending
                    if not has_ended:
                        shield = shield or _shield(context, scope)
                        rest = _rest_of_generator(handle, resumed, signal, shield, part.closing)
                        return _aclose_rest(context, status, kept, part.end_step(context, handle), rest, shield)
                elif type(handle) is HandleWithKind and handle.kind is TRANSACTION:
                    context._forget(part)
                    answer = handle.handle.close()
                    if answer is not None:
                        refuse_awaitable(answer, part.closing)
                else:
                    step = part.end_step(context, handle)
                    pending = step.call(None)
                    if step.is_async:
                        shield = shield or _shield(context, scope)
                        return _aclose_rest(context, status, kept, step, shield.run(pending, step.where), shield)
                    kept = kept or handle is not None
                ended = monotonic()
                if ended - started > limit:
                    report_slow(part.closing, ended - started, limit)
                started = ended  # of the next one: reading the clock costs as much as a step
        except BaseException as error:
            step = part.end_step(context, handle, quiet=part.is_transaction(handle))
            unwinding = _policy_from_here(context, status, kept, step, error)
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
    """Prepare and commit the transaction; gives the policy for the rest if that fails, or has to wait."""
    context._seal()
    if (
        context._under_way and opening_of(context._under_way, context) is not None
    ):  # pragma: no cover - an opening that has just begun
        return _policy_from_here(context, status, kept)
    name, transaction = context._transactions[0]
    for verb, call in (("preparing", transaction.prepare), ("committing", transaction.commit)):
        started = monotonic()
        try:
            answer = call()
            if answer is not None:
                refuse_awaitable(answer, transaction_step(verb, name, call).where)
        except BaseException as error:
            step = transaction_step(verb, name, call, rank=COMMIT, commits=verb == "committing")
            return _policy_from_here(context, status, kept, step, error)
        seconds = monotonic() - started
        if seconds > context._limit:
            report_slow(transaction_step(verb, name, call).where, seconds, context._limit)
    context._transactions = None
    return None


async def _aclose_rest(
    context: Any, status: int | None, kept: bool, step: Step, rest: Any, shield: AsyncioShield
) -> Outcome:
    """Await the rest of a step, then continue the close."""
    unwinding: Unwinding | None = None
    token = enter_unwinding(context) if step.nests else None  # middleware may still open resources
    try:
        await rest
    except BaseException as error:
        unwinding = _policy_from_here(context, status, kept, step, error)
    finally:
        if token is not None:
            leave_unwinding(token)
    if unwinding is None:
        kept = kept or step.commits
        if shield.interrupted is None and _is_plain(context):
            ending: Any = _close_clean(context, status, kept, shield=shield)
            return ending if type(ending) is Outcome else await ending
        unwinding = _policy_from_here(context, status, kept)
    return await aclose_by_policy(context, unwinding, decided=True, shield=shield)


async def _rest_of_generator(handle: Any, resumed: Any, signal: Any, shield: AsyncioShield, where: str) -> None:
    """Finish an async generator that was resumed and suspended with ``signal``; NOTHING: it has yielded again."""
    if signal is not NOTHING:
        try:
            await shield.finish(resumed, signal, where)
        except StopAsyncIteration:
            return
    await shield.run(ASYNC_GENERATOR.refuse_second_yield(handle), where)


async def _aclose_in_thread(context: Any, status: int | None, scope: Any) -> Outcome:
    """Close everything in one job in a thread, as resources that were opened in a thread have to close in one."""
    shield = _shield(context, scope)
    context._park()  # an endpoint's thread may still be running
    context._seal()  # nothing is being opened, and from now on only the closing code is admitted

    def close_there() -> Ending:
        token = enter_unwinding(context)
        try:
            return close_resources(context, status, shield=shield)
        finally:
            leave_unwinding(token)

    job = ThreadJob(close_there)
    where = "closing in a thread"
    try:
        ending: Any = await job.run(context, shield, where)
    except BaseException as error:  # from the runner: errors inside the thread are part of the ending
        unwinding = _policy_from_here(context, status, kept=job.has_begun)
        if job.has_begun:
            unwinding.failed(Step(where, planned_nothing), error)
        ending = aclose_by_policy(context, unwinding, decided=True, shield=shield)
    if type(ending) is not Outcome:
        return await ending  # type: ignore[no-any-return]
    shield.exit()
    late = await shield.late_cancel()
    if late is not None:
        raise_as_it_is(late)
    return ending


def _shield(context: Any, scope: Any) -> AsyncioShield:
    return AsyncioShield(context._limit, sys.modules["asyncio"], scope, context._home[2])


# --- Clean: the body raised -------------------------------------------------------------------------------------------


def _close_raised(context: Any, exc: Exception, status: int | None) -> Outcome:
    """Without middleware: throw the exception into the generators, which let it through."""
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
                        continue  # let through, or swallowed: a resource cannot suppress it
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
    context._outcome = outcome = rolled_back_by(exc, status, context)
    context._state = CLOSED
    if context._closers_waiting is not None:
        context._wake_closers()
    return outcome


# --- Handing over to the policy ---------------------------------------------------------------------------------------


def _policy_from_here(
    context: Any, status: int | None, kept: bool, step: Step | None = None, error: BaseException | None = None
) -> Unwinding:
    """The policy for the rest of a clean end, perhaps after the error of a step."""
    unwinding = Unwinding(context, None, status)
    unwinding.kept = kept
    unwinding.middleware_has_begun = True
    if step is not None and error is not None:
        unwinding.failed(step, error)
    unwinding.notice_late_veto()
    return unwinding


def _by_policy(context: Any, unwinding: Unwinding, shield: AsyncioShield | None) -> Ending:
    if context._home is None:
        return close_by_policy(context, unwinding, decided=True)
    return aclose_by_policy(context, unwinding, decided=True, shield=shield)
