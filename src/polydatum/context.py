"""Context: one unit of work, from `Context.open` to `Context.close`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

from . import closing, settling
from .errors import ConfigurationError, ContextError, ContextReusedError
from .meta import Meta, own_facts
from .nesting import OpenBlock
from .opening import CLOSED, CLOSING, CREATED, OPEN, Placeholder, UnderWay
from .outcome import Outcome, Wishes
from .owner import ResourceOwner
from .process import managers
from .savepoints import Nested
from .setting_up import aset_up, set_up
from .settling import Runner
from .unwinding import RollbackRule
from .waiting import ThreadWaiter, Waiter, async_waiter, home_of_running_task
from .wishing import HookT, add_hook, open_wishes, refuse_late

_CLOSING_FILES = (closing.__file__, settling.__file__)


def check_timeout(seconds: float, name: str = "teardown_timeout") -> None:
    """Refuse an invalid time limit.

    Raises:
        ConfigurationError: if it is not above 0.
    """
    if not seconds > 0:
        raise ConfigurationError(f"{name} has to be a number of seconds above 0")


class Context(ResourceOwner):
    """One unit of work: a request, a task, a block of a script.

    Created by `DataManager.context` and used once, by ``with`` or ``async with``; adapters call `open` and `close` (or
    their twins `aopen` and `aclose`) instead. Resources are attributes: each is opened on first touch, and closed with
    the context. `outcome` tells how it ended.

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

    # Per manager; set on the subclass that it generates.
    _var: ContextVar[Any]
    _under_way: UnderWay
    _set_up_placeholder: Placeholder
    _data_manager: Any = None
    _limit: float = 5.0
    _rollback_on: RollbackRule | None = None
    _commit_order: Sequence[str] = ()
    _sets_up = False  # something runs at every open
    _settles = False  # more than the default rule runs at every close
    dal: Any = None

    # Per context; rarely used attributes stay on the class until they are needed.
    _meta: Any
    _token: Any
    _read_only = False
    _frames: list[Any] | None = None  # middleware that is set up, flat: middleware, handle, may it commit?, ...
    _wishes: Wishes | None = None
    _listeners: tuple[Callable[[float, float | None], object], ...] = ()
    _closers_waiting: list[Waiter] | None = None
    _exit_errors: list[BaseException] | None = None
    _block: OpenBlock | None = None  # the innermost open one of `nested`
    _in_thread: Runner | None = None  # by default a worker thread of Polydatum's

    def __init__(self, data_manager: Any, meta: Mapping[str, Any] | Meta | None = None) -> None:
        if self._data_manager is None:
            self.__class__ = data_manager._generated(type(self))
        self._meta = meta if meta is None else own_facts(meta)
        self._state = CREATED
        self._opened = self._home = None

    def _set_rules(self, rollback_on: RollbackRule | None, teardown_timeout: float | None, read_only: bool) -> None:
        """Override the manager's rules for this context."""
        self._read_only = read_only
        if rollback_on is not None:
            self._rollback_on = rollback_on
            self._plain, self._settles = False, True
        if teardown_timeout is not None:
            check_timeout(teardown_timeout)
            self._limit = teardown_timeout

    # --- What users read ----------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """``"created"``, ``"open"``, ``"closing"`` or ``"closed"``."""
        return self._state

    @property
    def meta(self) -> Meta:
        """The read-only facts of this context; still readable after it has closed."""
        meta = self._meta
        if type(meta) is not Meta:
            with self._mutex:
                meta = self._meta
                if type(meta) is not Meta:  # pragma: no branch - another thread may have been faster
                    meta = self._meta = Meta(meta)
        return meta

    @property
    def data_manager(self) -> Any:
        """The DataManager that made this context."""
        return self._data_manager

    @property
    def outcome(self) -> Outcome | None:
        """How the context ended; None until it has closed."""
        return self._outcome if self._state is CLOSED else None

    @property
    def read_only(self) -> bool:
        """Whether it was opened with ``read_only=True``: backends then have the server refuse writes."""
        return self._read_only

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state}>"

    # --- Savepoints ---------------------------------------------------------------------------------------------------

    def nested(self) -> Nested:
        """A block of this context that rolls back alone: ``with ctx.nested():``, or ``async with`` in async contexts.

        If an exception leaves the block, what the resources' transactions did in it is undone, ``before_commit`` and
        ``on_commit`` hooks registered in it are dropped, ``on_rollback`` hooks registered in it run, and the exception
        propagates; catch it outside the block, and the context can still commit. Otherwise the block's work becomes
        part of the context's. Blocks may nest. While one is open, no other task or thread may use the context: a
        rollback to a savepoint undoes everything done on its connection since.

        Only transactional resources can be rolled back (see `polydatum.Transaction`): a generator that commits after
        its ``yield`` has no savepoints.

        Raises:
            SavepointNotSupported: on entering, if a resource without savepoints has written.
            ContextClosedError: on entering, if the context is no longer open.
            ConcurrentBlockError: on entering, if another task or thread is in such a block of this context.
            AsyncResourceError: on entering a plain ``with``, if an async resource is open.

        Example:
            >>> from polydatum import DataManager
            >>> with DataManager().context() as ctx:
            ...     try:
            ...         with ctx.nested():
            ...             _ = ctx.on_commit(lambda: print("never printed"))
            ...             raise KeyError("no such item")
            ...     except KeyError:
            ...         pass
        """
        return Nested(self)

    # --- Wishes for the end -------------------------------------------------------------------------------------------

    def set_rollback_only(self, reason: str = "set_rollback_only() was called") -> None:
        """Roll back at the end, whatever the answer is; the answer itself is not changed. Cannot be revoked.

        May be called until the first ``prepare``, so also by hooks and middleware.

        Raises:
            ContextClosedError: if the context has settled already.
        """
        open_wishes(self, "set_rollback_only()").rollback_only = reason
        refuse_late(self, "set_rollback_only()")

    def commit_on_error(self) -> None:
        """Commit even if an exception escapes or the status is 400 or more, for example to count a failed login.

        It overrides these two only: an interrupt, a cancellation or `set_rollback_only` still rolls back.

        Raises:
            ContextClosedError: if the context has settled already.
        """
        open_wishes(self, "commit_on_error()").commit_on_error = True
        refuse_late(self, "commit_on_error()")

    def before_commit(self, hook: HookT) -> HookT:
        """Call ``hook()`` at the start of a close that is going to commit; an error it raises rolls everything back.

        Hooks run in order and may register more. Async hooks need an async context. Usable as a decorator.

        Raises:
            ContextClosedError: if the context has settled already.
            ConcurrentBlockError: if another task or thread is in a `nested` block.
            TypeError: if the hook cannot be called.
            AsyncResourceError: if the hook is async and the context is not.
        """
        return add_hook(self, "before_commit", hook)

    def on_commit(self, hook: HookT) -> HookT:
        """Call ``hook()`` once everything has committed, outside of any context; never after a rollback.

        Hooks run in order, isolated from each other: an Exception is logged and kept in ``outcome.errors``, and changes
        neither the outcome nor the answer. Async hooks need an async context. Usable as a decorator.

        Raises:
            ContextClosedError: if the context has settled already.
            ConcurrentBlockError: if another task or thread is in a `nested` block.
            TypeError: if the hook cannot be called.
            AsyncResourceError: if the hook is async and the context is not.
        """
        return add_hook(self, "on_commit", hook)

    def on_rollback(self, hook: HookT) -> HookT:
        """Call ``hook()`` once everything has rolled back, outside of any context; otherwise like `on_commit`.

        Raises:
            ContextClosedError: if the context has settled already.
            ConcurrentBlockError: if another task or thread is in a `nested` block.
            TypeError: if the hook cannot be called.
            AsyncResourceError: if the hook is async and the context is not.
        """
        return add_hook(self, "on_rollback", hook)

    def enqueue(self, command: Any, *, reliable: bool = False, id: str | None = None, **options: Any) -> str:
        """Send a `Command` to a worker once this context has committed, and not at all if it rolls back.

        By default it is sent at most once: the message is lost if the process dies right after the commit, or if the
        queue cannot be reached then, which is logged. With ``reliable`` it is sent at least once: the command is
        written in this context's own transaction, and ``polydatum outbox run`` sends it.

        Args:
            command: a command made by `DataManager.command`.
            reliable: whether to write it to the outbox.
            id: the id of the message, by which an inbox detects duplicates; by default a new one.
            options: passed to the queue.

        Returns:
            The id of the message.

        Raises:
            ConfigurationError: if there is no queue, or no outbox for a reliable command, or the queue cannot take it.
            ReadOnlyError: if ``reliable`` is set and the context is read-only.
            ContextClosedError: if the context has settled already.
        """
        return self._data_manager.dispatch.enqueue(self, command, id, options, reliable=reliable)  # type: ignore[no-any-return]

    # --- Progress -----------------------------------------------------------------------------------------------------

    def progress(self, done: float, total: float | None = None) -> None:
        """Report the progress of the work to the listeners, at once. Costs next to nothing if there are none.

        Args:
            done: how much is done, in any unit.
            total: how much there is in total, if known.

        Raises:
            BaseException: whatever a listener raises; with Celery this is how a revoked task ends.
        """
        for listener in self._listeners:
            listener(done, total)

    def on_progress(self, listener: Callable[[float, float | None], object]) -> None:
        """Call ``listener(done, total)`` at every `progress`, in the thread or task that calls it."""
        self._listeners = (*self._listeners, listener)

    # --- Open ---------------------------------------------------------------------------------------------------------

    def open(self) -> Self:
        """Make this the current context and set up its middleware, in order.

        Raises:
            ContextReusedError: if it was opened before.
            BaseException: whatever a middleware raises; those already set up have then been unwound.
        """
        self._drop_stale()
        self._begin(None)
        if self._sets_up:
            set_up(self)
        return self

    async def aopen(self) -> Self:
        """The async twin of `open`; sync and async middleware and resources may be mixed in it."""
        self._drop_stale()
        self._begin(home_of_running_task())
        if self._sets_up:
            await aset_up(self)
        return self

    def _drop_stale(self) -> None:
        """Leave a closed context that was kept current and never left: our token would keep it alive forever."""
        current = self._var.get()
        if current is not None and current._state is CLOSED and current is not self:
            outer = current._token.old_value
            if not isinstance(outer, Context) or outer._state is CLOSED:  # else late use would reach an open outer one
                current.leave()

    def __enter__(self) -> Self:
        self._begin(None)
        if self._sets_up:
            set_up(self)
        return self

    async def __aenter__(self) -> Self:
        self._begin(home_of_running_task())
        if self._sets_up:
            await aset_up(self)
        return self

    def _begin(self, home: tuple[int, Any, int] | None) -> None:
        if self._state is not CREATED:
            raise ContextReusedError(self._state)
        self._state = OPEN
        self._home = home
        self._token = self._var.set(self)

    # --- Close --------------------------------------------------------------------------------------------------------

    def close(
        self,
        exc: BaseException | None = None,
        *,
        status: int | None = None,
        keep_current: bool = False,
        late_hint: str = "",
    ) -> Outcome:
        """Decide, unwind, and return the outcome. For adapters; users write ``with``.

        Commits unless there is an exception or a status of 400 or more (see ``DataManager(rollback_on=...)``,
        `commit_on_error`, `set_rollback_only`). May be called in another thread than `open`, and any number of times:
        a second caller waits for the first and gets the same outcome.

        Args:
            exc: the exception that escaped from the work, or None. It is never raised again from here.
            status: the final HTTP status, if there is one.
            keep_current: keep the closed context current, so that late use (a streamed body, a background task) raises
                `ContextClosedError` and never reaches an outer context. Call `leave` when everything is over.
            late_hint: the advice in the message of that error, in place of the general advice.

        Raises:
            ContextError: if it was never opened, was opened with `aopen`, or is closed from inside its own unwinding.
            BaseException: a new error that decides the answer: a failed commit, an interrupt.
        """
        if self._home is not None:
            raise ContextError("this context was opened with aopen() or 'async with': await aclose()")
        if late_hint:
            self._late_hint = late_hint
        try:
            if self._state is OPEN:
                self._state = CLOSING  # `_claim_close`, inlined
                return closing.close(self, exc, status)
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
        late_hint: str = "",
        in_thread: Runner | None = None,
    ) -> Outcome:
        """The async twin of `close`. All steps complete within the teardown limit, even if the task is cancelled.

        A cancellation that arrives before the first step rolls back; a later one is raised at the end and changes
        nothing else. If no middleware, resource, hook or rule takes part in the end, cancellations are not looked for:
        they reach the task at its next ``await``, as they would without a context.

        Args:
            exc: as in `close`.
            status: as in `close`.
            keep_current: as in `close`.
            late_hint: as in `close`.
            in_thread: as in `close_in`, for adapters that know it only now.

        Raises:
            ContextError: if it was opened with `open`, or is closed from inside its own unwinding.
            BaseException: a new error that decides the answer: a failed commit, an interrupt, a cancellation.
        """
        if self._home is None and self._state is not CREATED:
            raise ContextError("this context was opened with open() or 'with': call close()")
        if late_hint:
            self._late_hint = late_hint
        try:
            if self._state is OPEN:
                self._state = CLOSING  # `_claim_close`, inlined
                if in_thread is not None:
                    self._in_thread = in_thread
                ending: Any = closing.aclose(self, exc, status)
                return ending if type(ending) is Outcome else await ending
            return await self._aclose(exc, status) or self._outcome
        finally:
            if not keep_current:
                self.leave()

    def close_in(self, in_thread: Runner) -> None:
        """Set how an async context runs the sync steps of its end: by ``await in_thread(step)``.

        For adapters, and for resources whose client belongs to a thread. It matters only if a sync resource was opened
        outside the event loop's thread. By default a worker thread of Polydatum's is used; the last call wins.

        Args:
            in_thread: an async function that calls the given function, without arguments, and returns its result.
        """
        self._in_thread = in_thread

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        try:
            outcome = self._close(exc, None)
        finally:
            self.leave()
        return exc is not None and outcome is not None and outcome.suppressed is not None

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        try:
            outcome = await self._aclose(exc, None)
        finally:
            self.leave()
        return exc is not None and outcome is not None and outcome.suppressed is not None

    def leave(self) -> None:
        """Make the outer context current again, if this one is current. Idempotent, safe in any thread or task."""
        if self._var.get() is self:
            try:
                self._var.reset(self._token)
            except (ValueError, RuntimeError):
                pass  # in a copied execution context the token is foreign: there the closed context stays current

    # --- Claiming the close -------------------------------------------------------------------------------------------

    def _claim_close(self) -> bool:
        """Whether the caller is the one to close; the state is then closing."""
        # Atomic under the GIL: between the check and the change nothing is called and nothing allocated.
        if self._state is not OPEN:
            return False
        self._state = CLOSING
        return True

    def _must_wait(self) -> bool:
        """Whether a second caller of close() has to wait for the first.

        Raises:
            ContextError: if it was never opened, or is closed from inside its own unwinding.
        """
        if self._state is CREATED:
            raise ContextError("this context was never opened")
        if self._state is CLOSED:
            return False
        # The closing thread is not recorded, as every close would pay for that; a wait for oneself is found here.
        frame = sys._getframe(2)
        while frame is not None:
            if frame.f_code.co_filename in _CLOSING_FILES and self in (
                frame.f_locals.get("self"),
                frame.f_locals.get("context"),
            ):
                raise ContextError("a context cannot be closed from inside its own unwinding")
            frame = frame.f_back  # type: ignore[assignment]
        return True

    def _close(self, exc: BaseException | None, status: int | None) -> Outcome | None:
        """Close; if another caller is closing or has closed it, wait for that and return None."""
        if self._claim_close():
            return closing.close(self, exc, status)
        if self._must_wait():
            waiter = ThreadWaiter()
            if self._enlist(waiter):
                waiter.wait()
        return None

    async def _aclose(self, exc: BaseException | None, status: int | None) -> Outcome | None:
        if self._claim_close():
            ending: Any = closing.aclose(self, exc, status)
            return ending if type(ending) is Outcome else await ending
        if self._must_wait():
            waiter = async_waiter()
            if self._enlist(waiter):
                await waiter.wait()
        return None

    def _enlist(self, waiter: Waiter) -> bool:
        """Register a waiting closer; False if the first has finished meanwhile."""
        with self._mutex:
            if self._closers_waiting is None:
                self._closers_waiting = []
            self._closers_waiting.append(waiter)
        return self._state is not CLOSED  # checked again, now that the first closer will find the waiter

    def _wake_closers(self) -> None:
        for waiter in self._closers_waiting or ():
            waiter.wake()

    def _seal(self) -> None:
        self._sealed = True  # a concurrent claim of a resource is either found under way or refused

    # --- Names of polydatum 0.9.1 -------------------------------------------------------------------------------------

    def _setup_hook(self) -> None:
        """Override to run code when a context opens, before its middleware."""

    def _teardown_hook(self, exception: BaseException | None) -> None:
        """Override to run code when a context starts to close, before its middleware; an error rolls back."""

    def _final_hook(self, exception: BaseException | None) -> None:
        """Override to run code when a context has closed; an error is logged."""

    def get_resource_exit_errors(self) -> list[tuple[type[BaseException], BaseException, TracebackType | None]]:
        """The errors that resources raised while closing, as ``sys.exc_info()`` triples."""
        return [(type(error), error, error.__traceback__) for error in self._exit_errors or ()]


def get_active_context(data_manager: Any = None) -> Context | None:
    """The current context, or None: of the given DataManager, or of the only manager that has one.

    Raises:
        ContextError: if contexts of several managers are current and no manager was passed.
    """
    if data_manager is not None:
        return data_manager.get_active_context()  # type: ignore[no-any-return]
    active = [context for manager in managers if (context := manager.get_active_context()) is not None]
    if len(active) > 1:
        raise ContextError("contexts of several DataManagers are open here; pass the one you mean")
    return active[0] if active else None


DataAccessContext = Context  # the name in polydatum 0.9.1
