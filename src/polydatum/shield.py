"""Async steps that complete even if their task is cancelled, in the context's own task, within a time limit.

A step is first driven by hand; one that never suspends costs nothing more. Once it suspends:

* **asyncio**: the task waits not on the step's future but on a gate of ours, so that a cancel hits the gate. It is
  remembered, and raised by the context when all steps are done. A step's own ``asyncio.timeout`` cancels the same task
  and cannot be told from a cancel from outside, so it does not fire: the teardown limit bounds the step instead.
* **anyio on asyncio** cancels repeatedly until its scope is left. So a shielded anyio scope is entered if the
  surrounding scope is already cancelled, or once such a cancel arrives; a cancel by a scope that the step itself
  opened goes to the step.
* **trio** offers no such gate: the steps run in a shielded scope from the start.

Two alternatives do not work: ``asyncio.wait_for`` loses cancels on Python 3.11 (CPython gh-86296), and a separate task
for a step would break locks that are held over a yield. anyio and trio are looked up, never imported.
"""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any, NoReturn, Protocol

from .errors import ResourceTimeoutError

MAX_CANCELS = 100


class Shield(Protocol):
    """Protects the async steps of one unwinding.

    Attributes:
        interrupted: the first cancel that arrived while a step was protected, or None.
    """

    interrupted: BaseException | None

    async def late_cancel(self) -> BaseException | None:
        """A cancel that arrived while the steps were taken and is still in force. Called after `exit`."""

    def enter(self) -> None:
        """Called before the first async step."""

    def exit(self) -> None:
        """Called after the last one, in the same task."""

    def run(self, step: Any, where: str, *, bounded: bool = True) -> Any:
        """Await a step to its end, or to the limit if ``bounded``; ``where`` names it if it has to be given up."""


class AsyncioShield:
    """Gates between the task and the futures its steps wait on.

    ``scope`` is the anyio scope around the unwinding, from `current_anyio_scope`, or None; ``cancelling`` is how often
    the task had been cancelled before the first step.
    """

    def __init__(self, limit: float, asyncio: Any, scope: Any, cancelling: int) -> None:
        self.interrupted: BaseException | None = None
        self._task = asyncio.current_task()
        self._cancelling = cancelling
        self._limit = limit
        self._asyncio = asyncio
        self._scope = scope
        self._own_scope: Any = None
        self._deadline: float | None = None

    async def late_cancel(self) -> BaseException | None:
        stands = self._task.cancelling() > self._cancelling or is_cancelled(self._scope)
        return self.interrupted if stands else None

    def enter(self) -> None:
        if self._own_scope is None and is_cancelled(self._scope):
            self._enter_own_scope()

    def exit(self) -> None:
        if self._own_scope is not None:
            scope, self._own_scope = self._own_scope, None
            scope.__exit__(None, None, None)

    def _enter_own_scope(self) -> None:
        self._own_scope = sys.modules["anyio"].CancelScope(shield=True)
        self._own_scope.__enter__()

    @types.coroutine
    def run(self, step: Any, where: str, *, bounded: bool = True) -> Generator[Any, Any, Any]:
        try:
            signal = step.send(None)
        except StopIteration as stop:
            return stop.value
        driven: Any = self.finish(step, signal, where, bounded=bounded)
        return (yield from driven)

    @types.coroutine
    def finish(self, step: Any, signal: Any, where: str, *, bounded: bool = True) -> Generator[Any, Any, Any]:
        """Drive a step that has suspended with ``signal`` to its end."""
        loop = self._asyncio.get_running_loop()
        deadline = math.inf
        if bounded:
            deadline = self._deadline = self._deadline or loop.time() + self._limit
        while True:
            forward: BaseException | None = None
            if signal is None:  # asyncio.sleep(0): one turn of the loop
                try:
                    yield
                except self._asyncio.CancelledError as cancel:
                    forward = self._sort(cancel)
                expired = loop.time() >= deadline
            else:
                expired, forward = yield from self._wait(loop, signal, deadline)
            if expired:
                self._give_up(step, signal, where)
            try:
                signal = step.send(None) if forward is None else step.throw(forward)
            except StopIteration as stop:
                return stop.value

    def _wait(self, loop: Any, future: Any, deadline: float) -> Generator[Any, Any, tuple[bool, BaseException | None]]:
        """Wait for a future behind a gate: (whether the limit came first, a cancel that is the step's own)."""
        future._asyncio_future_blocking = False  # as the task would do if it got the future
        gate: Any = None
        expired = False

        def open_gate(_: Any = None) -> None:
            if not gate.done():
                gate.set_result(None)

        def expire() -> None:
            nonlocal expired
            expired = True
            open_gate()

        while not future.done() and not expired:
            gate = loop.create_future()
            future.add_done_callback(open_gate)
            timer = loop.call_at(deadline, expire) if deadline < math.inf else None
            try:
                yield from gate
            except self._asyncio.CancelledError as cancel:
                own = self._sort(cancel)
                # As in asyncio: the step continues when the future it waits for has ended, cancelled or not.
                if own is not None and not future.cancel(*own.args):
                    return False, own
            finally:
                if timer is not None:
                    timer.cancel()
                future.remove_done_callback(open_gate)
        return expired and not future.done(), None

    def _sort(self, cancel: BaseException) -> BaseException | None:
        """Remember a cancel from outside; return one that belongs to the step."""
        outer = self._own_scope or self._scope
        scopes = _scopes_below(outer, current_anyio_scope(self._task))
        for scope in scopes:
            if scope.cancel_called:
                return cancel
            if scope.shield:
                break
        if is_cancelled(outer):
            # Keep it from cancelling repeatedly. Our scope cannot be entered inside the step's scopes, which must not
            # find a higher cancel count of the task than when they were entered.
            if scopes:
                scopes[-1].shield = True
                self._task.uncancel()
            else:
                self._enter_own_scope()
        else:
            for scope in scopes:  # a native cancel: for the same reason, count it as older than the scopes
                if hasattr(scope, "_cancelling_at_enter"):  # pragma: no branch - private, and not in every anyio
                    scope._cancelling_at_enter += 1
        if self.interrupted is None:
            self.interrupted = cancel
        return None

    def _give_up(self, step: Any, signal: Any, where: str) -> NoReturn:
        """Stop a step that is over the limit: it is cancelled wherever it waits, and gets no more time."""
        error = ResourceTimeoutError(where, self._limit)
        try:
            for _ in range(MAX_CANCELS):  # close() alone does not reach into an async generator before Python 3.13
                if signal is not None:
                    signal.cancel()
                signal = step.throw(self._asyncio.CancelledError())
            step.close()
        except (StopIteration, StopAsyncIteration, self._asyncio.CancelledError):
            pass
        except Exception as late:
            error.__context__ = late
        raise error


class TrioShield:
    """A shielded trio scope whose deadline is the limit."""

    def __init__(self, limit: float, trio: Any) -> None:
        self.interrupted: BaseException | None = None
        self._limit = limit
        self._trio = trio
        self._scope = trio.CancelScope(shield=True)

    async def late_cancel(self) -> BaseException | None:
        return await raised_by(self._trio.lowlevel.checkpoint_if_cancelled)

    def enter(self) -> None:
        self._scope.deadline = self._trio.current_time() + self._limit
        self._scope.__enter__()

    def exit(self) -> None:
        self._scope.__exit__(None, None, None)

    async def run(self, step: Any, where: str, *, bounded: bool = True) -> Any:
        if not bounded:
            with self._trio.CancelScope(shield=True):
                return await step
        try:
            return await step
        except self._trio.Cancelled as cancelled:
            raise ResourceTimeoutError(where, self._limit) from cancelled


async def raised_by(checkpoint: Callable[[], Awaitable[Any]]) -> BaseException | None:
    """The cancel that a checkpoint delivers, or None."""
    try:
        await checkpoint()
    except BaseException as cancel:
        return cancel
    return None


def current_anyio_scope(task: Any) -> Any:
    """The innermost anyio cancel scope of the running asyncio task, or None.

    anyio has no public API for it. If the private one is missing, scopes are not seen, and their cancels count as
    native ones: steps still complete, but a cancelled scope keeps the loop busy meanwhile.
    """
    backend = sys.modules.get("anyio._backends._asyncio")
    if backend is None:
        return None
    states = getattr(backend, "_task_states", None)
    if not states:
        return None
    state = states.get(task)
    return None if state is None else state.cancel_scope


def is_cancelled(scope: Any) -> bool:
    """Whether an anyio scope, or one around it that it is not shielded from, is cancelled."""
    while scope is not None:
        if scope.cancel_called:
            return True
        if scope.shield:
            return False
        scope = scope._parent_scope
    return False


def _scopes_below(outer: Any, scope: Any) -> list[Any]:
    """The anyio scopes from an inner one up to, not including, an outer one."""
    below: list[Any] = []
    while scope is not None and scope is not outer:
        below.append(scope)
        scope = scope._parent_scope
    return below
