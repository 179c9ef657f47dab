"""Nobody sees another one's context: canaries under tasks, threads and copied execution contexts."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from polydatum import ContextClosedError, DataAccessLayer, DataManager, NoActiveContextError, Service

TASKS = 200
THREADS = 8

on_both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Canaries(Service[Any]):
    """Three ways to see who one is: the meta, a resource that was made for it, and a nested call."""

    def seen(self) -> tuple[Any, Any, Any]:
        return self._ctx.meta.user, self._ctx.db, self._dal.nested.user()

    async def seen_async(self) -> tuple[Any, Any, Any]:
        value = await self._ctx.pg
        await anyio.lowlevel.checkpoint()
        return self._ctx.meta.user, value, self._dal.nested.user()


class Nested(Service[Any]):
    def user(self) -> Any:
        return self._ctx.meta.user


class CanaryDAL(DataAccessLayer):
    canaries = Canaries()
    nested = Nested()


def db(ctx: Any) -> Iterator[Any]:
    yield ctx.meta.user


async def pg(ctx: Any) -> AsyncIterator[Any]:
    await anyio.lowlevel.checkpoint()
    yield ctx.meta.user


def managed() -> DataManager[Any, Any]:
    manager: DataManager[Any, Any] = DataManager(CanaryDAL)
    manager.register_resources(db=db, pg=pg)
    return manager


@on_both
@pytest.mark.parametrize("middleware", [False, True])
def test_tasks_see_only_their_own_context(backend: str, middleware: bool) -> None:
    """200 tasks, each with contexts in a row and one inside another, suspending in between."""
    manager = managed()
    if middleware:

        def around(call: Any) -> Any:
            assert manager.require_active_context() is call.context
            result = yield
            return result

        manager.register_method_middleware(around)
    dal = manager.get_dal()
    checked = 0

    async def work(number: int) -> None:
        nonlocal checked
        turns = random.Random(number)
        for round_ in range(3):
            mine = f"user {number}.{round_}"
            async with manager.context(meta={"user": mine}):
                for _ in range(turns.randrange(3)):
                    await anyio.lowlevel.checkpoint()
                assert dal.canaries.seen() == (mine,) * 3
                async with manager.context(meta={"user": f"inner {mine}"}):
                    await anyio.lowlevel.checkpoint()
                    assert await dal.canaries.seen_async() == (f"inner {mine}",) * 3
                assert await dal.canaries.seen_async() == (mine,) * 3
                assert await anyio.to_thread.run_sync(dal.nested.user) == mine
                checked += 1
            with pytest.raises(NoActiveContextError):
                dal.canaries.seen()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(TASKS):
                group.start_soon(work, number)

    anyio.run(main, backend=backend)
    assert checked == 3 * TASKS


def test_threads_see_only_their_own_context() -> None:
    """Eight threads in lockstep, 250 contexts each."""
    manager = managed()
    dal = manager.get_dal()
    barrier = threading.Barrier(THREADS)

    def work(number: int) -> int:
        checked = 0
        for round_ in range(250):
            mine = f"user {number}.{round_}"
            if round_ % 50 == 0:
                barrier.wait(10)
            with manager.context(meta={"user": mine}):
                assert dal.canaries.seen() == (mine,) * 3
                with manager.dal(meta={"user": "inner"}) as inner:
                    assert inner.canaries.seen() == ("inner",) * 3
                assert dal.canaries.seen() == (mine,) * 3
                checked += 1
            assert manager.get_active_context() is None
        return checked

    with ThreadPoolExecutor(THREADS) as pool:
        assert sum(pool.map(work, range(THREADS))) == 250 * THREADS


def test_managers_are_apart() -> None:
    """Contexts of two managers may be open at once; each DAL answers in its own."""
    first, second = managed(), managed()
    with first.context(meta={"user": "first"}), second.context(meta={"user": "second"}):
        assert first.get_dal().canaries.seen() == ("first",) * 3
        assert second.get_dal().canaries.seen() == ("second",) * 3
    with first.context(meta={"user": "first"}):
        with pytest.raises(NoActiveContextError):
            second.get_dal().canaries.seen()


def test_child_tasks_share_the_context_of_their_parent() -> None:
    """gather in one context: one context, one connection."""
    manager = managed()

    async def main() -> None:
        async with manager.context(meta={"user": "parent"}):
            seen = await asyncio.gather(*(manager.get_dal().canaries.seen_async() for _ in range(50)))
            assert set(seen) == {("parent",) * 3}

    asyncio.run(main())


def test_a_child_task_that_opens_its_own_context_does_not_change_its_parent() -> None:
    """A variable set in a child task stays there."""
    manager = managed()

    async def child() -> None:
        async with manager.context(meta={"user": "child"}):
            await asyncio.sleep(0)
            assert manager.get_dal().nested.user() == "child"

    async def main() -> None:
        async with manager.context(meta={"user": "parent"}) as ctx:
            await asyncio.gather(*(child() for _ in range(10)))
            assert manager.get_active_context() is ctx
            assert manager.get_dal().nested.user() == "parent"

    asyncio.run(main())


def test_a_raw_executor_does_not_inherit_the_context() -> None:
    """``run_in_executor`` copies no variables: an error that says there is no context, never somebody else's."""
    manager = managed()
    dal = manager.get_dal()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            for number in range(5):
                async with manager.context(meta={"user": number}):
                    with pytest.raises(NoActiveContextError):
                        await loop.run_in_executor(pool, dal.canaries.seen)
                    assert await asyncio.to_thread(dal.nested.user) == number
                    copied = contextvars.copy_context()
                    assert await loop.run_in_executor(pool, copied.run, dal.nested.user) == number

    asyncio.run(main())


@on_both
def test_a_task_that_outlives_its_context_sees_no_other(backend: str) -> None:
    """A hundred background tasks, started by contexts that have closed, while others are open."""
    manager = managed()
    refused = 0

    async def main() -> None:
        closed = anyio.Event()

        async def background() -> None:
            nonlocal refused
            await closed.wait()
            with pytest.raises(ContextClosedError):
                manager.get_dal().canaries.seen()
            refused += 1

        async with anyio.create_task_group() as group:
            async with manager.context(meta={"user": "outer"}):
                for number in range(100):
                    async with manager.context(meta={"user": number}):
                        group.start_soon(background)
                async with manager.context(meta={"user": "other"}):
                    closed.set()
                    await anyio.wait_all_tasks_blocked()

    anyio.run(main, backend=backend)
    assert refused == 100


def test_a_generator_that_holds_a_context_between_its_steps() -> None:
    """Two generators that take turns, each with a context: what is current is the one opened last, and nothing breaks."""
    manager = managed()

    def holding(user: str) -> Generator[Any, None, None]:
        with manager.context(meta={"user": user}) as ctx:
            yield ctx

    first, second = holding("first"), holding("second")
    one, two = next(first), next(second)
    active: Any = manager.get_active_context()
    assert active is two
    first.close()
    assert one.state == "closed"
    active = manager.get_active_context()
    assert active is two
    second.close()
    assert two.state == "closed"
    assert manager.get_active_context() is None
