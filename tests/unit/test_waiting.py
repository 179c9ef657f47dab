"""Waiters of every sort, woken from anywhere."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest
import trio

from polydatum.waiting import (
    AsyncioWaiter,
    ThreadWaiter,
    TrioWaiter,
    async_waiter,
    home_of_running_task,
    running_asyncio,
)


def wake_elsewhere(waiter: Any) -> None:
    """Wake it from another thread, twice."""
    for _ in range(2):
        thread = threading.Thread(target=waiter.wake)
        thread.start()
        thread.join()


def test_a_thread() -> None:
    """Goes on once woken, and does not block if it was woken before."""
    waiter = ThreadWaiter()
    wake_elsewhere(waiter)
    waiter.wait()


@pytest.mark.parametrize(("run", "kind"), [("asyncio", AsyncioWaiter), ("trio", TrioWaiter)])
def test_a_task(run: str, kind: type) -> None:
    """Goes on once woken, from any thread; waking it when its loop has ended does no harm."""
    waiters: list[Any] = []

    async def scenario() -> None:
        waiter = async_waiter()
        assert isinstance(waiter, kind)
        waiters.append(waiter)
        wake_elsewhere(waiter)
        await waiter.wait()

    asyncio.run(scenario()) if run == "asyncio" else trio.run(scenario)
    waiters[0].wake()


def test_where_code_runs() -> None:
    """The running asyncio, if there is one; the thread and task of a context."""

    async def under_asyncio() -> None:
        assert running_asyncio() is asyncio
        task = asyncio.current_task()
        assert home_of_running_task() == (threading.get_ident(), task, 0)
        assert task is not None
        task.cancel()
        assert home_of_running_task()[2] == 1
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)
        task.uncancel()

    async def under_trio() -> None:
        assert running_asyncio() is None
        assert home_of_running_task() == (threading.get_ident(), None, 0)

    asyncio.run(under_asyncio())
    trio.run(under_trio)


def test_without_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked up, never imported: trio does without it, and so does a sync program."""
    monkeypatch.delitem(sys.modules, "asyncio")
    assert running_asyncio() is None
    assert home_of_running_task() == (threading.get_ident(), None, 0)


def test_outside_of_a_task() -> None:
    """A callback of the loop belongs to none."""
    homes: list[Any] = []

    async def scenario() -> None:
        done = asyncio.Event()

        def callback() -> None:
            homes.append(home_of_running_task())
            done.set()

        asyncio.get_running_loop().call_soon(callback)
        await done.wait()

    asyncio.run(scenario())
    assert homes == [(threading.get_ident(), None, 0)]
