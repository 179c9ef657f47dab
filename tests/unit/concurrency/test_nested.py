"""`ctx.nested()` beside other tasks and threads: what a rollback of the block would undo unseen is refused."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from polydatum import ConcurrentBlockError, DataManager, bind


@pytest.fixture
def dm() -> DataManager[Any, Any]:
    return DataManager()


class Block:
    """A block that another task holds open."""

    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx
        self.entered, self.done = anyio.Event(), anyio.Event()

    async def hold(self) -> None:
        async with self._ctx.nested():
            self.entered.set()
            await self.done.wait()


@pytest.mark.anyio
async def test_a_block_beside_that_of_another_task_is_refused(dm: DataManager[Any, Any]) -> None:
    async with dm.context() as ctx, anyio.create_task_group() as tasks:
        block = Block(ctx)
        tasks.start_soon(block.hold)
        await block.entered.wait()
        with pytest.raises(ConcurrentBlockError, match=r"^nested\(\): another task or thread is in a nested\(\) block"):
            await ctx.nested().__aenter__()
        block.done.set()
    assert ctx.outcome == "committed"


@pytest.mark.anyio
@pytest.mark.parametrize("event", ["before_commit", "on_commit", "on_rollback"])
async def test_so_is_a_hook_which_the_block_would_take_for_one_of_its_own(
    dm: DataManager[Any, Any], event: str
) -> None:
    async with dm.context() as ctx, anyio.create_task_group() as tasks:
        block = Block(ctx)
        tasks.start_soon(block.hold)
        await block.entered.wait()
        with pytest.raises(ConcurrentBlockError, match=event):
            getattr(ctx, event)(print)
        block.done.set()


@pytest.mark.anyio
async def test_siblings_in_one_block_are_beside_each_other_and_their_parent_is_beside_them(
    dm: DataManager[Any, Any],
) -> None:
    async def beside(ctx: Any) -> None:
        with pytest.raises(ConcurrentBlockError):
            await ctx.nested().__aenter__()

    async with dm.context() as ctx:
        async with ctx.nested():
            async with anyio.create_task_group() as tasks:
                block = Block(ctx)
                tasks.start_soon(block.hold)
                await block.entered.wait()
                tasks.start_soon(beside, ctx)
                await beside(ctx)
                await anyio.lowlevel.checkpoint()
                block.done.set()
            async with ctx.nested():
                pass


async def in_a_block(ctx: Any, ran: list[int]) -> None:
    async with ctx.nested():
        ctx.on_commit(lambda: ran.append(1))


def test_a_task_that_was_started_in_a_block_is_inside_of_it(dm: DataManager[Any, Any]) -> None:
    async def main() -> None:
        async with dm.context() as ctx:
            async with ctx.nested():
                await asyncio.create_task(in_a_block(ctx, ran))
                await asyncio.wait_for(in_a_block(ctx, ran), 5)  # a task of its own before Python 3.12
            await asyncio.gather(in_a_block(ctx, ran))

    ran: list[int] = []
    asyncio.run(main())
    assert ran == [1, 1, 1]


@pytest.mark.anyio
async def test_two_threads_of_an_async_context_may_enter_a_block_and_leave_it(dm: DataManager[Any, Any]) -> None:
    """So FastAPI runs a sync dependency that yields inside of one, and the endpoint in between."""
    async with dm.context() as ctx:
        block = ctx.nested()
        await anyio.to_thread.run_sync(block.__enter__)
        await in_a_block(ctx, [])
        await anyio.to_thread.run_sync(block.__exit__, None, None, None)
        await in_a_block(ctx, [])
    assert ctx.outcome == "committed"


def test_a_thread_beside_the_block_of_another_is_refused_and_one_started_inside_is_not(
    dm: DataManager[Any, Any],
) -> None:
    with dm.context() as ctx, ThreadPoolExecutor() as pool:
        beside = bind(lambda: ctx.nested().__enter__())
        with ctx.nested():
            inside = bind(lambda: ctx.on_commit(lambda: None))
            pool.submit(inside).result()
            with pytest.raises(ConcurrentBlockError):
                pool.submit(beside).result()
        pool.submit(beside).result()


def test_a_block_takes_off_what_an_abandoned_thread_has_left_on_it(dm: DataManager[Any, Any]) -> None:
    with dm.context() as ctx, ThreadPoolExecutor() as pool:
        with ctx.nested():
            abandoned = ctx.nested()
            pool.submit(bind(abandoned.__enter__)).result()
        with ctx.nested():
            abandoned.__exit__(None, None, None)
            with pytest.raises(ConcurrentBlockError):
                pool.submit(ctx.on_commit, print).result()


def test_a_block_may_be_left_in_a_copy_of_its_context(dm: DataManager[Any, Any]) -> None:
    with dm.context() as ctx, ThreadPoolExecutor() as pool:
        block = ctx.nested()
        block.__enter__()
        pool.submit(bind(lambda: block.__exit__(None, None, None))).result()
        with ctx.nested():
            ctx.on_commit(lambda: None)
