"""Waiting for another thread or task, from a thread, asyncio or trio."""

from __future__ import annotations

import sys
import threading
from threading import get_ident
from typing import Any, Protocol


class Waiter(Protocol):
    """Something that can be woken, once, from any thread."""

    def wake(self) -> None: ...


class ThreadWaiter:
    """Blocks its thread until woken."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def wake(self) -> None:
        self._event.set()

    def wait(self) -> None:
        self._event.wait()


class AsyncioWaiter:
    """Suspends its asyncio task until woken."""

    def __init__(self, asyncio: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken = self._loop.create_future()

    def _set(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)

    def wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._set)
        except RuntimeError:
            pass  # its loop is closed, so nothing waits any more

    async def wait(self) -> None:
        await self._woken


class TrioWaiter:
    """Suspends its trio task until woken."""

    def __init__(self, trio: Any) -> None:
        self._event = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    def wake(self) -> None:
        try:
            self._token.run_sync_soon(self._event.set)
        except sys.modules["trio"].RunFinishedError:
            pass  # as above

    async def wait(self) -> None:
        await self._event.wait()


def running_asyncio() -> Any:
    """The asyncio module if this thread runs an asyncio loop, else None. Looked up, never imported."""
    asyncio = sys.modules.get("asyncio")
    return asyncio if asyncio is not None and asyncio._get_running_loop() is not None else None


def running_loop() -> Any:
    """The running event loop of this thread: asyncio's loop, or trio's token; None if no loop runs."""
    asyncio = running_asyncio()
    if asyncio is not None:
        return asyncio.get_running_loop()
    trio = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None


def running_task() -> Any:
    """The task that this code runs in, of asyncio or trio; None outside of both."""
    asyncio = running_asyncio()
    if asyncio is not None:
        return asyncio.current_task()
    try:
        return sys.modules["trio"].lowlevel.current_task()
    except (KeyError, RuntimeError):
        return None


def has_ended(loop: Any) -> bool:
    """Whether a loop that `running_loop` once returned can never run again."""
    is_closed = getattr(loop, "is_closed", None)
    if is_closed is not None:
        return bool(is_closed())
    try:
        loop.run_sync_soon(_nothing, idempotent=True)  # a token offers no other way to tell
    except sys.modules["trio"].RunFinishedError:
        return True
    return False


def _nothing() -> None:
    pass


def home_of_running_task() -> tuple[int, Any, int]:
    """The thread of this code, its asyncio task (None on trio), and how often that task has been cancelled so far."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no asyncio loop
            pass
        else:
            return get_ident(), task, 0 if task is None else task.cancelling()
    return get_ident(), None, 0


def async_waiter() -> AsyncioWaiter | TrioWaiter:
    """A waiter for the running task."""
    asyncio = running_asyncio()
    return AsyncioWaiter(asyncio) if asyncio is not None else TrioWaiter(sys.modules["trio"])
