"""Native cancels of asyncio: lost ones, many, under timeouts and task groups, and locks held over a yield."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
import pytest

from polydatum import DataManager

Manager = DataManager[Any, Any]


def managed(*, hooks: bool = False, **resources: Any) -> Manager:
    """A manager; with ``hooks``, one whose contexts end by the policy instead of the clean path."""
    manager: Manager = DataManager(rollback_on=(lambda exc, status: exc is not None) if hooks else None)
    manager.register_resources(**resources)
    return manager


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run it to its end, and see that no task is left."""

    async def alone() -> Any:
        result = await main()
        assert len(asyncio.all_tasks()) == 1
        return result

    return asyncio.run(alone())


class Log(list[str]):
    def resource(self, name: str = "db", waits_for: Callable[[], Coroutine[Any, Any, Any]] | None = None) -> Any:
        """An async generator that says whether it was resumed or given an exception, and when it has closed."""

        async def generator(ctx: Any) -> AsyncIterator[str]:
            try:
                yield name
                self.append(f"{name} resumed")
            except BaseException as error:
                self.append(f"{name} got {type(error).__name__}")
                raise
            finally:
                await (waits_for() if waits_for else asyncio.sleep(0))
                self.append(f"{name} closed")

        return generator


def cancel_myself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def swallow_a_cancel() -> None:
    cancel_myself()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


async def until(true: Callable[[], bool]) -> None:
    """Let the other tasks run until something is true."""
    while not true():  # noqa: ASYNC110 - there is nothing that could tell us
        await asyncio.sleep(0)


async def cancelled(task: asyncio.Task[Any]) -> bool:
    """Wait for a task; whether it ended by its cancellation."""
    await asyncio.wait([task])
    return task.cancelled()


# --- Lost cancels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hooks", [False, True])
def test_a_cancel_swallowed_by_the_body_rolls_back_and_is_raised(hooks: bool) -> None:
    """A task that is being cancelled never commits, although nothing reached the end of the block."""
    log = Log()
    manager = managed(hooks=hooks, db=log.resource())
    ctx = manager.context()

    async def work() -> None:
        async with ctx:
            await ctx.db
            await swallow_a_cancel()

    async def main() -> None:
        assert await cancelled(asyncio.create_task(work()))

    run(main)
    assert ctx.outcome == "rolled_back"
    assert log == ["db got CancelledError", "db closed"]


def test_a_cancel_lost_in_wait_for_rolls_back_and_is_raised() -> None:
    """Python 3.11's wait_for loses a cancel that comes with the result; the context notices all the same."""
    log = Log()
    manager = managed(db=log.resource())
    ctx = manager.context()

    async def work(reply: asyncio.Future[str]) -> None:
        async with ctx:
            await ctx.db
            await asyncio.wait_for(reply, 60)

    async def main() -> None:
        reply: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(work(reply))
        await until(lambda: "db" in ctx)
        await asyncio.sleep(0)
        reply.set_result("done")
        task.cancel()
        assert await cancelled(task)

    run(main)
    assert ctx.outcome == "rolled_back"
    assert log == ["db got CancelledError", "db closed"]


def test_a_swallowed_cancel_outranks_the_error_of_the_body() -> None:
    """The cancel is raised; the error it replaces is in its context and in the outcome."""
    manager = managed(db=Log().resource())
    ctx = manager.context()

    async def work() -> None:
        async with ctx:
            await ctx.db
            await swallow_a_cancel()
            raise LookupError("nothing found")

    async def main() -> BaseException:
        task = asyncio.create_task(work())
        await asyncio.wait([task])
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        return caught.value

    run(main)
    assert ctx.outcome == "rolled_back"
    assert {record.type for record in ctx.outcome.errors} == {LookupError, asyncio.CancelledError}


def test_a_swallowed_cancel_outranks_commit_on_error() -> None:
    """`commit_on_error` overrides exceptions and the status, never a cancellation."""
    ctx = managed(db=Log().resource()).context()

    async def work() -> None:
        async with ctx:
            ctx.commit_on_error()
            await swallow_a_cancel()
            raise LookupError("nothing found")

    async def main() -> None:
        assert await cancelled(asyncio.create_task(work()))

    run(main)
    assert ctx.outcome == "rolled_back"


def test_a_cancel_taken_back_commits() -> None:
    """Who swallows a cancel and says so with uncancel() goes on as if there had been none."""
    log = Log()
    ctx = managed(db=log.resource()).context()

    async def work() -> str:
        async with ctx:
            await ctx.db
            await swallow_a_cancel()
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
        return "went on"

    async def main() -> Any:
        return await asyncio.create_task(work())

    assert run(main) == "went on"
    assert ctx.outcome == "committed"


def test_a_cancel_that_nothing_has_delivered_yet_rolls_back() -> None:
    """Cancelled in its last line, with nothing to suspend in afterwards: the context raises the cancel itself."""
    ctx = managed(db=Log().resource()).context()

    async def work() -> None:
        async with ctx:
            await ctx.db
            cancel_myself()

    async def main() -> None:
        assert await cancelled(asyncio.create_task(work()))

    run(main)
    assert ctx.outcome == "rolled_back"


@pytest.mark.parametrize("hooks", [False, True])
def test_a_context_opened_while_cleaning_up_after_a_cancel_commits(hooks: bool) -> None:
    """Only a cancel that arrived after the opening counts."""
    log = Log()
    ctx = managed(hooks=hooks, db=log.resource()).context()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            async with ctx:
                await ctx.db
            log.append("cleaned up")
            raise

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        assert await cancelled(task)

    run(main)
    assert ctx.outcome == "committed"
    assert log == ["db resumed", "db closed", "cleaned up"]


def test_a_timeout_of_a_step_is_no_cancel_of_a_task_that_cleans_up() -> None:
    """A step's own asyncio.timeout cancels and uncancels; in a task cancelled before, nothing may be raised for it."""
    log = Log()

    async def with_timeout() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                for _ in range(5):
                    await asyncio.sleep(0)

    ctx = managed(db=log.resource(waits_for=with_timeout)).context()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            async with ctx:
                await ctx.db
            log.append("cleaned up")
            raise

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        assert await cancelled(task)
        assert task.cancelling() == 1

    run(main)
    assert ctx.outcome == "committed"
    assert log == ["db resumed", "db closed", "cleaned up"]


# --- Many cancels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hooks", [False, True])
def test_any_number_of_cancels_while_closing(hooks: bool) -> None:
    """A cancel at every turn of the loop while three resources close: each closes, then the cancel is raised."""
    log = Log()

    async def many_turns() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(20):
            await asyncio.sleep(0)
            future = loop.create_future()
            loop.call_soon(loop.call_soon, future.set_result, None)
            await future

    manager = managed(hooks=hooks, **{name: log.resource(name, many_turns) for name in "abc"})
    ctx = manager.context()

    async def work() -> None:
        async with ctx:
            for name in "abc":
                await getattr(ctx, name)

    async def main() -> int:
        task = asyncio.create_task(work())
        await until(lambda: ctx.state == "closing")
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        assert task.cancelled()
        return task.cancelling()

    assert run(main) > 100
    assert ctx.outcome == "committed"
    assert log == [event for name in "cba" for event in (f"{name} resumed", f"{name} closed")]


@pytest.mark.parametrize("hooks", [False, True])
def test_a_step_that_cancels_its_own_task(hooks: bool) -> None:
    """Even before anything was suspended: the close completes and has committed, and the cancel is raised."""
    log = Log()

    async def cancelling() -> None:
        cancel_myself()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    ctx = managed(hooks=hooks, db=log.resource(waits_for=cancelling)).context()

    async def work() -> None:
        async with ctx:
            await ctx.db

    async def main() -> None:
        assert await cancelled(asyncio.create_task(work()))

    run(main)
    assert ctx.outcome == "committed"
    assert log == ["db resumed", "db closed"]


# --- Timeouts and task groups -----------------------------------------------------------------------------------------


def test_a_timeout_around_a_context_that_hangs() -> None:
    """asyncio.timeout() rolls the context back and turns into a TimeoutError, with no cancel left over."""
    log = Log()
    ctx = managed(db=log.resource()).context()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                async with ctx:
                    await ctx.db
                    await asyncio.Event().wait()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)

    run(main)
    assert ctx.outcome == "rolled_back"
    assert log == ["db got CancelledError", "db closed"]


def test_a_timeout_that_fires_while_closing() -> None:
    """The close completes and has committed; the TimeoutError comes afterwards."""
    log = Log()
    expire: list[Callable[[], None]] = []

    async def while_it_expires() -> None:
        expire[0]()
        for _ in range(5):
            await asyncio.sleep(0)

    ctx = managed(db=log.resource(waits_for=while_it_expires)).context()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as timeout:
                expire.append(lambda: timeout.reschedule(0))
                async with ctx:
                    await ctx.db
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(main)
    assert ctx.outcome == "committed"
    assert log == ["db resumed", "db closed"]


def test_a_sibling_in_a_task_group_fails_during_the_body() -> None:
    """The group cancels the context's task: it rolls back, and only the sibling's error comes out of the group."""
    log = Log()
    ctx = managed(db=log.resource()).context()

    async def sibling() -> None:
        raise LookupError("sibling")

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                async with ctx:
                    await ctx.db
                    group.create_task(sibling())
                    await asyncio.Event().wait()
        assert [type(error) for error in caught.value.exceptions] == [LookupError]
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(main)
    assert ctx.outcome == "rolled_back"
    assert log == ["db got CancelledError", "db closed"]


def test_a_sibling_in_a_task_group_fails_while_closing() -> None:
    """The close completes and has committed; the group reports the sibling."""
    log = Log()
    closing = asyncio.Event()

    async def while_the_sibling_fails() -> None:
        closing.set()
        for _ in range(5):
            await asyncio.sleep(0)

    ctx = managed(db=log.resource(waits_for=while_the_sibling_fails)).context()

    async def sibling() -> None:
        await closing.wait()
        raise LookupError("sibling")

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(sibling())
                async with ctx:
                    await ctx.db
        assert [type(error) for error in caught.value.exceptions] == [LookupError]

    run(main)
    assert ctx.outcome == "committed"
    assert log == ["db resumed", "db closed"]


def test_contexts_in_the_tasks_of_a_task_group() -> None:
    """One fails, the others are cancelled by the group and roll back, each on its own."""
    log = Log()
    manager = managed(db=log.resource())
    contexts = [manager.context() for _ in range(5)]

    async def work(number: int) -> None:
        async with contexts[number] as ctx:
            await ctx.db
            if number == 3:
                raise LookupError("3")
            await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                for number in range(5):
                    group.create_task(work(number))

    run(main)
    assert [ctx.outcome for ctx in contexts] == ["rolled_back"] * 5
    assert log.count("db closed") == 5


def test_a_task_group_inside_a_context_fails() -> None:
    """The group's error is the body's: it rolls back and comes out unchanged."""
    log = Log()
    ctx = managed(db=log.resource()).context()

    async def child() -> None:
        await ctx.db
        raise LookupError("child")

    async def main() -> None:
        with pytest.raises(ExceptionGroup):
            async with ctx:
                async with asyncio.TaskGroup() as group:
                    group.create_task(child())

    run(main)
    assert ctx.outcome == "rolled_back"
    assert log == ["db got ExceptionGroup", "db closed"]


@pytest.mark.skipif(
    sys.version_info < (3, 13), reason="before Python 3.13 a failed TaskGroup leaves its task counted as cancelled"
)
def test_a_task_group_inside_a_context_fails_and_is_handled() -> None:
    """A failure that the body has dealt with is no cancel of its task: it commits, and goes on."""
    log = Log()
    ctx = managed(db=log.resource()).context()

    async def child() -> None:
        await asyncio.sleep(0)
        raise LookupError("child")

    async def main() -> str:
        async with ctx:
            await ctx.db
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(child())
            except* LookupError:
                pass
        return "went on"

    assert run(main) == "went on"
    assert ctx.outcome == "committed"
    assert log == ["db resumed", "db closed"]


# --- Locks held over the yield ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lock_type", [asyncio.Lock, anyio.Lock])
@pytest.mark.parametrize("when", ["body", "closing"])
def test_a_lock_held_over_the_yield_is_released_by_its_owner(lock_type: Callable[[], Any], when: str) -> None:
    """The teardown runs in the task that took the lock, so that an anyio.Lock lets it go, cancelled or not."""
    log = Log()
    closing = asyncio.Event()

    async def main() -> None:
        lock = lock_type()

        async def db(ctx: Any) -> AsyncIterator[str]:
            async with lock:
                try:
                    yield "db"
                finally:
                    closing.set()
                    for _ in range(5):
                        await asyncio.sleep(0)
            log.append("released")

        ctx = managed(db=db).context()

        async def work() -> None:
            async with ctx:
                await ctx.db
                if when == "body":
                    await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await (asyncio.sleep(0) if when == "body" else closing.wait())
        await asyncio.sleep(0)
        task.cancel()
        assert await cancelled(task)
        assert not lock.locked()
        assert ctx.outcome == ("rolled_back" if when == "body" else "committed")

    run(main)
    assert log == (["released"] if when == "closing" else [])
