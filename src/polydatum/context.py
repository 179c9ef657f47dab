"""Context: one unit of work, from `Context.open` to `Context.close`.

What happens at the end, in which order and which error wins is decided in `polydatum.unwinding`. This module takes the
steps: `_take` is the one loop, `Context._ataking` puts awaits between its runs. The clean path without hooks, vetoes
or errors is spelled out in `Context._close_clean` and `Context._aclose_clean`, for speed; the moment anything is out of
the ordinary they hand the rest over to the policy. The fault-injection tests hold the two to be equal.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import partial
from threading import get_ident
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakSet

from . import workers
from .errors import AsyncResourceError, ContextClosedError, ContextError, ContextReusedError, NoActiveContextError
from .kinds import ASYNC_GENERATOR, GENERATOR, NOTHING, is_transactional
from .meta import Meta
from .opening import CLOSED, CLOSING, CREATED, OPEN, Opening, await_, wait
from .outcome import CANCELLATION, COMMITTED, Outcome, Wishes, is_cancellation
from .resources import RegisteredResource
from .shield import AsyncioShield, Shield, TrioShield, current_anyio_scope, is_cancelled
from .unwinding import Step, Unwinding, log
from .waiting import ThreadWaiter, Waiter, async_waiter, running_asyncio

HookT = TypeVar("HookT", bound=Callable[[], Any])
Runner = Callable[[Callable[[], Any]], Awaitable[Any]]

_unwound_here: ContextVar[Any] = ContextVar("polydatum_unwound_here", default=None)
"""The Context that the running code unwinds: the only code that may still touch its resources."""


class Context:
    """One unit of work: a request, a task, a script's block.

    Made by `DataManager.context`, used once, as ``with`` or ``async with``; adapters call `open` and `close` (or their
    twins `aopen` and `aclose`) instead. Resources are attributes: the first touch opens one, the close closes it. How it
    ended is in `outcome`.

    Subclass it for typed resources, and pass the subclass as ``DataManager(..., context_class=ShopContext)``.

    Example:
        >>> from polydatum import DataManager
        >>> dm = DataManager()
        >>> with dm.context(meta={"user": "ann"}) as ctx:
        ...     ctx.meta.user, ctx.state
        ('ann', 'open')
        >>> ctx.state, ctx.outcome
        ('closed', 'committed')
    """

    # Of the manager: set on the subclass that it generates. The first three belong to its ContextVar.
    _get: Callable[[], Any]
    _set: Callable[[Any], Any]
    _reset: Callable[[Any], None]
    _mutex: Any
    _data_manager: Any = None
    _limit: float = 5.0
    _rollback_on: Callable[[BaseException | None, int | None], bool] | None = None
    _sets_up = False  # something runs at every open
    _settles = False  # something but the plain rule runs at every close
    dal: Any = None

    # Of one context. What is rare stays on the class until it is needed: most contexts never have it.
    _state: str = CREATED
    _meta: Any = None
    _token: Any = None
    _frames: list[Any] | None = None  # set up middleware: middleware, handle, middleware, handle, ...
    _opening: list[Opening] | None = None
    _opened: list[Any] | None = None  # in order of opening: resource, handle, resource, handle, ...
    _transactions: list[tuple[str, Any]] | None = None
    _wishes: Wishes | None = None
    _closer: Any = None
    _closers_waiting: list[Waiter] | None = None
    _sealed = False  # the first prepare is over: nothing may open any more
    _parked: dict[str, Any] | None = None
    _outcome: Outcome = COMMITTED
    _exit_errors: list[BaseException] | None = None
    _thread: int | None = None  # of the event loop; None: a sync context
    _task: Any = None
    _cancelling = 0
    _elsewhere = False  # a sync resource was opened outside the event loop's thread

    def __init__(self, data_manager: Any, meta: Mapping[str, Any] | Meta | None = None) -> None:
        if self._data_manager is None:
            self.__class__ = data_manager._generated(type(self))
        self._meta = meta

    # --- What users read ----------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """``"created"``, ``"open"``, ``"closing"`` or ``"closed"``."""
        return self._state

    @property
    def meta(self) -> Meta:
        """The read-only facts of this context; stays readable after the close."""
        meta = self._meta
        if type(meta) is not Meta:
            meta = self._meta = Meta(meta)
        return meta

    @property
    def data_manager(self) -> Any:
        """The DataManager that made this context."""
        return self._data_manager

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None before that."""
        return self._outcome if self._state is CLOSED else None

    def __contains__(self, name: object) -> bool:
        """Whether a resource is open right now."""
        return any(resource.name == name for resource in (self._opened or ())[::2])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state}>"

    # --- What users wish for its end ----------------------------------------------------------------------------------

    def _wishing(self, wanted: str) -> Wishes:
        if self._state is CLOSED or self._sealed:
            raise self._closed_error(wanted)
        wishes = self._wishes
        if wishes is None:
            wishes = self._wishes = Wishes()
        return wishes

    def set_rollback_only(self, reason: str = "set_rollback_only() was called") -> None:
        """Roll back at the end, whatever the answer is; the answer itself stands. Cannot be taken back.

        May be called until the first ``prepare``, so by hooks and middleware too.

        Raises:
            ContextClosedError: if the context has settled already.
        """
        self._wishing("set_rollback_only()").rollback_only = reason

    def commit_on_error(self) -> None:
        """Commit although an Exception escapes or the status is 400 or more: for the failed login that has to be counted.

        Overrides those two and nothing else: an interrupt, a cancellation or `set_rollback_only` still roll back.

        Raises:
            ContextClosedError: if the context has settled already.
        """
        self._wishing("commit_on_error()").commit_on_error = True

    def before_commit(self, hook: HookT) -> HookT:
        """Call ``hook()`` at the start of the close, if it is going to commit; an error it raises rolls everything back.

        Hooks run in order and may register more. Async hooks in async contexts only. Usable as a decorator.

        Raises:
            ContextClosedError: if the context has settled already.
            AsyncResourceError: if the hook is async and the context is not.
        """
        self._wishing("before_commit()").before_commit.append(self._checked(hook))
        return hook

    def on_commit(self, hook: HookT) -> HookT:
        """Call ``hook()`` once everything has committed, outside of any context; never after a rollback.

        Hooks run in order, each on its own: an Exception is logged and kept in ``outcome.errors``, and changes neither
        the outcome nor the answer. Async hooks in async contexts only. Usable as a decorator.

        Raises:
            ContextClosedError: if the context has settled already.
            AsyncResourceError: if the hook is async and the context is not.
        """
        self._wishing("on_commit()").on_commit.append(self._checked(hook))
        return hook

    def on_rollback(self, hook: HookT) -> HookT:
        """Call ``hook()`` once everything has rolled back, outside of any context; otherwise like `on_commit`.

        Raises:
            ContextClosedError: if the context has settled already.
            AsyncResourceError: if the hook is async and the context is not.
        """
        self._wishing("on_rollback()").on_rollback.append(self._checked(hook))
        return hook

    def _checked(self, hook: HookT) -> HookT:
        if self._thread is None and self._state is not CREATED and inspect.iscoroutinefunction(hook):
            raise AsyncResourceError(hook.__qualname__, "is a hook that a sync context cannot await; register a plain function")
        return hook

    # --- Open ---------------------------------------------------------------------------------------------------------

    def open(self) -> Self:
        """Make this the current context and set up its middleware, in order.

        Raises:
            ContextReusedError: if it was opened before.
            BaseException: whatever a middleware raises; those already set up have then been unwound.
        """
        self._drop_stale()
        Context.__enter__(self)
        return self

    async def aopen(self) -> Self:
        """The async twin of `open`; sync and async middleware and resources may be mixed in it."""
        self._drop_stale()
        await Context.__aenter__(self)
        return self

    def _drop_stale(self) -> None:
        """A closed context that was kept current and never left would be held by our token for ever."""
        current = self._get()
        if current is not None and current._state is CLOSED:
            current.leave()

    def __enter__(self) -> Self:
        if self._state is not CREATED:
            raise ContextReusedError(self._state)
        self._state = OPEN
        self._token = self._set(self)
        if self._sets_up:
            self._set_up()
        return self

    async def __aenter__(self) -> Self:
        if self._state is not CREATED:
            raise ContextReusedError(self._state)
        self._state = OPEN
        self._thread = get_ident()
        asyncio = running_asyncio()
        if asyncio is not None:
            self._task = task = asyncio.current_task()
            if cancelling := task.cancelling():
                self._cancelling = cancelling
        self._token = self._set(self)
        if self._sets_up:
            await self._aset_up()
        return self

    def _set_up(self) -> None:
        self._frames = frames = []
        try:
            self._setup_hook()
            for middleware in self._data_manager._middleware_for(self):
                frames += (middleware, middleware.open(self))
        except BaseException as error:
            self._state = CLOSING
            try:
                self._close_with(Unwinding(self, error, None), error)
            finally:
                self.leave()
            raise  # whatever the others made of it: a context that did not open is always an error

    async def _aset_up(self) -> None:
        self._frames = frames = []
        try:
            self._setup_hook()
            for middleware in self._data_manager._middleware_for(self):
                if middleware.kind is GENERATOR:
                    frames += (middleware, middleware.open(self))
                else:
                    frames += (middleware, await middleware.aopen(self))
        except BaseException as error:
            self._state = CLOSING
            try:
                await self._aclose_with(Unwinding(self, error, None), None, error)
            finally:
                self.leave()
            raise

    # --- Resources: the owner's side of polydatum.opening and polydatum.resources -------------------------------------

    @property
    def _is_async(self) -> bool:
        return self._thread is not None

    def _is_elsewhere(self) -> bool:
        return get_ident() != self._thread

    def _admit(self, wanted: str) -> None:
        if self._state is OPEN:
            return
        if self._state is CREATED:
            raise NoActiveContextError(f"{wanted!r}, in a context that is not open yet")
        if self._sealed or _unwound_here.get() is not self:
            raise self._closed_error(wanted)

    def _touched_while_not_open(self, resource: RegisteredResource) -> Any:
        """What a touch of a context that is not open gives: a parked value, NOTHING (may open still), or an error."""
        if self._parked is not None and _unwound_here.get() is self and resource.name in self._parked:
            return self._parked[resource.name]
        self._admit(resource.name)
        return NOTHING

    def _closed_error(self, wanted: str) -> ContextClosedError:
        outcome = self._outcome if self._state is CLOSED else None
        return ContextClosedError(
            wanted, state=self._state, outcome=outcome, status=None if outcome is None else outcome.http_status
        )

    def _keep(self, resource: RegisteredResource, value: Any, handle: Any) -> bool:
        opened = self._opened
        if opened is None:
            self._opened = [resource, handle]
        else:
            opened += (resource, handle)
        if is_transactional(value):
            if self._transactions is None:
                self._transactions = []
            self._transactions.append((resource.name, value))
        state = self._state
        if state is CLOSED:
            self._opened = None
            return False
        is_async = resource.kind.is_async or (self._thread is not None and getattr(handle, "kind", resource.kind).is_async)
        if self._thread is not None and not is_async and get_ident() != self._thread:
            self._elsewhere = True
        if state is OPEN or _unwound_here.get() is self:
            setattr(self, resource.slot if is_async else resource.name, value)
        return True

    def _value_of(self, resource: RegisteredResource) -> Any:
        """The value of an open resource, for whoever waited for it."""
        if self._state is not OPEN and _unwound_here.get() is not self:
            raise self._closed_error(resource.name)
        value = getattr(self, resource.slot, NOTHING)
        return getattr(self, resource.name) if value is NOTHING else value

    def _forget(self, resource: RegisteredResource) -> None:
        """Drop the cached value of a resource that closes, so that a later touch raises."""
        for name in (resource.name, resource.slot):
            try:
                delattr(self, name)
            except AttributeError:
                pass
        if self._parked is not None:
            self._parked.pop(resource.name, None)

    # --- Close --------------------------------------------------------------------------------------------------------

    def close(self, exc: BaseException | None = None, *, status: int | None = None, keep_current: bool = False) -> Outcome:
        """Decide, unwind, and say how it ended. For adapters; users write ``with``.

        Commits unless an exception or a status of 400 or more says otherwise (see ``DataManager(rollback_on=...)``,
        `commit_on_error`, `set_rollback_only`). May be called in another thread than `open`, and any number of times:
        a second closer waits for the first and gets the same outcome.

        Args:
            exc: the exception that escaped from the work, or None. Never raised again from here.
            status: the final HTTP status, if there is one.
            keep_current: leave the closed context the current one, so that late use (a streamed body, a background
                task) raises `ContextClosedError` and never reaches an outer context. Call `leave` when all is over.

        Raises:
            ContextError: if it was never opened, was opened with `aopen`, or is closed from inside its own unwinding.
            BaseException: a new error that decides the answer: a commit that failed, an interrupt.
        """
        if self._thread is not None:
            raise ContextError("this context was opened with aopen() or 'async with': await aclose()")
        try:
            return self._close(exc, status) or self._outcome
        finally:
            if not keep_current:
                self.leave()

    async def aclose(
        self,
        exc: BaseException | None = None,
        *,
        status: int | None = None,
        keep_current: bool = False,
        in_thread: Runner | None = None,
    ) -> Outcome:
        """The async twin of `close`. All steps complete, whatever is cancelled meanwhile, within the teardown limit.

        A cancel that arrives before the first step rolls back; a later one is raised at the end and changes nothing.

        Args:
            exc: as in `close`.
            status: as in `close`.
            keep_current: as in `close`.
            in_thread: ``await in_thread(fn)`` runs sync steps in a thread of the adapter's choice; used if a resource
                was opened outside the event loop's thread. By default a worker thread of ours.

        Raises:
            ContextError: if it was opened with `open`, or is closed from inside its own unwinding.
            BaseException: a new error that decides the answer: a commit that failed, an interrupt, a cancellation.
        """
        if self._thread is None and self._state is not CREATED:
            raise ContextError("this context was opened with open() or 'with': call close()")
        try:
            return await self._aclose(exc, status, in_thread) or self._outcome
        finally:
            if not keep_current:
                self.leave()

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> bool:
        try:
            outcome = self._close(exc, None)
        finally:
            if self._get() is self:
                self._restore()
        return exc is not None and outcome is not None and outcome.suppressed is not None

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        try:
            outcome = await self._aclose(exc, None, None)
        finally:
            if self._get() is self:
                self._restore()
        return exc is not None and outcome is not None and outcome.suppressed is not None

    def leave(self) -> None:
        """Make the outer context current again, if this one still is. Idempotent, safe in any thread or task."""
        if self._get() is self:
            self._restore()

    def _restore(self) -> None:
        try:
            self._reset(self._token)
        except (ValueError, RuntimeError):
            pass  # in a copied execution context the token is foreign; there the closed context stays, and says so

    # --- Close, sync --------------------------------------------------------------------------------------------------

    def _close(self, exc: BaseException | None, status: int | None) -> Outcome | None:
        """Close, unless somebody else does or has done: then None, once that is over."""
        with self._mutex:
            state = self._state
            if state is OPEN:
                self._state = CLOSING
        if state is not OPEN:
            if self._must_wait(state, get_ident()):
                waiter = ThreadWaiter()
                if self._enlist(waiter):
                    waiter.wait()
            return None
        if exc is None and self._is_clean(status):
            return self._close_clean(status)
        return self._close_with(Unwinding(self, exc, status))

    def _is_clean(self, status: int | None) -> bool:
        return (
            self._wishes is None
            and self._transactions is None
            and self._opening is None
            and not self._settles
            and (status is None or status < 400)
        )

    def _close_clean(self, status: int | None) -> Outcome:
        """The usual end: everything is resumed, nothing is thrown. Leaves for the policy at the first surprise."""
        part: Any = None
        kept = False
        if self._frames or self._opened:
            self._closer = get_ident()
            started = monotonic()
            try:
                frames = self._frames
                if frames:
                    token = _unwound_here.set(self)
                    try:
                        while frames:
                            handle = frames.pop()
                            part = frames.pop()
                            if part.kind is GENERATOR:
                                if next(handle, NOTHING) is not NOTHING:
                                    part.kind.refuse_second_yield(handle)
                            else:
                                part.end_step(handle).call(None)
                            kept = True
                    finally:
                        _unwound_here.reset(token)
                    if not self._is_clean(status):
                        return self._close_rest(status, kept)
                opened = self._opened
                while opened:
                    handle = opened.pop()
                    part = opened.pop()
                    if part.kind is GENERATOR:
                        delattr(self, part.name)
                        if next(handle, NOTHING) is not NOTHING:
                            part.kind.refuse_second_yield(handle)
                        kept = True
                    else:
                        part.end_step(self, handle).call(None)
                        kept = kept or handle is not None
            except BaseException as error:
                return self._close_rest(status, kept, part, error)
            if monotonic() - started > self._limit:
                _log_slow("closing its resources", monotonic() - started, self._limit)
        outcome = COMMITTED
        if status is not None:
            outcome = self._outcome = committed_with(status)
        self._state = CLOSED
        if self._closers_waiting is not None:
            self._wake_closers()
        return outcome

    def _close_rest(self, status: int | None, kept: bool, part: Any = None, error: BaseException | None = None) -> Outcome:
        """Go on by the policy from where the clean path stopped."""
        return self._close_with(self._surprised(status, kept, part, error), decided=True)

    def _surprised(self, status: int | None, kept: bool, part: Any, error: BaseException | None) -> Unwinding:
        unwinding = Unwinding(self, None, status)
        unwinding.kept = kept
        if error is not None:
            step = part.end_step(self, None) if isinstance(part, RegisteredResource) else part.end_step(None)
            unwinding.failed(step, error)
        unwinding.notice_late_veto()
        return unwinding

    def _close_with(
        self, unwinding: Unwinding, failed_open: BaseException | None = None, *, decided: bool = False
    ) -> Outcome:
        """The end in full, by the policy."""
        self._closer = get_ident()
        if failed_open is not None:
            unwinding.cause = failed_open
        elif not decided:
            unwinding.decide(self._rollback_on)
        token = _unwound_here.set(self)
        try:
            _take(unwinding, self._opening_steps())
            if self._settles:
                _take(unwinding, self._old_hook_steps(unwinding))
            _take(unwinding, unwinding.steps_before_prepare())
            self._seal()
            _take(unwinding, self._opening_steps())
            _take(unwinding, unwinding.steps_to_the_end())
        finally:
            _unwound_here.reset(token)
        outcome = self._settled(unwinding)
        if self._wishes is not None:
            outside = self._set(None)
            try:
                _take(unwinding, unwinding.steps_afterwards(outcome))
            finally:
                self._reset(outside)
        self._over(unwinding)
        return outcome

    # --- Close, async -------------------------------------------------------------------------------------------------

    async def _aclose(self, exc: BaseException | None, status: int | None, in_thread: Runner | None) -> Outcome | None:
        with self._mutex:
            state = self._state
            if state is OPEN:
                self._state = CLOSING
        if state is not OPEN:
            if self._must_wait(state, _running_task()):
                waiter = async_waiter()
                if self._enlist(waiter):
                    await waiter.wait()
            return None
        task = self._task
        if exc is None and task is not None and not self._elsewhere and self._is_clean(status):
            asyncio = sys.modules["asyncio"]
            if task.cancelling() == self._cancelling and asyncio.current_task() is task:
                scope = current_anyio_scope(asyncio)
                if not is_cancelled(scope):
                    return await self._aclose_clean(status, AsyncioShield(self._limit, asyncio, scope))
        return await self._aclose_with(Unwinding(self, exc, status), in_thread)

    async def _aclose_clean(self, status: int | None, shield: AsyncioShield) -> Outcome:
        """The usual end in an asyncio task that nobody has cancelled."""
        part: Any = None
        kept = False
        if self._frames or self._opened:
            self._closer = self._task
            started = monotonic()
            try:
                frames = self._frames
                if frames:
                    token = _unwound_here.set(self)
                    try:
                        while frames:
                            handle = frames.pop()
                            part = frames.pop()
                            step = part.end_step(handle)
                            ended = step.call(None)
                            if step.is_async:
                                await shield.run(ended, step.where)
                            kept = True
                    finally:
                        _unwound_here.reset(token)
                    if not self._is_clean(status):
                        return await self._aclose_rest(status, kept, shield)
                opened = self._opened
                while opened:
                    handle = opened.pop()
                    part = opened.pop()
                    kind = part.kind
                    if kind is GENERATOR:
                        delattr(self, part.name)
                        if next(handle, NOTHING) is not NOTHING:
                            kind.refuse_second_yield(handle)
                        kept = True
                    elif kind is ASYNC_GENERATOR:
                        delattr(self, part.slot)
                        await self._resume(handle, part, shield)
                        kept = True
                    else:
                        step = part.end_step(self, handle)
                        ended = step.call(None)
                        if step.is_async:
                            await shield.run(ended, step.where)
                        kept = kept or handle is not None
            except BaseException as error:
                return await self._aclose_rest(status, kept, shield, part, error)
            if monotonic() - started > self._limit:
                _log_slow("closing its resources", monotonic() - started, self._limit)
            if shield.interrupted is not None:
                return await self._aclose_rest(status, kept, shield)
        outcome = COMMITTED
        if status is not None:
            outcome = self._outcome = committed_with(status)
        self._state = CLOSED
        if self._closers_waiting is not None:
            self._wake_closers()
        return outcome

    async def _resume(self, generator: Any, resource: RegisteredResource, shield: AsyncioShield) -> None:
        """Resume an async generator to its end, driven by hand: most never suspend."""
        step = generator.__anext__()
        try:
            signal = step.send(None)
        except StopAsyncIteration:
            return
        except StopIteration:  # it yielded
            pass
        else:
            try:
                await shield.finish(step, signal, f"closing resource {resource.name!r}")
            except StopAsyncIteration:
                return
        await resource.kind.refuse_second_yield(generator)

    async def _aclose_rest(
        self, status: int | None, kept: bool, shield: Shield, part: Any = None, error: BaseException | None = None
    ) -> Outcome:
        return await self._aclose_with(self._surprised(status, kept, part, error), None, decided=True, shield=shield)

    async def _aclose_with(
        self,
        unwinding: Unwinding,
        in_thread: Runner | None,
        failed_open: BaseException | None = None,
        *,
        decided: bool = False,
        shield: Shield | None = None,
    ) -> Outcome:
        self._closer = task = _running_task()
        if failed_open is not None:
            unwinding.cause = failed_open
        elif not decided:
            cancel = await self._arrived_cancel(unwinding)
            if cancel is None:
                unwinding.decide(self._rollback_on)
            else:
                unwinding.cancelled(cancel)
        asyncio = running_asyncio()
        cancelling = 0 if asyncio is None else task.cancelling()
        if shield is None:
            if asyncio is None:
                shield = TrioShield(self._limit, sys.modules["trio"])
            else:
                shield = AsyncioShield(self._limit, asyncio, current_anyio_scope(asyncio))
        if self._elsewhere:
            self._park()
            in_thread = in_thread or workers.run_in_worker
        else:
            in_thread = None
        take = partial(_atake, unwinding, shield=shield, in_thread=in_thread)
        shield.enter()
        try:
            token = _unwound_here.set(self)
            try:
                await take(self._opening_steps())
                if self._settles:
                    await take(self._old_hook_steps(unwinding))
                await take(unwinding.steps_before_prepare())
                self._seal()
                await take(self._opening_steps())
                await take(unwinding.steps_to_the_end())
            finally:
                _unwound_here.reset(token)
            outcome = self._settled(unwinding)
            if self._wishes is not None:
                outside = self._set(None)
                try:
                    await take(unwinding.steps_afterwards(outcome))
                finally:
                    self._reset(outside)
        finally:
            shield.exit()
        if shield.interrupted is not None and task.cancelling() > cancelling:
            unwinding.interrupted(shield.interrupted)
        elif asyncio is None and unwinding.rank > CANCELLATION:
            try:
                await sys.modules["trio"].lowlevel.checkpoint_if_cancelled()
            except BaseException as late:
                unwinding.interrupted(late)
        self._over(unwinding)
        return outcome

    async def _arrived_cancel(self, unwinding: Unwinding) -> BaseException | None:
        """A cancel of this task that nobody has raised: swallowed on the way, or not delivered yet."""
        if unwinding.given is not None and is_cancellation(unwinding.given):
            return None
        task = self._task
        if task is None and running_asyncio() is None:
            trio = sys.modules["trio"]
            if unwinding.given is None and trio.current_effective_deadline() == float("-inf"):
                try:
                    await trio.lowlevel.checkpoint_if_cancelled()
                except trio.Cancelled as cancel:
                    return cancel
            return None
        asyncio = sys.modules["asyncio"]
        if task is not None and asyncio.current_task() is task and task.cancelling() > self._cancelling:
            return asyncio.CancelledError()
        if unwinding.given is None and is_cancelled(current_anyio_scope(asyncio)):
            try:
                await sys.modules["anyio.lowlevel"].checkpoint_if_cancelled()
            except asyncio.CancelledError as cancel:
                return cancel
        return None

    def _park(self) -> None:
        """Take the cached values of sync resources out of reach of a thread that runs on after its task was cancelled."""
        self._parked = parked = {}
        cached = vars(self)
        for resource in (self._opened or [])[::2]:
            if resource.name in cached:
                parked[resource.name] = cached.pop(resource.name)

    # --- Close, both --------------------------------------------------------------------------------------------------

    def _must_wait(self, state: str, closer: Any) -> bool:
        """Whether a second closer has to wait for the first."""
        if state is CREATED:
            raise ContextError("this context was never opened")
        if state is CLOSED:
            return False
        if closer == self._closer:
            raise ContextError("a context cannot be closed from inside its own unwinding")
        return True

    def _enlist(self, waiter: Waiter) -> bool:
        """Put a second closer on the list; False if the first has finished meanwhile."""
        with self._mutex:
            if self._state is CLOSED and self._closers_waiting is None:
                return False
            if self._closers_waiting is None:
                self._closers_waiting = []
            self._closers_waiting.append(waiter)
        return self._state is not CLOSED

    def _wake_closers(self) -> None:
        for waiter in self._closers_waiting or ():
            waiter.wake()

    def _opening_steps(self) -> Iterator[Step]:
        """Wait for openers under way, in other threads or tasks, before the list of what is open is read."""
        failed = None
        while self._opening is not None:
            other = self._opening[-1]
            if other is failed:
                return  # it outlasts the limit: whoever opens it will find the context closed, and end it himself
            failed = other
            where = f"waiting for resource {other.resource.name!r} to open"
            if self._thread is None:
                yield Step(where, lambda cause, other=other: wait(self, other))
            else:
                yield Step(where, lambda cause, other=other: await_(self, other), is_async=True)

    def _seal(self) -> None:
        with self._mutex:
            self._sealed = True

    def _settled(self, unwinding: Unwinding) -> Outcome:
        """The outcome is fixed, now that every resource is closed."""
        self._outcome = outcome = unwinding.outcome()
        self._exit_errors = unwinding.exit_errors
        self._state = CLOSED
        return outcome

    def _over(self, unwinding: Unwinding) -> None:
        """The last act: waiting closers go on, and a new error goes to the caller."""
        if self._settles:
            _take(unwinding, self._final_hook_steps(unwinding))
        self._wake_closers()
        unwinding.release()
        winner = unwinding.winner
        if winner is not None and winner is not unwinding.given:
            context = winner.__context__
            try:
                raise winner
            finally:
                winner.__context__ = context  # `raise` inside an except block would put that block's error in its place
                del winner, unwinding

    # --- Names of polydatum 0.9.1 -------------------------------------------------------------------------------------

    def _setup_hook(self) -> None:
        """Override to run code when a context opens, before its middleware."""

    def _teardown_hook(self, exception: BaseException | None) -> None:
        """Override to run code when a context starts to close, before its middleware; an error rolls back."""

    def _final_hook(self, exception: BaseException | None) -> None:
        """Override to run code when a context has closed; an error is logged."""

    def _old_hook_steps(self, unwinding: Unwinding) -> Iterator[Step]:
        yield Step("running _teardown_hook", lambda cause: self._teardown_hook(unwinding.given))

    def _final_hook_steps(self, unwinding: Unwinding) -> Iterator[Step]:
        yield Step("running _final_hook", lambda cause: self._final_hook(unwinding.winner), quiet=True)

    def get_resource_exit_errors(self) -> list[tuple[type[BaseException], BaseException, TracebackType | None]]:
        """What resources raised while they closed, as ``sys.exc_info()`` triples."""
        return [(type(error), error, error.__traceback__) for error in self._exit_errors or ()]


# Managers register themselves here: for `get_active_context`, and to be told of a fork.
managers: WeakSet[Any] = WeakSet()


def get_active_context(data_manager: Any = None) -> Context | None:
    """The context that is current here, or None: of a given DataManager, or of the one manager that has one.

    Raises:
        ContextError: if contexts of several managers are current and none of them was named.
    """
    if data_manager is not None:
        return data_manager.get_active_context()  # type: ignore[no-any-return]
    active = [context for manager in managers if (context := manager.get_active_context()) is not None]
    if len(active) > 1:
        raise ContextError("contexts of several DataManagers are open here; pass the one you mean")
    return active[0] if active else None


DataAccessContext = Context  # the name in polydatum 0.9.1


_committed: dict[int, Outcome] = {}


def committed_with(status: int) -> Outcome:
    """The outcome of a clean commit answered with a status, made once for each status."""
    outcome = _committed.get(status)
    if outcome is None:
        outcome = Outcome("committed", http_status=status)
        if len(_committed) < 100:
            _committed[status] = outcome
    return outcome


def _running_task() -> Any:
    asyncio = running_asyncio()
    return sys.modules["trio"].lowlevel.current_task() if asyncio is None else asyncio.current_task()


def _log_slow(where: str, seconds: float, limit: float) -> None:
    log.error("%s took %.1f s, over the teardown limit of %g s; a sync step cannot be interrupted", where, seconds, limit)


def _take(unwinding: Unwinding, steps: Iterator[Step]) -> Step | None:
    """Take sync steps until they end, or until an async one comes: that one is returned.

    An error raised here is the policy's to weigh, so everything is caught: each step is taken, whatever is raised.
    """
    for step in steps:
        if step.is_async:
            return step
        try:
            swallowed = step.call(unwinding.cause)
        except BaseException as error:
            unwinding.failed(step, error)
        else:
            unwinding.done(step, swallowed)
    return None


async def _atake(unwinding: Unwinding, steps: Iterator[Step], *, shield: Shield, in_thread: Runner | None) -> None:
    """Take sync and async steps; each run of consecutive sync ones is one job of ``in_thread``, if that is given."""
    for step in steps:
        upcoming: Step | None = step
        if not step.is_async:
            job = partial(_take, unwinding, _chained(step, steps))
            upcoming = job() if in_thread is None else await shield.run(_called(in_thread, job), step.where, bounded=False)
        if upcoming is None:
            return
        try:
            swallowed = await shield.run(upcoming.call(unwinding.cause), upcoming.where)
        except BaseException as error:
            unwinding.failed(upcoming, error)
        else:
            unwinding.done(upcoming, swallowed)


async def _called(runner: Runner, job: Callable[[], Any]) -> Any:
    return await runner(job)


def _chained(first: Step, rest: Iterator[Step]) -> Iterator[Step]:
    yield first
    yield from rest
