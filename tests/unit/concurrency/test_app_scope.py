"""Resources of the application's scope under threads and several event loops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from polydatum import AsyncResourceError, DataManager, ResourceCycleError

Manager = DataManager[Any, Any]

pytestmark = pytest.mark.timeout(20)

THREADS = 10

on_both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Log(list[str]):
    def sync(self, name: str, *needs: str) -> Callable[[Any], Iterator[object]]:
        def generator(manager: Any) -> Iterator[object]:
            for needed in needs:
                getattr(manager, needed)
            self.append(f"open {name}")
            yield object()
            self.append(f"close {name}")

        return generator

    def async_(self, name: str, *needs: str) -> Callable[[Any], AsyncIterator[object]]:
        async def generator(manager: Any) -> AsyncIterator[object]:
            for needed in needs:
                await getattr(manager, needed)
            await anyio.lowlevel.checkpoint()
            self.append(f"open {name}")
            yield object()
            await anyio.lowlevel.checkpoint()
            self.append(f"close {name}")

        return generator

    def async_manager(self, name: str) -> Callable[[Any], contextlib.AbstractAsyncContextManager[object]]:
        return contextlib.asynccontextmanager(self.async_(name))


def managed(**app_resources: Any) -> Manager:
    manager: Manager = DataManager()
    manager.register_app_resources(**app_resources)
    return manager


def test_one_per_process_under_threads() -> None:
    """Ten threads, each with a context of its own, at a barrier: one opening, one value, also on the manager."""
    for _ in range(20):
        log = Log()
        manager = managed(engine=log.sync("engine"))
        barrier = threading.Barrier(THREADS)

        def work(_: int, manager: Manager = manager, barrier: threading.Barrier = barrier) -> object:
            barrier.wait()
            with manager.context() as ctx:
                return ctx.engine

        with ThreadPoolExecutor(THREADS) as pool:
            values = list(pool.map(work, range(THREADS)))
        assert values == [manager.engine] * THREADS
        manager.close()
        assert log == ["open engine", "close engine"]


def test_one_per_event_loop() -> None:
    """Async ones belong to their loop: five loops in five threads have one each, shared by the tasks of the loop."""
    log = Log()
    manager = managed(pool=log.async_("pool"))
    barrier = threading.Barrier(5)

    async def main() -> object:
        await asyncio.to_thread(barrier.wait, 10)

        async def touch() -> object:
            async with manager.context() as ctx:
                return await ctx.pool

        values = await asyncio.gather(*(touch() for _ in range(10)))
        assert values == [values[0]] * 10
        assert await manager.pool is values[0]
        await manager.aclose()
        return values[0]

    with ThreadPoolExecutor(5) as pool:
        values = list(pool.map(lambda _: asyncio.run(main()), range(5)))
    assert len(set(map(id, values))) == 5
    assert log.count("open pool") == log.count("close pool") == 5


def test_a_loop_that_ended_without_closing_its_own() -> None:
    """What it left is gone with it: another loop opens and closes its own, and is not told to close what it cannot."""
    log = Log()
    manager = managed(pool=log.async_("pool"))

    async def touch() -> None:
        await manager.pool

    async def touch_and_close() -> None:
        await manager.pool
        await manager.aclose()

    asyncio.run(touch())
    asyncio.run(touch_and_close())
    assert log.count("open pool") == 2
    assert log[-1] == "close pool"


class OfItsLoop:
    """As most clients do, it keeps its event loop alive."""

    def __init__(self) -> None:
        self.loop = anyio.lowlevel.current_token().native_token


async def client(manager: Any) -> AsyncIterator[OfItsLoop]:
    yield OfItsLoop()


@on_both
def test_what_a_loop_left_is_dropped_once_it_has_ended(backend: str) -> None:
    """Else every test's loop would stay, with all that it opened."""
    manager = managed(client=client)

    async def touch() -> weakref.ref[OfItsLoop]:
        return weakref.ref(await manager.client)

    left = [anyio.run(touch, backend=backend) for _ in range(3)]
    gc.collect()
    assert [one() is None for one in left] == [True, True, False]
    manager.close()
    gc.collect()
    assert left[2]() is None


@on_both
def test_a_sync_close_does_not_mind_loops_that_have_ended(backend: str) -> None:
    """Nobody could close what they left: only a loop that may still do it is asked for."""
    manager = managed(client=client)
    seen: list[object] = []

    async def touch() -> None:
        seen.append(await manager.client)

    anyio.run(touch, backend=backend)
    manager.close()

    async def other() -> None:
        await touch()
        with pytest.raises(AsyncResourceError, match="aclose"):
            manager.close()
        await manager.aclose()

    anyio.run(other, backend=backend)
    manager.close()


@on_both
@pytest.mark.parametrize("closers", [2, 3])
def test_closers_at_once_close_once(backend: str, closers: int) -> None:
    """A lifespan's and a user's own, say: the later ones wait, so that all is closed when they return, in order."""
    log = Log()

    async def main() -> None:
        manager = managed(engine=log.sync("engine"), a=log.async_("a", "b"), b=log.async_("b"))
        assert manager.engine
        await manager.a

        async def close() -> None:
            await manager.aclose()
            assert log[3:] == ["close a", "close b", "close engine"]

        async with anyio.create_task_group() as group:
            for _ in range(closers):
                group.start_soon(close)

    anyio.run(main, backend=backend)


def test_closers_of_two_threads_close_once() -> None:
    """The one that comes later returns when the other is done."""
    log = Log()
    closing, may_go_on = threading.Event(), threading.Event()

    def slow(manager: Any) -> Iterator[str]:
        yield "slow"
        closing.set()
        assert may_go_on.wait(10)
        log.append("close slow")

    manager = managed(engine=log.sync("engine"), slow=slow)
    assert manager.engine
    assert manager.slow
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(manager.close)
        assert closing.wait(10)
        second = pool.submit(manager.close)
        assert not second.done()
        may_go_on.set()
        first.result()
        second.result()
    assert log == ["open engine", "close slow", "close engine"]


@on_both
def test_a_teardown_that_closes_the_manager_is_told(backend: str) -> None:
    """It would wait for itself."""
    log = Log()

    async def again(manager: Manager) -> AsyncIterator[int]:
        yield 1
        await manager.aclose()

    async def main() -> None:
        manager = managed(pool=log.async_("pool"), again=again)
        await manager.pool
        await manager.again
        with pytest.raises(ResourceCycleError, match="close of the application's resources"):
            await manager.aclose()
        assert log == ["open pool", "close pool"]

    anyio.run(main, backend=backend)


@on_both
def test_one_under_tasks_that_touch_together(backend: str) -> None:
    """A context manager of the app scope that opens slowly is opened once, and the loop is not blocked."""
    log = Log()
    values: list[object] = []

    async def main() -> None:
        manager = managed(pool=log.async_manager("pool"))

        async def touch() -> None:
            async with manager.context() as ctx:
                values.append(await ctx.pool)

        async with anyio.create_task_group() as group:
            group.start_soon(touch)
            group.start_soon(touch)
        await manager.aclose()

    anyio.run(main, backend=backend)
    assert values == [values[0]] * 2
    assert log == ["open pool", "close pool"]


def test_dependencies_close_last() -> None:
    """Reverse of the order in which opens completed."""
    log = Log()
    manager = managed(a=log.sync("a", "b"), b=log.sync("b", "c"), c=log.sync("c"))
    assert manager.a
    manager.close()
    assert log == ["open c", "open b", "open a", "close a", "close b", "close c"]


@on_both
def test_async_ones_close_before_those_of_the_process(backend: str) -> None:
    """``aclose`` closes what belongs to the loop in reverse, then what belongs to the process."""
    log = Log()

    async def main() -> None:
        manager = managed(
            engine=log.sync("engine"), a=log.async_("a", "b"), b=log.async_("b"), settings=log.sync("settings")
        )
        async with manager.context() as ctx:
            assert ctx.engine
            await ctx.a
            assert ctx.settings
        await manager.aclose()

    anyio.run(main, backend=backend)
    assert log[4:] == ["close a", "close b", "close settings", "close engine"]


@on_both
def test_the_manager_can_be_used_again_after_a_close(backend: str) -> None:
    """What was closed opens anew, in sync and async."""
    log = Log()

    async def main() -> None:
        manager = managed(engine=log.sync("engine"), pool=log.async_("pool"))
        seen = set()
        for _ in range(3):
            async with manager.context() as ctx:
                seen.add(ctx.engine)
                seen.add(await ctx.pool)
            await manager.aclose()
            await manager.aclose()
        assert len(seen) == 6

    anyio.run(main, backend=backend)
    assert log == ["open engine", "open pool", "close pool", "close engine"] * 3


def test_a_context_that_is_open_at_the_close_of_the_manager() -> None:
    """It may go on: its next touch opens the app resource anew."""
    log = Log()
    manager = managed(engine=log.sync("engine"))
    with manager.context() as ctx:
        first = ctx.engine
        manager.close()
        assert ctx.engine is not first
    manager.close()
    assert log == ["open engine", "close engine"] * 2


def test_app_resources_outlive_contexts_and_their_failures() -> None:
    """A context that rolls back closes nothing of the application's."""
    log = Log()
    manager = managed(engine=log.sync("engine"))
    with pytest.raises(LookupError):
        with manager.context() as ctx:
            _ = ctx.engine
            raise LookupError
    assert log == ["open engine"]
    manager.close()


def test_async_ones_where_no_loop_runs() -> None:
    """An error that says so, before they run."""
    log = Log()
    manager = managed(pool=log.async_("pool"), cm=log.async_manager("cm"))
    for name in ("pool", "cm"):
        with pytest.raises(AsyncResourceError, match=f"'{name}'"):
            getattr(manager, name)
    with manager.context() as ctx:
        with pytest.raises(AsyncResourceError):
            _ = ctx.pool
    assert log == []


def test_async_ones_in_a_sync_endpoint() -> None:
    """The same in a worker thread of a loop."""
    log = Log()
    manager = managed(pool=log.async_("pool"))

    async def main() -> None:
        async with manager.context() as ctx:

            def endpoint() -> None:
                with pytest.raises(AsyncResourceError):
                    _ = ctx.pool

            await asyncio.to_thread(endpoint)

    asyncio.run(main())
    assert log == []


def test_a_sync_close_with_async_ones_open() -> None:
    """It closes what it can and says what to call."""
    log = Log()
    manager = managed(engine=log.sync("engine"), pool=log.async_("pool"))

    async def main() -> None:
        assert manager.engine
        await manager.pool
        with pytest.raises(AsyncResourceError, match=r"aclose"):
            manager.close()
        assert log[2:] == ["close engine"]
        await manager.aclose()

    asyncio.run(main())
    assert log == ["open engine", "open pool", "close engine", "close pool"]


def test_a_failed_open_leaves_nothing_behind() -> None:
    """Each thread gets the error of its own attempt; the next opens anew."""
    attempts = 0

    def engine(manager: Any) -> Iterator[str]:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise OSError(attempts)
        yield "engine"

    manager = managed(engine=engine)
    for attempt in (1, 2):
        with pytest.raises(OSError, match=str(attempt)):
            _ = manager.engine
    assert manager.engine == "engine"
    manager.close()


def test_a_loop_between_app_resources() -> None:
    """An error that names it."""
    log = Log()
    manager = managed(a=log.sync("a", "b"), b=log.sync("b", "a"))
    with pytest.raises(ResourceCycleError, match=r"a -> b -> a|b -> a -> b"):
        _ = manager.a
    assert log == []


def test_a_resource_of_a_context_may_need_one_of_the_application() -> None:
    """Under threads: the pool opens once, the connections are each context's own."""
    log = Log()
    manager = managed(pool=log.sync("pool"))

    def conn(ctx: Any) -> Iterator[object]:
        yield (ctx.pool, object())

    manager.register_resources(conn=conn)
    barrier = threading.Barrier(THREADS)

    def work(_: int) -> Any:
        barrier.wait()
        with manager.context() as ctx:
            return ctx.conn

    with ThreadPoolExecutor(THREADS) as pool:
        values = list(pool.map(work, range(THREADS)))
    assert {id(shared) for shared, _ in values} == {id(manager.pool)}
    assert len({id(own) for _, own in values}) == THREADS
    manager.close()


def test_errors_while_closing() -> None:
    """All close; the first error is raised, with the others noted on it."""
    log = Log()

    def failing(name: str) -> Callable[[Any], Iterator[str]]:
        def generator(manager: Any) -> Iterator[str]:
            yield name
            raise OSError(name)

        return generator

    manager = managed(a=failing("a"), b=log.sync("b"), c=failing("c"))
    for name in "abc":
        getattr(manager, name)
    with pytest.raises(OSError, match="c") as caught:
        manager.close()
    assert any("OSError: a" in note for note in caught.value.__notes__)
    assert log == ["open b", "close b"]
