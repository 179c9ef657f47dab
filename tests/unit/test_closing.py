"""The loops that end a context: second closers on every path, and cached values that a late thread cannot reach."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from polydatum import DataManager
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
