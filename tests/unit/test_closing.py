"""The loops that end a context: second closers on every path, and cached values that a late thread cannot reach."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from polydatum import ContextClosedError, DataManager, ResourceCycleError
from polydatum import context as context_module


@pytest.mark.parametrize("how", ["clean", "raised", "vetoed"])
def test_a_second_closer_waits(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """In another thread, for the first to end, and gets the same outcome."""
    waiting = threading.Event()

    class Waiter(context_module.ThreadWaiter):
        def wait(self) -> None:
            waiting.set()
            super().wait()

    monkeypatch.setattr(context_module, "ThreadWaiter", Waiter)
    outcomes: list[Any] = []
    threads: list[threading.Thread] = []

    def db(context: Any) -> Iterator[int]:
        try:
            yield 1
        finally:
            second = threading.Thread(target=lambda: outcomes.append(context.close()))
            threads.append(second)
            second.start()
            assert waiting.wait(5)
            assert context.state == "closing"

    dm = DataManager()
    dm.register_resources(db=db)
    ctx = dm.context().open()
    assert ctx.db == 1
    if how == "vetoed":
        ctx.set_rollback_only()
    outcomes.append(ctx.close(KeyError() if how == "raised" else None))
    threads[0].join(5)
    assert outcomes == ["committed" if how == "clean" else "rolled_back"] * 2
    assert outcomes[0] is outcomes[1]


@pytest.mark.parametrize("how", ["clean", "raised", "vetoed"])
def test_a_second_closer_waits_async(how: str) -> None:
    """In another task, likewise."""
    tasks: list[asyncio.Task[Any]] = []

    async def db(context: Any) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            tasks.append(asyncio.create_task(context.aclose()))
            for _ in range(3):
                await asyncio.sleep(0)
            assert not tasks[0].done()

    async def scenario() -> None:
        dm = DataManager()
        dm.register_resources(db=db)
        ctx = await dm.context().aopen()
        assert await ctx.db == 1
        if how == "vetoed":
            ctx.set_rollback_only()
        outcome = await ctx.aclose(KeyError() if how == "raised" else None)
        assert outcome == ("committed" if how == "clean" else "rolled_back")
        assert await tasks[0] is outcome

    asyncio.run(scenario())


async def test_a_second_closer_that_comes_just_too_late(drive: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one ends between the second one's look and its place on the list: it does not wait."""
    ctx = await drive.open(DataManager().context())
    outcome = await drive.close(ctx)
    monkeypatch.setattr(context_module.Context, "_must_wait", lambda self: True)
    assert await drive.close(ctx) is outcome


def test_values_of_other_threads_are_parked(recorder: Any) -> None:
    """What a sync endpoint opened is out of its reach once the close begins; the code that unwinds still has it."""
    dm = DataManager()
    dm.register_resources(db=recorder.part("db"))

    @dm.context_middleware
    def transaction(context: Any) -> Iterator[None]:
        yield
        recorder(f"commit of {context.db} in {threading.current_thread().name[:9]}")

    async def scenario() -> None:
        async with dm.context() as ctx:
            assert await asyncio.to_thread(getattr, ctx, "db") == "db"

    asyncio.run(scenario())
    assert recorder == ["db opens", "commit of db in polydatum", "db commits", "db ends"]


async def test_raising_the_given_error_again(drive: Any, recorder: Any) -> None:
    """A middleware that raises what was to be committed in spite of it: everything else rolls back, with no note."""
    dm = DataManager()
    dm.register_resources(db=drive.part(recorder.part("db")))
    error = KeyError("again")

    def insisting(context: Any) -> Iterator[None]:
        yield
        raise error

    dm.register_context_middleware(drive.part(insisting))
    with pytest.raises(KeyError) as caught:
        async with drive.block(dm.context()) as ctx:
            await drive.value(ctx.db)
            ctx.commit_on_error()
            raise error
    assert caught.value is error
    assert not hasattr(error, "__notes__")
    assert ctx.outcome == "rolled_back"
    assert recorder == ["db opens", "db sees KeyError", "db ends"]


@pytest.mark.parametrize("how", ["clean", "raised", "vetoed"])
async def test_a_value_that_is_not_kept(drive: Any, recorder: Any, how: str) -> None:
    """As when it came late, or was deleted: what was opened is closed all the same."""
    dm = DataManager()
    dm.register_resources(db=drive.part(recorder.part("db")))
    ctx = await drive.open(dm.context())
    assert await drive.value(ctx.db) == "db"
    delattr(ctx, "_async_db" if drive.has_async_parts else "db")
    if how == "vetoed":
        ctx.set_rollback_only()
    await drive.close(ctx, KeyError() if how == "raised" else None)
    assert recorder[0] == "db opens"
    assert recorder[-1] == "db ends"
    assert len(recorder) == 3


# --- A close while middleware is set up -------------------------------------------------------------------------------


def test_a_close_in_another_thread_waits_for_the_set_up(recorder: Any) -> None:
    """What was set up is unwound, the work does not begin, and nothing is kept."""
    acquiring, go_on = threading.Event(), threading.Event()

    def slow(context: Any) -> Iterator[None]:
        recorder("acquires")
        acquiring.set()
        assert go_on.wait(10)
        try:
            yield
        except BaseException as error:
            recorder(f"sees {type(error).__name__}")
            raise
        finally:
            recorder("releases")

    dm = DataManager()
    dm.register_context_middleware(slow)
    ctx = dm.context()

    def work() -> None:
        try:
            ctx.open()
        except ContextClosedError:
            recorder("does not open")

    opener = threading.Thread(target=work)
    opener.start()
    assert acquiring.wait(10)
    outcomes: list[Any] = []
    closer = threading.Thread(target=lambda: outcomes.append(ctx.close()))
    closer.start()
    while ctx.state != "closing":
        pass
    go_on.set()
    opener.join()
    closer.join()
    assert outcomes == ["rolled_back"]
    assert sorted(recorder) == sorted(["acquires", "does not open", "sees RolledBack", "releases"])


def test_a_close_in_another_task_waits_for_the_set_up(recorder: Any) -> None:
    async def scenario() -> None:
        acquiring, go_on = asyncio.Event(), asyncio.Event()

        async def slow(context: Any) -> AsyncIterator[None]:
            acquiring.set()
            await go_on.wait()
            try:
                yield
            finally:
                recorder("releases")

        dm = DataManager()
        dm.register_context_middleware(slow)
        ctx = dm.context()
        opener = asyncio.create_task(ctx.aopen())
        await acquiring.wait()
        closer = asyncio.create_task(ctx.aclose())
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(ContextClosedError):
            await opener
        assert await closer == "rolled_back"

    asyncio.run(scenario())
    assert recorder == ["releases"]


def test_a_set_up_that_outlasts_the_close_is_unwound_by_itself(recorder: Any) -> None:
    """The closer gives up at the teardown limit."""

    async def scenario() -> None:
        acquiring, go_on = asyncio.Event(), asyncio.Event()

        async def slow(context: Any) -> AsyncIterator[None]:
            acquiring.set()
            await go_on.wait()
            try:
                yield
            finally:
                recorder("releases")

        dm = DataManager(teardown_timeout=0.01)
        dm.register_context_middleware(slow)
        ctx = dm.context()
        opener = asyncio.create_task(ctx.aopen())
        await acquiring.wait()
        with pytest.raises(TimeoutError):
            await ctx.aclose()
        assert recorder == []
        go_on.set()
        with pytest.raises(ContextClosedError):
            await opener

    asyncio.run(scenario())
    assert recorder == ["releases"]


def test_a_close_in_its_own_set_up_does_not_wait_for_itself() -> None:
    def closing(context: Any) -> Iterator[None]:
        context.close()
        yield

    dm = DataManager()
    dm.register_context_middleware(closing)
    with pytest.raises(ResourceCycleError, match="context middleware"):
        dm.context().open()


def test_a_hook_of_a_sync_endpoint_runs_off_the_event_loop() -> None:
    """It may block, as the endpoint may, also where no resource was opened there."""

    async def scenario() -> None:
        threads: list[int] = []

        def endpoint() -> None:
            ctx.before_commit(lambda: threads.append(threading.get_ident()))
            ctx.on_commit(lambda: threads.append(threading.get_ident()))

        async with DataManager().context() as ctx:
            await asyncio.to_thread(endpoint)
        assert len(threads) == 2
        assert threading.get_ident() not in threads

    asyncio.run(scenario())
