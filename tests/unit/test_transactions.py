"""Transactions: what services get, who may commit beside whom, and what stays when the end is in doubt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from polydatum import (
    AlreadyCommittedError,
    AsyncResourceError,
    CommitOutcomeUnknown,
    DataManager,
    MultipleAuthoritiesError,
)
from polydatum.transactions import Transaction, value_of
from tests.unit.ledgers import AsyncLedger, Ledger


def ledger(drive: Any, *args: Any, **options: Any) -> Any:
    """A resource factory for this half."""
    made = AsyncLedger if drive.has_async_parts else Ledger
    return lambda context: made(*args, **options)


async def test_services_get_the_value(drive: Any) -> None:
    """The transaction stays with the engine; what it holds is what a touch gives, every time the same."""
    kept: list[str] = []
    dm = DataManager()
    dm.register_resources(db=ledger(drive, kept))
    async with drive.block(dm.context()) as ctx:
        (await drive.value(ctx.db)).append("tea")
        assert await drive.value(ctx.db) == ["tea"]
        assert kept == []
    assert kept == ["tea"]


def test_a_generator_may_yield_one() -> None:
    """The value goes to the services there, too."""
    kept: list[str] = []

    def db(context: Any) -> Iterator[Any]:
        yield Ledger(kept)

    dm = DataManager()
    dm.register_resources(db=db)
    with dm.context() as ctx:
        ctx.db.append("tea")
    assert kept == ["tea"]


def test_an_object_with_the_methods_is_its_own_value() -> None:
    """Whatever attributes it has."""

    class Own:
        kind = "authority"
        value = "something else"

    own = Own()
    assert value_of(own) is own


def test_the_defaults_of_the_base_class() -> None:
    """A transaction defines what it needs."""
    transaction = Transaction("value")
    assert transaction.wrote()
    transaction.prepare()
    transaction.commit()
    transaction.rollback()
    transaction.close()
    assert transaction.kind == "authority"


async def test_the_defaults_of_the_async_base_class(drive: Any) -> None:
    from polydatum import AsyncTransaction

    transaction = AsyncTransaction("value")
    assert await transaction.wrote()
    for step in (transaction.prepare, transaction.commit, transaction.rollback, transaction.close):
        await step()


async def test_two_writers_are_refused(drive: Any) -> None:
    """Nothing commits; the error names both and the remedy."""
    kept: list[str] = []
    dm = DataManager()
    dm.register_resources(orders=ledger(drive, kept), stock=ledger(drive, kept))
    with pytest.raises(MultipleAuthoritiesError, match=r"'orders', 'stock' all wrote.*commit_order") as refused:
        async with drive.block(dm.context()) as ctx:
            (await drive.value(ctx.orders)).append("order")
            (await drive.value(ctx.stock)).append("item")
    assert refused.value.resources == ("orders", "stock")
    assert kept == []
    assert ctx.outcome == "rolled_back"


async def test_one_writer_beside_readers_is_fine(drive: Any, recorder: Any) -> None:
    """Readers commit first: if that fails, nothing has been kept yet."""
    kept: list[str] = []
    dm = DataManager()
    dm.register_resources(
        orders=ledger(drive, kept, lambda step: recorder(f"orders {step}")),
        stock=ledger(drive, kept, lambda step: recorder(f"stock {step}")),
    )
    async with drive.block(dm.context()) as ctx:
        (await drive.value(ctx.orders)).append("order")
        await drive.value(ctx.stock)
    assert kept == ["order"]
    assert [step for step in recorder if "commit" in step] == ["stock commit", "orders commit"]


async def test_a_single_authority_is_not_asked(drive: Any, recorder: Any) -> None:
    """Whether it wrote may cost a round trip."""
    dm = DataManager()
    dm.register_resources(db=ledger(drive, [], recorder))
    async with drive.block(dm.context()) as ctx:
        await drive.value(ctx.db)
    assert recorder == ["prepare", "commit", "close"]


async def test_a_given_order_is_taken(drive: Any) -> None:
    """Whoever accepts the window between two commits says which comes first."""
    kept: list[str] = []
    dm = DataManager(commit_order=["stock", "orders"])
    dm.register_resources(orders=ledger(drive, kept), stock=ledger(drive, kept))
    async with drive.block(dm.context()) as ctx:
        (await drive.value(ctx.orders)).append("order")
        (await drive.value(ctx.stock)).append("item")
    assert kept == ["item", "order"]
    assert ctx.outcome == "committed"


async def test_an_order_has_to_name_all_writers(drive: Any) -> None:
    dm = DataManager(commit_order=["stock"])
    dm.register_resources(orders=ledger(drive, []), stock=ledger(drive, []))
    with pytest.raises(MultipleAuthoritiesError):
        async with drive.block(dm.context()) as ctx:
            (await drive.value(ctx.orders)).append("order")
            (await drive.value(ctx.stock)).append("item")


async def test_an_error_while_asking_rolls_back(drive: Any) -> None:
    """It is an error before the commit like any other."""
    kept: list[str] = []
    dm = DataManager(commit_order=["orders", "stock"])
    dm.register_resources(orders=ledger(drive, kept, fails={"wrote?": OSError("gone")}), stock=ledger(drive, kept))
    with pytest.raises(OSError, match="gone"):
        async with drive.block(dm.context()) as ctx:
            (await drive.value(ctx.orders)).append("order")
            (await drive.value(ctx.stock)).append("item")
    assert kept == []


class Uploads(Ledger):
    """Has done its work before the commit, and undoes it only if nothing may point at it."""

    kind = "effect"

    def abandon(self) -> None:
        self.reach("abandon")


@pytest.mark.parametrize(
    ("error", "undone"),
    [(ValueError("no"), "rollback"), (CommitOutcomeUnknown("db"), "abandon")],
    ids=["failed", "unknown"],
)
def test_what_may_be_pointed_at_is_not_undone(recorder: Any, error: Exception, undone: str) -> None:
    """If the authority may have committed, an effect that knows ``abandon`` is not rolled back."""
    dm = DataManager()
    dm.register_resources(
        db=lambda context: Ledger([], fails={"commit": error}), blobs=lambda context: Uploads([], recorder)
    )
    with pytest.raises(type(error)):
        with dm.context() as ctx:
            _ = ctx.db, ctx.blobs
    assert recorder == ["prepare", undone, "close"]


async def test_a_reader_leaves_a_failed_commit_a_plain_rollback(drive: Any, recorder: Any) -> None:
    """It has kept nothing, so nothing is partial or in doubt."""
    dm = DataManager(commit_order=["db"])
    dm.register_resources(
        log=ledger(drive, []),
        db=ledger(drive, [], fails={"commit": OSError("refused")}),
        blobs=lambda context: Uploads([], recorder),
    )
    with pytest.raises(OSError, match="refused"):
        async with drive.block(dm.context()) as ctx:
            await drive.value(ctx.log)
            (await drive.value(ctx.db)).append("tea")
            _ = ctx.blobs
    assert ctx.outcome == "rolled_back"
    assert recorder == ["prepare", "rollback", "close"]


async def test_an_interrupted_commit_is_unknown(drive: Any, recorder: Any) -> None:
    """It is no answer of the database, which may have committed: what rows may point at stays."""
    dm = DataManager()
    dm.register_resources(
        db=ledger(drive, [], fails={"commit": KeyboardInterrupt()}), blobs=lambda context: Uploads([], recorder)
    )
    with pytest.raises(KeyboardInterrupt):
        async with drive.block(dm.context()) as ctx:
            _ = await drive.value(ctx.db), ctx.blobs
    assert ctx.outcome == "unknown"
    assert recorder == ["prepare", "abandon", "close"]


def commits_early(drive: Any) -> Any:
    """A resource that a service has committed by itself, so that its rollback cannot undo all."""
    made: Any = type(ledger(drive, [])(None))

    class Early(made):  # type: ignore[misc]
        has_committed = True

    return lambda context: Early([], fails={"rollback": AlreadyCommittedError("db")})


async def test_a_rollback_after_a_commit_of_a_service_is_partial(drive: Any, recorder: Any) -> None:
    """The error says which resource it was; what the committed rows may point at stays."""
    dm = DataManager()
    dm.register_resources(db=commits_early(drive), blobs=lambda context: Uploads([], recorder))
    with pytest.raises(ValueError, match="no") as raised:
        async with drive.block(dm.context()) as ctx:
            _ = await drive.value(ctx.db), ctx.blobs
            raise ValueError("no")
    assert ctx.outcome == "partial"
    assert "while rolling back resource 'db': AlreadyCommittedError" in raised.value.__notes__[0]
    assert [record.type for record in ctx.outcome.errors] == [ValueError, AlreadyCommittedError]
    assert recorder == ["abandon", "close"]


async def test_a_commit_after_a_commit_of_a_service_is_a_commit(drive: Any) -> None:
    dm = DataManager()
    dm.register_resources(db=commits_early(drive))
    async with drive.block(dm.context()) as ctx:
        await drive.value(ctx.db)
    assert ctx.outcome == "committed"


@pytest.mark.parametrize("step", ["prepare", "commit", "close"])
@pytest.mark.parametrize("is_coroutine", [True, False], ids=["coroutine", "awaitable"])
def test_a_step_that_turns_out_to_be_async_has_failed(step: str, is_coroutine: bool, caplog: Any) -> None:
    """It looks sync, and a sync context cannot await what it gives: that is no answer, and never a commit."""

    class Later:
        def __await__(self) -> Any:
            raise AssertionError("nobody awaits it")

    async def later() -> None:
        raise AssertionError("nobody awaits it")

    def asynchronous(self: Any) -> Any:
        return later() if is_coroutine else Later()

    calls: list[str] = []

    class Odd(Transaction):
        def rollback(self) -> None:
            calls.append("rollback")

    setattr(Odd, step, asynchronous)
    dm = DataManager()
    dm.register_resources(db=lambda context: Odd("value"))
    context = dm.context()
    context.open()
    assert context.db == "value"
    if step == "close":  # it has committed
        assert context.close() == "committed"
        assert "cannot await" in caplog.text
    else:
        with pytest.raises(AsyncResourceError, match=f"{step[:-1]}.*cannot await"):
            context.close()
        assert calls == ["rollback"]


@pytest.mark.parametrize("is_async", [True, False])
def test_steps_that_an_object_has_for_itself_count(is_async: bool) -> None:
    """What the class has is what is looked at else."""

    class Plain:
        kind = "authority"

        def prepare(self) -> None: ...
        def rollback(self) -> None: ...
        def close(self) -> None: ...
        def commit(self) -> None:
            raise AssertionError("the object has one for itself")

    kept: list[str] = []

    async def acommit() -> None: ...

    def make(context: Any) -> Any:
        plain: Any = Plain()
        plain.commit = acommit if is_async else lambda: kept.append("tea")
        return plain

    dm = DataManager()
    dm.register_resources(db=make)
    if is_async:
        with dm.context() as ctx, pytest.raises(AsyncResourceError, match="db"):
            ctx.db  # noqa: B018 - opens it
    else:
        with dm.context() as ctx:
            assert type(ctx.db) is Plain
        assert kept == ["tea"]


def test_what_the_steps_give_does_not_matter() -> None:
    """Unless it would have to be awaited."""
    kept: list[str] = []

    class Wordy(Transaction):
        def prepare(self) -> Any:
            return "prepared"

        def commit(self) -> Any:
            kept.append("tea")
            return "committed"

        def close(self) -> Any:
            return "closed"

    dm = DataManager()
    dm.register_resources(db=lambda context: Wordy("value"))
    with dm.context() as ctx:
        assert ctx.db == "value"
    assert (ctx.outcome, kept) == ("committed", ["tea"])
