"""A resource opens at most once per context, whoever touches it first, and however that ends."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from polydatum import ContextClosedError, DataManager

Manager = DataManager[Any, Any]

THREADS = 10

on_both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def managed(**resources: Any) -> Manager:
    manager: Manager = DataManager()
    manager.register_resources(**resources)
    return manager


def in_threads(work: Callable[[int], Any], count: int = THREADS) -> list[Any]:
    """What ``work`` gives, or raises, in threads that all start at the same moment."""
    barrier = threading.Barrier(count)

    def started(number: int) -> Any:
        barrier.wait()
        try:
            return work(number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(started, range(count)))


def touch(ctx: Any, name: str, number: int) -> Any:
    return getattr(ctx, name)


def touch_own(ctx: Any, number: int) -> Any:
    return getattr(ctx, f"r{number}")


class Factory:
    """Makes a new object at each opening, and counts."""

    def __init__(self) -> None:
        self.opened: list[object] = []
        self.closed: list[object] = []

    def sync(self, ctx: Any) -> Iterator[object]:
        value = object()
        self.opened.append(value)
        try:
            yield value
        finally:
            self.closed.append(value)

    async def async_(self, ctx: Any) -> AsyncIterator[object]:
        await anyio.lowlevel.checkpoint()
        value = object()
        self.opened.append(value)
        await anyio.lowlevel.checkpoint()
        try:
            yield value
        finally:
            await anyio.lowlevel.checkpoint()
            self.closed.append(value)

    def manager(self, ctx: Any) -> contextlib.AbstractContextManager[object]:
        return contextlib.contextmanager(self.sync)(ctx)

    def async_manager(self, ctx: Any) -> contextlib.AbstractAsyncContextManager[object]:
        return contextlib.asynccontextmanager(self.async_)(ctx)


# --- Once -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["sync", "manager"])
def test_threads_that_touch_together_get_one_value(shape: str) -> None:
    """Ten threads at a barrier, many times over: one opening, one value, one closing."""
    for _ in range(50):
        factory = Factory()
        with managed(db=getattr(factory, shape)).context() as ctx:
            values = in_threads(partial(touch, ctx, "db"))
            assert values == factory.opened * THREADS
        assert factory.closed == factory.opened


def test_threads_that_open_different_resources_together() -> None:
    """Ten threads whose first touch is of ten resources, switching as often as they can: all open, all close."""
    factories = {f"r{number}": Factory() for number in range(THREADS)}
    manager = managed(**{name: factory.sync for name, factory in factories.items()})
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(50):
            with manager.context() as ctx:
                in_threads(partial(touch_own, ctx))
    finally:
        sys.setswitchinterval(interval)
    for factory in factories.values():
        assert len(factory.opened) == 50
        assert factory.closed == factory.opened


def test_threads_that_wait_for_one_that_opens() -> None:
    """Those that come while it opens wait for it, and get its value."""
    opening, waiting = threading.Event(), threading.Semaphore(0)
    opened = 0

    def db(ctx: Any) -> Iterator[int]:
        nonlocal opened
        opened += 1
        opening.set()
        for _ in range(THREADS - 1):
            assert waiting.acquire(timeout=10)
        yield opened

    with managed(db=db).context() as ctx:

        def work(number: int) -> Any:
            if number:
                assert opening.wait(10)
                waiting.release()
            return ctx.db

        assert in_threads(work) == [1] * THREADS


@on_both
@pytest.mark.timeout(10)
@pytest.mark.parametrize(("shape", "count"), [("async_", 100), ("async_manager", 2)])
def test_tasks_that_touch_together_get_one_value(backend: str, shape: str, count: int) -> None:
    """One opening, one value, one closing; the event loop is never blocked."""
    factory = Factory()
    values: list[object] = []

    async def main() -> None:
        async with managed(db=getattr(factory, shape)).context() as ctx:

            async def work() -> None:
                values.append(await ctx.db)

            async with anyio.create_task_group() as group:
                for _ in range(count):
                    group.start_soon(work)

    anyio.run(main, backend=backend)
    assert values == factory.opened * count
    assert factory.closed == factory.opened


def test_gather_gets_one_value() -> None:
    """The names of async resources are awaitables that may be gathered as they are."""
    factory = Factory()

    async def main() -> list[object]:
        async with managed(db=factory.async_).context() as ctx:

            async def touch() -> object:
                return await ctx.db

            return await asyncio.gather(*(touch() for _ in range(20)))

    assert asyncio.run(main()) == factory.opened * 20


@on_both
@pytest.mark.parametrize("shape", ["async_", "async_manager"])
def test_the_name_of_an_async_resource_is_awaited_every_time(backend: str, shape: str) -> None:
    """Opened or not, the name gives an awaitable of the one value; so does an awaitable that was kept."""
    factory = Factory()

    async def main() -> None:
        async with managed(db=getattr(factory, shape)).context() as ctx:
            kept = ctx.db
            values = [await ctx.db, await ctx.db, await kept, await kept]
        assert values == factory.opened * 4

    anyio.run(main, backend=backend)


def test_a_sync_resource_of_an_async_context_touched_by_threads_and_tasks() -> None:
    """The loop's thread and worker threads share one value."""
    factory = Factory()

    async def main() -> None:
        async with managed(db=factory.sync).context() as ctx:

            def touch() -> object:
                return ctx.db

            values = await asyncio.gather(*(asyncio.to_thread(touch) for _ in range(THREADS)))
            assert [*values, ctx.db] == factory.opened * (THREADS + 1)

    asyncio.run(main())
    assert factory.closed == factory.opened


def test_contexts_open_their_own() -> None:
    """Contexts in threads at the same time share nothing."""
    factory = Factory()
    manager = managed(db=factory.sync)

    def work(number: int) -> object:
        with manager.context() as ctx:
            assert ctx.db is ctx.db
            return ctx.db

    values = in_threads(work)
    assert len(set(map(id, values))) == THREADS
    assert len(factory.opened) == len(factory.closed) == THREADS


# --- Failing ----------------------------------------------------------------------------------------------------------


class Refused(Exception):
    """What a connection raises."""


def test_each_thread_gets_the_error_of_its_own_attempt() -> None:
    """A failed open leaves nothing behind: the next waiter opens anew, and errors come out as they are."""
    errors: list[Refused] = []

    def db(ctx: Any) -> Iterator[str]:
        error = Refused(len(errors))
        errors.append(error)
        if len(errors) < THREADS:
            raise error
        yield "db"

    with managed(db=db).context() as ctx:
        results = in_threads(lambda number: ctx.db)
        assert results.count("db") == 1
        assert sorted(map(id, errors[:-1])) == sorted(id(error) for error in results if error != "db")
        assert ctx.db == "db"


@on_both
def test_each_task_gets_the_error_of_its_own_attempt(backend: str) -> None:
    """The same for tasks: failed ones get their own error, the next in line opens, the rest share what it opened."""
    errors: list[Refused] = []
    results: list[Any] = []

    async def db(ctx: Any) -> AsyncIterator[str]:
        await anyio.lowlevel.checkpoint()
        if len(errors) < 3:
            errors.append(Refused())
            raise errors[-1]
        yield "db"

    async def main() -> None:
        async with managed(db=db).context() as ctx:

            async def work() -> None:
                try:
                    results.append(await ctx.db)
                except Refused as error:
                    results.append(error)

            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(work)

    anyio.run(main, backend=backend)
    assert [result for result in results if result != "db"] == errors
    assert results.count("db") == 7


def test_a_base_exception_while_opening_leaves_nothing_behind() -> None:
    """KeyboardInterrupt in a setup reaches its caller; the resource can be opened afterwards."""
    attempts = 0

    def db(ctx: Any) -> Iterator[str]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise KeyboardInterrupt
        yield "db"

    with managed(db=db).context() as ctx:
        with pytest.raises(KeyboardInterrupt):
            _ = ctx.db
        assert "db" not in ctx
        assert ctx.db == "db"
    assert attempts == 2


# --- Cancelled --------------------------------------------------------------------------------------------------------


@on_both
def test_a_cancelled_open_leaves_nothing_behind(backend: str) -> None:
    """Its own cleanup runs, the resource counts as not open, and a later touch opens it."""
    log: list[str] = []

    async def db(ctx: Any) -> AsyncIterator[str]:
        log.append("setting up")
        try:
            if log.count("setting up") == 1:
                await anyio.sleep_forever()
            yield "db"
        finally:
            log.append("cleaned up")

    async def main() -> None:
        async with managed(db=db).context() as ctx:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(anyio.lowlevel.checkpoint)
                    scope.cancel()
                    await ctx.db
            assert scope.cancelled_caught
            assert "db" not in ctx
            assert log == ["setting up", "cleaned up"]
            assert await ctx.db == "db"

    anyio.run(main, backend=backend)
    assert log == ["setting up", "cleaned up"] * 2


@on_both
def test_the_next_waiter_opens_when_the_opener_is_cancelled(backend: str) -> None:
    """Nobody waits for an opener that is gone."""
    attempts = 0
    results: list[str] = []

    async def db(ctx: Any) -> AsyncIterator[str]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await anyio.sleep_forever()
        yield f"attempt {attempts}"

    async def main() -> None:
        async with managed(db=db).context() as ctx:

            async def work() -> None:
                results.append(await ctx.db)

            async def opener() -> None:
                with scope:
                    await work()

            scope = anyio.CancelScope()
            async with anyio.create_task_group() as group:
                group.start_soon(opener)
                await anyio.wait_all_tasks_blocked()
                for _ in range(3):
                    group.start_soon(work)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
            assert scope.cancelled_caught

    anyio.run(main, backend=backend)
    assert results == ["attempt 2"] * 3


@on_both
def test_a_cancelled_waiter_disturbs_nobody(backend: str) -> None:
    """The opener finishes, the other waiters get the value."""
    factory = Factory()
    results: list[object] = []

    async def main() -> None:
        released = anyio.Event()

        async def db(ctx: Any) -> AsyncIterator[object]:
            await released.wait()
            async for value in factory.async_(ctx):
                yield value

        async with managed(db=db).context() as ctx:

            async def work() -> None:
                results.append(await ctx.db)

            async def cancelled_work() -> None:
                with anyio.CancelScope() as scope:
                    scopes.append(scope)
                    await work()

            scopes: list[anyio.CancelScope] = []
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await anyio.wait_all_tasks_blocked()
                group.start_soon(cancelled_work)
                group.start_soon(work)
                await anyio.wait_all_tasks_blocked()
                scopes[0].cancel()
                await anyio.wait_all_tasks_blocked()
                released.set()

    anyio.run(main, backend=backend)
    assert results == factory.opened * 2


def test_native_cancel_of_an_opener_in_gather() -> None:
    """A cancelled child of gather is the opener: the other child opens anew and gets its value."""
    attempts = 0

    async def db(ctx: Any) -> AsyncIterator[str]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await asyncio.Event().wait()
        yield "db"

    async def main() -> None:
        async with managed(db=db).context() as ctx:

            async def work() -> str:
                value: str = await ctx.db
                return value

            first, second = asyncio.create_task(work()), asyncio.create_task(work())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            first.cancel()
            results = await asyncio.gather(first, second, return_exceptions=True)
            assert [type(result) for result in results] == [asyncio.CancelledError, str]

    asyncio.run(main())
    assert attempts == 2


def test_a_resource_may_be_touched_from_a_trio_worker_thread() -> None:
    """trio's threads are like any others."""
    factory = Factory()

    async def main() -> None:
        async with managed(db=factory.sync).context() as ctx:

            def touch() -> object:
                return ctx.db

            values = [await trio.to_thread.run_sync(touch) for _ in range(3)]
            assert [*values, ctx.db] == factory.opened * 4

    trio.run(main)
    assert factory.closed == factory.opened


def test_a_waiter_in_a_loop_that_is_over_does_not_disturb_the_opener() -> None:
    """A trio run gave up waiting for an opener in a thread it abandoned: the late opener closes what it opened."""
    inside, go, over = threading.Event(), threading.Event(), threading.Event()
    log: list[Any] = []

    def db(ctx: Any) -> Iterator[str]:
        inside.set()
        assert go.wait(10)
        try:
            yield "db"
        except ContextClosedError:
            log.append("closed by the opener")
            raise

    manager: Manager = DataManager(teardown_timeout=0.01)
    manager.register_resources(db=db)

    def touch(ctx: Any) -> None:
        try:
            log.append(ctx.db)
        except Exception as error:
            log.append(type(error))
        finally:
            over.set()

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                async with manager.context() as ctx:

                    async def endpoint() -> None:
                        await trio.to_thread.run_sync(touch, ctx, abandon_on_cancel=True)

                    nursery.start_soon(endpoint)
                    await trio.to_thread.run_sync(inside.wait)
                    scope.cancel()

    trio.run(main)
    go.set()
    assert over.wait(10)
    assert log == ["closed by the opener", ContextClosedError]
