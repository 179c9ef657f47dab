"""`ctx.nested()`: a block that rolls back alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from polydatum import (
    AsyncResourceError,
    ContextClosedError,
    DataManager,
    NoActiveContextError,
    RollbackOnlyError,
    SavepointNotSupported,
)
from tests.unit.ledgers import AsyncLedger, Ledger


class Failure(Exception):
    """What leaves a block."""


@pytest.fixture
def kept() -> list[str]:
    return []


@pytest.fixture
def manager(drive: Any, kept: list[str], recorder: Any) -> Any:
    made = AsyncLedger if drive.has_async_parts else Ledger
    dm = DataManager(commit_order=["db", "log"])
    dm.register_resources(db=lambda context: made(kept, recorder), log=lambda context: made(kept))
    return dm


async def failing(drive: Any, ctx: Any, work: Callable[[], Any]) -> None:
    """Do some work in a block, and let the block fail."""
    with pytest.raises(Failure):
        async with drive.block(ctx.nested()):
            await drive.value(work())
            raise Failure


async def test_what_succeeds_is_part_of_the_context(drive: Any, manager: Any, kept: list[str]) -> None:
    async with drive.block(manager.context()) as ctx:
        db = await drive.value(ctx.db)
        async with drive.block(ctx.nested()):
            db.append("inside")
        db.append("after")
        assert kept == []
    assert kept == ["inside", "after"]


async def test_what_fails_is_undone_alone(drive: Any, manager: Any, kept: list[str]) -> None:
    """The exception goes on; the context commits what was done before and after."""
    async with drive.block(manager.context()) as ctx:
        db = await drive.value(ctx.db)
        db.append("before")
        await failing(drive, ctx, lambda: db.append("inside"))
        db.append("after")
    assert kept == ["before", "after"]
    assert ctx.outcome == "committed"


async def test_blocks_nest(drive: Any, manager: Any, kept: list[str]) -> None:
    async with drive.block(manager.context()) as ctx:
        db = await drive.value(ctx.db)
        async with drive.block(ctx.nested()):
            db.append("outer")
            await failing(drive, ctx, lambda: db.append("inner"))
    assert kept == ["outer"]


async def test_an_outer_block_undoes_the_inner_ones(drive: Any, manager: Any, kept: list[str]) -> None:
    async with drive.block(manager.context()) as ctx:
        db = await drive.value(ctx.db)

        async def work() -> None:
            async with drive.block(ctx.nested()):
                db.append("inner")

        if drive.is_async:
            await failing(drive, ctx, work)
        else:
            with pytest.raises(Failure), ctx.nested():
                with ctx.nested():
                    db.append("inner")
                raise Failure
    assert kept == []


async def test_what_opens_in_the_block_is_undone_whole(drive: Any, manager: Any, kept: list[str]) -> None:
    """It has nothing from before. It can be used again afterwards."""
    async with drive.block(manager.context()) as ctx:
        with pytest.raises(Failure):
            async with drive.block(ctx.nested()):
                (await drive.value(ctx.log)).append("inside")
                raise Failure
        (await drive.value(ctx.log)).append("after")
    assert kept == ["after"]


async def test_hooks_of_a_failed_block_are_dropped(drive: Any, manager: Any, recorder: Any) -> None:
    """Those for a commit; those for a rollback have had theirs, and run at once."""
    async with drive.block(manager.context()) as ctx:
        ctx.on_commit(lambda: recorder("outer commit"))
        ctx.on_rollback(lambda: recorder("outer rollback"))

        def work() -> None:
            ctx.before_commit(lambda: recorder("inner before"))
            ctx.on_commit(lambda: recorder("inner commit"))
            ctx.on_rollback(drive.function(lambda: recorder("inner rollback")))

        await failing(drive, ctx, work)
        assert recorder == ["inner rollback"]
    assert recorder == ["inner rollback", "outer commit"]


async def test_hooks_of_a_kept_block_stay(drive: Any, manager: Any, recorder: Any) -> None:
    async with drive.block(manager.context()) as ctx:
        async with drive.block(ctx.nested()):
            ctx.on_commit(lambda: recorder("inner commit"))
    assert recorder == ["inner commit"]


async def test_a_failing_hook_is_logged(drive: Any, manager: Any, caplog: pytest.LogCaptureFixture) -> None:
    def hook() -> None:
        raise OSError("no disk")

    async with drive.block(manager.context()) as ctx:
        await failing(drive, ctx, lambda: ctx.on_rollback(drive.function(hook)))
    assert "on_rollback hook of a nested() block" in caplog.text
    assert ctx.outcome == "committed"


class Plain:
    """A transaction without savepoints, that cannot tell whether it wrote."""

    kind = "authority"

    def prepare(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def close(self) -> None: ...


class Telling(Plain):
    """One that can."""

    def __init__(self, wrote: bool) -> None:
        self.has_written = wrote
        self.rolled_back = 0

    def wrote(self) -> bool:
        return self.has_written

    def rollback(self) -> None:
        self.rolled_back += 1


@pytest.mark.parametrize("transaction", [Plain(), Telling(True)], ids=["unknown", "wrote"])
async def test_without_savepoints_it_is_refused(drive: Any, transaction: Any) -> None:
    """On entering, before the block's work is done."""
    dm = DataManager()
    dm.register_resources(db=lambda context: transaction)
    async with drive.block(dm.context()) as ctx:
        _ = ctx.db
        with pytest.raises(SavepointNotSupported, match="'db' has no savepoints"):
            async with drive.block(ctx.nested()):
                raise AssertionError("entered")


async def test_a_refused_block_undoes_nothing(drive: Any, kept: list[str]) -> None:
    """It has not begun: what was done before it stays, in the transaction that refuses and in those after it."""
    made = AsyncLedger if drive.has_async_parts else Ledger
    transaction = Telling(True)
    dm = DataManager(commit_order=["db", "log"])
    dm.register_resources(db=lambda context: transaction, log=lambda context: made(kept))
    async with drive.block(dm.context()) as ctx:
        _ = ctx.db
        (await drive.value(ctx.log)).append("before")
        with pytest.raises(SavepointNotSupported):
            async with drive.block(ctx.nested()):
                raise AssertionError("entered")
    assert transaction.rolled_back == 0
    assert kept == ["before"]


async def test_without_savepoints_and_writes_it_is_undone_whole(drive: Any) -> None:
    """What has not written has nothing to lose."""
    transaction = Telling(False)
    dm = DataManager()
    dm.register_resources(db=lambda context: transaction)
    async with drive.block(dm.context()) as ctx:
        _ = ctx.db
        await failing(drive, ctx, lambda: None)
        assert transaction.rolled_back == 1
    assert transaction.rolled_back == 1


async def test_what_cannot_be_undone_rolls_all_back(
    drive: Any, kept: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The block's error goes on with a note; whoever catches it is told at the end that the context cannot commit."""
    made = AsyncLedger if drive.has_async_parts else Ledger
    fails = {"rollback to savepoint": OSError("gone")}
    dm = DataManager()
    dm.register_resources(db=lambda context: made(kept, fails=fails))
    with pytest.raises(RollbackOnlyError) as refused:
        async with drive.block(dm.context()) as ctx:
            (await drive.value(ctx.db)).append("before")
            with pytest.raises(Failure) as failure:
                async with drive.block(ctx.nested()):
                    raise Failure
            assert "OSError: gone" in failure.value.__notes__[0]
    assert refused.value.__cause__ is failure.value
    assert kept == []
    assert ctx.outcome == "rolled_back"
    assert "the context will roll back" in caplog.text


async def test_a_block_around_it_takes_the_refusal_along(drive: Any, kept: list[str]) -> None:
    """What could not be undone in the inner block is undone with the outer one."""
    made = AsyncLedger if drive.has_async_parts else Ledger
    fails: dict[str, BaseException] = {"rollback to savepoint": OSError("gone")}
    dm = DataManager()
    dm.register_resources(db=lambda context: made(kept, fails=fails))
    async with drive.block(dm.context()) as ctx:
        db = await drive.value(ctx.db)
        with pytest.raises(Failure):
            async with drive.block(ctx.nested()):
                with pytest.raises(Failure):
                    async with drive.block(ctx.nested()):
                        db.append("inside")
                        raise Failure
                fails.clear()
                raise Failure
        db.append("after")
    assert kept == ["after"]


class Post(Ledger):
    kind = "effect"


class AsyncPost(AsyncLedger):
    kind = "effect"


async def test_a_block_that_fails_at_its_end_drops_its_effects(drive: Any, kept: list[str]) -> None:
    """An authority refuses to release its savepoint, and the effect's has not been released before."""
    made, post = (AsyncLedger, AsyncPost) if drive.has_async_parts else (Ledger, Post)
    dm = DataManager()
    dm.register_resources(
        db=lambda context: made(kept, fails={"release": OSError("gone")}), mail=lambda context: post(kept)
    )
    async with drive.block(dm.context()) as ctx:
        _, mail = await drive.value(ctx.db), await drive.value(ctx.mail)
        with pytest.raises(OSError, match="gone"):
            async with drive.block(ctx.nested()):
                mail.append("inside")
        mail.append("after")
    assert kept == ["after"]


async def test_two_databases_that_end_a_block_differently_commit_nothing(drive: Any, kept: list[str]) -> None:
    """One has released its savepoint, which cannot be taken back, when the other refuses to."""
    made = AsyncLedger if drive.has_async_parts else Ledger
    dm = DataManager(commit_order=["db", "log"])
    dm.register_resources(
        db=lambda context: made(kept, fails={"release": OSError("gone")}), log=lambda context: made(kept)
    )
    with pytest.raises(RollbackOnlyError, match="'log'"):
        async with drive.block(dm.context()) as ctx:
            _, log = await drive.value(ctx.db), await drive.value(ctx.log)
            with pytest.raises(OSError, match="gone"):
                async with drive.block(ctx.nested()):
                    log.append("inside")
    assert kept == []


@pytest.mark.parametrize("step", ["savepoint", "release"])
async def test_a_failing_savepoint_is_an_error(drive: Any, kept: list[str], step: str) -> None:
    """At the start of the block, or at its end: then its work is undone."""
    made = AsyncLedger if drive.has_async_parts else Ledger
    dm = DataManager(commit_order=["log", "db"])
    dm.register_resources(db=lambda context: made(kept, fails={step: OSError("gone")}), log=lambda context: made(kept))
    async with drive.block(dm.context()) as ctx:
        log, db = await drive.value(ctx.log), await drive.value(ctx.db)
        log.append("before")
        with pytest.raises(OSError, match="gone"):
            async with drive.block(ctx.nested()):
                log.append("inside")
                db.append("inside")
    assert kept == ["before"]


def test_async_transactions_want_async_with() -> None:
    """A plain ``with`` says so; in a block entered before one opened, nothing can commit any more."""

    async def scenario() -> None:
        kept: list[str] = []
        dm = DataManager()
        dm.register_resources(db=lambda context: AsyncLedger(kept))
        async with dm.context() as ctx:
            await ctx.db
            with pytest.raises(AsyncResourceError, match="async with ctx.nested"):
                with ctx.nested():
                    raise AssertionError("entered")
        with pytest.raises(RollbackOnlyError):
            async with dm.context() as ctx:
                with pytest.raises(Failure):
                    with ctx.nested():
                        (await ctx.db).append("inside")
                        raise Failure
        assert ctx.outcome == "rolled_back"
        assert kept == []

    asyncio.run(scenario())


def test_an_awaitable_that_cannot_be_closed_is_refused_too() -> None:
    class Odd(Ledger):
        def savepoint(self) -> Any:
            return asyncio.get_running_loop().create_future()

    async def scenario() -> None:
        dm = DataManager()
        dm.register_resources(db=lambda context: Odd([]))
        async with dm.context() as ctx:
            _ = ctx.db
            with pytest.raises(AsyncResourceError):
                with ctx.nested():
                    raise AssertionError("entered")

    asyncio.run(scenario())


def test_a_timeout_around_the_block_undoes_it() -> None:
    """The savepoint is rolled back although the task is being cancelled; the context goes on."""

    async def scenario() -> None:
        kept: list[str] = []
        dm = DataManager()
        dm.register_resources(db=lambda context: AsyncLedger(kept))
        async with dm.context() as ctx:
            db = await ctx.db
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    async with ctx.nested():
                        db.append("inside")
                        await asyncio.Event().wait()
            db.append("after")
        assert kept == ["after"]

    asyncio.run(scenario())


def test_a_cancel_while_undoing_goes_on_afterwards() -> None:
    """It is not lost, and interrupts no undoing."""

    async def scenario() -> None:
        undoing = asyncio.Event()
        go_on = asyncio.Event()

        class Slow(AsyncLedger):
            async def rollback(self) -> None:
                undoing.set()
                await go_on.wait()
                self.ledger.rollback()

        kept: list[str] = []
        dm = DataManager()
        dm.register_resources(db=lambda context: Slow(kept))

        async def work() -> None:
            async with dm.context() as ctx:
                with pytest.raises(asyncio.CancelledError):
                    async with ctx.nested():
                        (await ctx.db).append("inside")
                        raise Failure
                assert await ctx.db == []
                raise asyncio.CancelledError

        task = asyncio.create_task(work())
        await undoing.wait()
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert kept == []

    asyncio.run(scenario())


async def test_only_in_an_open_context(drive: Any, manager: Any) -> None:
    ctx = manager.context()
    with pytest.raises(NoActiveContextError):
        async with drive.block(ctx.nested()):
            raise AssertionError("entered")
    async with drive.block(ctx):
        pass
    with pytest.raises(ContextClosedError):
        async with drive.block(ctx.nested()):
            raise AssertionError("entered")
