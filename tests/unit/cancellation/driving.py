"""Drives a coroutine and cancels it at chosen suspensions: no clock, no luck.

A *suspension* is one yield to the event loop. `Mode.run` counts them and, at the numbers it is given, cancels the
coroutine in the way of the mode, just before the event loop gets to see that suspension.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import trio

Work = Callable[[], Coroutine[Any, Any, None]]
Mark = Callable[[], Any]
Plans = Iterable[Sequence[int]]


@dataclass
class Run:
    """What one run did, seen from outside."""

    suspensions: int = 0
    error: BaseException | None = None  # what left the coroutine itself
    outside: str = "nothing"  # what arrived where the canceller stands: "cancelled", "nothing" or an error's name
    cancels: list[Any] = field(default_factory=list)  # what ``mark`` gave at each cancel
    tasks_left: int = 0
    cancelling: int = 0


Check = Callable[[Sequence[int], Run], None]


@types.coroutine
def _interrupted(
    work: Coroutine[Any, Any, None], run: Run, at: Sequence[int], cancels: Iterator[Callable[[], None]], mark: Mark
) -> Generator[Any, Any, None]:
    """Await ``work``, calling the next of ``cancels`` at each suspension whose number is in ``at``, as often as it is."""
    sent: Any = None
    thrown: BaseException | None = None
    while True:
        try:
            signal = work.send(sent) if thrown is None else work.throw(thrown)
        except StopIteration:
            return
        except BaseException as error:
            run.error = error
            raise
        run.suspensions += 1
        for _ in range(at.count(run.suspensions)):
            run.cancels.append(mark())
            next(cancels)()
        try:
            sent, thrown = (yield signal), None
        except BaseException as error:
            thrown = error


class Mode:
    """One way of cancelling, on one event loop."""

    name: str
    level_triggered = False  # a cancelled scope cancels each suspension, a native cancel one

    def run_all(self, work: Work, plans: Plans, mark: Mark, check: Check) -> int:
        """Run ``work`` once for each plan, in one event loop, and check each run; returns how many there were."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.name


class OnAsyncio(Mode):
    def run_all(self, work: Work, plans: Plans, mark: Mark, check: Check) -> int:
        async def all_of_them() -> int:
            number = 0
            for number, at in enumerate(plans, 1):  # noqa: B007 - it is returned
                run = Run()
                task = asyncio.create_task(self.once(work, run, at, mark))
                await asyncio.wait([task])
                if task.cancelled():
                    run.outside = "cancelled"
                elif (error := task.exception()) is not None:
                    run.outside = type(error).__name__
                run.tasks_left = len(asyncio.all_tasks()) - 1
                check(at, run)
            return number

        return asyncio.run(all_of_them())

    async def once(self, work: Work, run: Run, at: Sequence[int], mark: Mark) -> None:
        raise NotImplementedError


class Native(OnAsyncio):
    """``task.cancel()``."""

    name = "native"

    async def once(self, work: Work, run: Run, at: Sequence[int], mark: Mark) -> None:
        task = asyncio.current_task()
        assert task is not None
        await _interrupted(work(), run, at, iter([lambda: void(task.cancel())] * len(at)), mark)


class Timeout(OnAsyncio):
    """``asyncio.timeout()`` that expires, the inner one first; outside there is no cancel left, but a TimeoutError."""

    name = "timeout"

    async def once(self, work: Work, run: Run, at: Sequence[int], mark: Mark) -> None:
        task = asyncio.current_task()
        assert task is not None
        now = asyncio.get_running_loop().time() - 1
        try:
            async with asyncio.timeout(None) as outer, asyncio.timeout(None) as inner:
                cancels = [lambda: inner.reschedule(now), lambda: outer.reschedule(now)]
                await _interrupted(work(), run, at, iter(cancels), mark)
        finally:
            run.cancelling = task.cancelling()


class AnyioScope(OnAsyncio):
    """An anyio scope on asyncio, the inner one first."""

    name = "anyio on asyncio"
    level_triggered = True

    async def once(self, work: Work, run: Run, at: Sequence[int], mark: Mark) -> None:
        task = asyncio.current_task()
        assert task is not None
        with anyio.CancelScope() as outer:
            with anyio.CancelScope() as inner:
                await _interrupted(work(), run, at, iter([inner.cancel, outer.cancel]), mark)
                await anyio.lowlevel.checkpoint()  # a cancel at the very last suspension arrives here
            await anyio.lowlevel.checkpoint()
        run.cancelling = task.cancelling()
        await anyio.lowlevel.checkpoint()  # nothing may be left that cancels us
        if inner.cancelled_caught or outer.cancelled_caught:
            raise asyncio.CancelledError


class ScopeThenNative(OnAsyncio):
    """An anyio scope is cancelled, then the task itself."""

    name = "anyio scope, then native"
    level_triggered = True

    async def once(self, work: Work, run: Run, at: Sequence[int], mark: Mark) -> None:
        task = asyncio.current_task()
        assert task is not None
        with anyio.CancelScope() as scope:
            await _interrupted(work(), run, at, iter([scope.cancel, lambda: void(task.cancel())]), mark)
            await anyio.lowlevel.checkpoint()
        if scope.cancelled_caught:
            raise asyncio.CancelledError


class TrioScope(Mode):
    """A trio scope, the inner one first."""

    name = "trio"
    level_triggered = True

    def run_all(self, work: Work, plans: Plans, mark: Mark, check: Check) -> int:
        async def all_of_them() -> int:
            number = 0
            living = trio.lowlevel.current_statistics().tasks_living
            for number, at in enumerate(plans, 1):  # noqa: B007 - it is returned
                run = Run()
                await self.once(work, run, at, mark)
                await trio.lowlevel.checkpoint()
                run.tasks_left = trio.lowlevel.current_statistics().tasks_living - living
                check(at, run)
            return number

        return trio.run(all_of_them)

    def scope(self) -> Any:
        return trio.CancelScope()

    async def once(self, work: Work, run: Run, at: Sequence[int], mark: Mark) -> None:
        try:
            with self.scope() as outer:
                with self.scope() as inner:
                    await _interrupted(work(), run, at, iter([inner.cancel, outer.cancel]), mark)
                    await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
        except Exception as error:
            run.outside = type(error).__name__
        else:
            if inner.cancelled_caught or outer.cancelled_caught:
                run.outside = "cancelled"


class AnyioScopeOnTrio(TrioScope):
    """An anyio scope on trio, the inner one first."""

    name = "anyio on trio"

    def scope(self) -> Any:
        return anyio.CancelScope()


def set_if_pending(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def void(_: object) -> None:
    """Make a statement of an expression."""


MODES: list[Mode] = [Native(), Timeout(), AnyioScope(), ScopeThenNative(), TrioScope(), AnyioScopeOnTrio()]


# --- Suspending, on every event loop ----------------------------------------------------------------------------------


async def turn() -> None:
    """Suspend for one turn of the event loop, without waiting for anything."""
    if _in_trio():
        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)


async def wait() -> None:
    """Suspend until something else has happened: a future, or an event of trio's."""
    if _in_trio():
        event = trio.Event()
        trio.lowlevel.current_trio_token().run_sync_soon(event.set)
        await event.wait()
    else:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(set_if_pending, future)
        await future


def _in_trio() -> bool:
    return trio.lowlevel.in_trio_run()


def task() -> Any:
    """The running task."""
    return trio.lowlevel.current_task() if _in_trio() else asyncio.current_task()
