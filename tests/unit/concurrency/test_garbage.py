"""Nothing is left behind: no cycles on clean and vetoed contexts, and flat counts over 10,000 of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
import threading
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import anyio.lowlevel
import pytest
import trio

from polydatum import DataManager

Manager = DataManager[Any, Any]

CONTEXTS = 10_000


@pytest.fixture(scope="module", autouse=True)
def _without_the_past() -> None:
    """What other tests have left is neither looked through each time, nor counted, nor may it go meanwhile."""
    gc.collect()
    gc.freeze()


class Transaction:
    kind = "authority"

    def prepare(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def close(self) -> None: ...


class Effect:
    kind = "effect"

    async def prepare(self) -> None: ...
    async def commit(self) -> None: ...
    async def rollback(self) -> None: ...
    async def close(self) -> None: ...


def sync(ctx: Any) -> Iterator[object]:
    try:
        yield object()
    except BaseException:
        raise
    finally:
        pass


async def async_(ctx: Any) -> AsyncIterator[object]:
    try:
        yield object()
    except BaseException:
        raise
    finally:
        pass


async def suspending(ctx: Any) -> AsyncIterator[object]:
    await anyio.lowlevel.checkpoint()
    try:
        yield object()
    finally:
        await anyio.lowlevel.checkpoint()


def middleware(ctx: Any) -> Iterator[None]:
    try:
        yield
    except BaseException:
        raise


async def async_middleware(ctx: Any) -> AsyncIterator[None]:
    yield


def plain() -> Manager:
    manager: Manager = DataManager()
    manager.register_resources(sync=sync, cm=contextlib.contextmanager(sync), async_=async_, suspending=suspending)
    manager.register_resources(acm=contextlib.asynccontextmanager(async_))
    return manager


def elaborate() -> Manager:
    manager = plain()
    manager.register_resources(tx=lambda ctx: Transaction(), effect=lambda ctx: Effect())
    manager.register_context_middleware(middleware)
    return manager


def elaborate_async() -> Manager:
    manager = elaborate()
    manager.register_context_middleware(async_middleware)
    return manager


def hook() -> None: ...


async def async_hook() -> None: ...


# --- Works: one context each ------------------------------------------------------------------------------------------


def clean(manager: Manager) -> None:
    with manager.context(meta={"user": "ann"}) as ctx:
        assert ctx.sync is ctx.sync
        assert ctx.cm
        assert ctx.meta.user == "ann"


def with_everything(manager: Manager) -> None:
    with manager.context() as ctx:
        assert ctx.sync
        assert ctx.tx
        ctx.before_commit(hook)
        ctx.on_commit(hook)


def vetoed(manager: Manager) -> None:
    with manager.context() as ctx:
        assert ctx.sync
        assert ctx.cm
        ctx.set_rollback_only("because")
        ctx.on_rollback(hook)


def vetoed_by_status(manager: Manager) -> None:
    ctx = manager.context()
    ctx.open()
    assert ctx.sync
    assert ctx.close(status=409) == "rolled_back"


def nested(manager: Manager) -> None:
    with manager.context() as outer, manager.context() as inner:
        assert outer.sync is not inner.sync


async def clean_async(manager: Manager) -> None:
    async with manager.context() as ctx:
        assert ctx.sync
        assert await ctx.async_ is await ctx.async_
        await ctx.suspending
        await ctx.acm


async def with_everything_async(manager: Manager) -> None:
    async with manager.context() as ctx:
        assert ctx.sync
        assert ctx.tx
        await ctx.effect
        await ctx.suspending
        ctx.before_commit(async_hook)
        ctx.on_commit(async_hook)


async def vetoed_async(manager: Manager) -> None:
    async with manager.context() as ctx:
        assert ctx.sync
        await ctx.suspending
        await ctx.acm
        ctx.set_rollback_only("because")
        ctx.on_rollback(async_hook)


async def vetoed_by_status_async(manager: Manager) -> None:
    ctx = manager.context()
    await ctx.aopen()
    await ctx.suspending
    assert await ctx.aclose(status=409) == "rolled_back"


Work = tuple[Callable[[], Manager], Callable[[Manager], Any]]

SYNC: list[Work] = [
    (plain, clean),
    (elaborate, clean),
    (elaborate, with_everything),
    (plain, vetoed),
    (elaborate, vetoed),
    (plain, vetoed_by_status),
    (elaborate, vetoed_by_status),
    (plain, nested),
]
ASYNC: list[Work] = [
    (plain, clean_async),
    (elaborate_async, clean_async),
    (elaborate_async, with_everything_async),
    (plain, vetoed_async),
    (elaborate_async, vetoed_async),
    (plain, vetoed_by_status_async),
    (elaborate_async, vetoed_by_status_async),
]


def named(work: Work) -> str:
    return f"{work[0].__name__}-{work[1].__name__}"


@contextlib.contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def run_async(backend: str, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(main()) if backend == "asyncio" else trio.run(main)


# --- No cycles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("work", SYNC, ids=named)
def test_no_cyclic_garbage_in_sync(work: Work) -> None:
    """The collector finds nothing at all after a hundred contexts."""
    make, one = work
    manager = make()
    one(manager)
    with no_collector():
        for _ in range(100):
            one(manager)
        assert gc.collect() == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("work", ASYNC, ids=named)
def test_no_cyclic_garbage_in_async(work: Work, backend: str) -> None:
    """The same for async contexts, seen from inside of the running loop."""
    make, one = work
    manager = make()

    async def main() -> int:
        await one(manager)
        with no_collector():
            for _ in range(100):
                await one(manager)
            return gc.collect()

    assert run_async(backend, main) == 0


def test_no_cyclic_garbage_in_threads() -> None:
    """Sync resources that open and close in worker threads leave no cycles, either."""
    manager = plain()

    async def main() -> int:
        async def one() -> None:
            async with manager.context() as ctx:
                await asyncio.to_thread(lambda: ctx.sync)

        for _ in range(20):  # until the pools have all their threads
            await one()
        with no_collector():
            for _ in range(50):
                await one()
            return gc.collect()

    # asyncio's own futures of threads may take part in a few cycles; ours would be fifty contexts with all they hold
    assert asyncio.run(main()) < 50


def test_a_context_is_freed_when_it_is_dropped() -> None:
    """Without any collector: open, used, closed and gone."""
    manager = elaborate()
    with no_collector():
        for wish in (lambda ctx: None, lambda ctx: ctx.set_rollback_only()):
            ctx = manager.context()
            with ctx:
                assert ctx.sync
                assert ctx.tx
                wish(ctx)
            reference = weakref.ref(ctx)
            del ctx
            assert reference() is None


# --- Flat counts ------------------------------------------------------------------------------------------------------


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def assert_flat(before: int, after: int) -> None:
    """A handful of objects may come from caches and the test itself; ten thousand contexts would leave as many."""
    assert after - before < 50, f"{after - before} objects more"


@pytest.mark.parametrize("work", [(elaborate, clean), (elaborate, vetoed)], ids=named)
def test_flat_over_10_000_contexts_in_sync(work: Work) -> None:
    """As many objects as before."""
    make, one = work
    manager = make()
    for _ in range(100):
        one(manager)
    before = objects()
    for _ in range(CONTEXTS):
        one(manager)
    assert_flat(before, objects())


def test_flat_memory() -> None:
    """What is no object of the collector's stays flat, too: under 16 bytes a context."""
    manager = elaborate()
    for _ in range(100):
        vetoed(manager)
    tracemalloc.start()
    try:
        objects()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1_000):
            vetoed(manager)
        objects()
        assert tracemalloc.get_traced_memory()[0] - before < 16_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_flat_over_10_000_contexts_in_async(backend: str) -> None:
    """The same in one event loop; tasks and threads are counted, too."""
    manager = elaborate_async()

    async def main() -> None:
        for _ in range(100):
            await clean_async(manager)
        before, threads = objects(), threading.active_count()
        for _ in range(CONTEXTS if backend == "asyncio" else CONTEXTS // 5):
            await clean_async(manager)
        assert_flat(before, objects())
        assert threading.active_count() <= threads  # one that another test has left may end meanwhile
        if backend == "asyncio":
            assert len(asyncio.all_tasks()) == 1

    run_async(backend, main)


def test_flat_over_contexts_that_fail(caplog: pytest.LogCaptureFixture) -> None:
    """Errors, failed opens and cancels in turn: what they leave, the collector takes."""
    caplog.set_level(logging.CRITICAL, logger="polydatum")
    manager = elaborate()

    def broken(ctx: Any) -> Iterator[str]:
        raise OSError
        yield

    def breaking(ctx: Any) -> Iterator[str]:
        yield "breaking"
        raise OSError

    manager.register_resources(broken=broken, breaking=breaking)

    def one() -> None:
        with contextlib.suppress(OSError), manager.context() as ctx:
            _ = ctx.broken
        with contextlib.suppress(OSError), manager.context() as ctx:
            _ = ctx.breaking
        with contextlib.suppress(LookupError), manager.context() as ctx:
            assert ctx.sync
            raise LookupError

    for _ in range(50):
        one()
    before = objects()
    for _ in range(500):
        one()
    assert_flat(before, objects())


def test_flat_over_cancelled_contexts() -> None:
    """A thousand tasks that are cancelled inside of their context."""
    manager = elaborate_async()

    async def work() -> None:
        async with manager.context() as ctx:
            await ctx.suspending
            await asyncio.Event().wait()

    async def main() -> None:
        async def batch() -> None:
            tasks = [asyncio.create_task(work()) for _ in range(100)]
            for _ in range(5):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert all(task.cancelled() for task in tasks)

        await batch()
        before = objects()
        for _ in range(10):
            await batch()
        assert_flat(before, objects())

    asyncio.run(main())


def test_waiting_closers_and_openers_are_let_go() -> None:
    """Nobody stays on a list of ours once he has been woken."""
    from polydatum import opening

    manager = plain()

    async def main() -> None:
        async with manager.context() as ctx:

            async def touch() -> None:
                await ctx.suspending

            await asyncio.gather(*(touch() for _ in range(10)))
        await asyncio.gather(*(ctx.aclose() for _ in range(10)))
        assert opening.waits == []

    asyncio.run(main())


def test_closing_does_not_keep_the_exception_of_the_body() -> None:
    """The outcome keeps type, message and place of an error, not the error with its frames."""
    manager = elaborate()

    class Failure(Exception):
        pass

    kept: list[Any] = []

    def work() -> weakref.ref[BaseException]:
        ctx = manager.context()
        kept.append(ctx)
        try:
            with ctx:
                assert ctx.sync
                raise Failure
        except Failure as error:
            return weakref.ref(error)

    reference = work()
    gc.collect()
    assert sys.exc_info() == (None, None, None)
    assert reference() is None
    assert [record.type for record in kept[0].outcome.errors] == [Failure]
