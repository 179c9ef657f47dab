"""The end of a context with transactional resources: prepare, commit or roll back, close; and who is told what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from polydatum import AsyncResourceError, CommitOutcomeUnknown, DataManager, RollbackOnlyError


class Transaction:
    """Follows the transactional protocol, says what it does, and fails where it is told to."""

    def __init__(self, recorder: Any, name: str, kind: str, **failures: BaseException) -> None:
        self.recorder, self.name, self.kind, self.failures = recorder, name, kind, failures

    def _do(self, step: str) -> None:
        self.recorder(f"{self.name} {step}")
        if step in self.failures:
            raise self.failures[step]

    def prepare(self) -> None:
        self._do("prepare")

    def commit(self) -> None:
        self._do("commit")

    def rollback(self) -> None:
        self._do("rollback")

    def close(self) -> None:
        self._do("close")


class AsyncTransaction(Transaction):
    """The same with async methods."""

    async def prepare(self) -> None:  # type: ignore[override]
        self._do("prepare")

    async def commit(self) -> None:  # type: ignore[override]
        self._do("commit")

    async def rollback(self) -> None:  # type: ignore[override]
        self._do("rollback")

    async def close(self) -> None:  # type: ignore[override]
        self._do("close")


def transactional(drive: Any, recorder: Any, name: str, kind: str, **failures: BaseException) -> Any:
    """A callable that makes a transaction for the half of the engine that is driven."""
    made = AsyncTransaction if drive.has_async_parts else Transaction
    return lambda context: made(recorder, name, kind, **failures)


async def ended(drive: Any, dm: DataManager[Any, Any], names: str, raised: Any = None, **options: Any) -> Any:
    """Open a context, touch resources by name, and close it."""
    ctx = await drive.open(dm.context())
    for name in names.split():
        await drive.value(getattr(ctx, name))
    try:
        await drive.close(ctx, raised, **options)
    except BaseException as error:
        return ctx.outcome, error
    return ctx.outcome, None


async def test_commit(drive: Any, recorder: Any) -> None:
    """All prepare; then authorities commit in order of opening, then effects; then all close in reverse."""
    dm = DataManager(commit_order=["db", "log"])
    for name, kind in (("mail", "effect"), ("db", "authority"), ("blobs", "effect"), ("log", "authority")):
        dm.register_resources(**{name: transactional(drive, recorder, name, kind)})
    assert await ended(drive, dm, "mail db blobs log") == ("committed", None)
    assert recorder == [
        *("mail prepare", "db prepare", "blobs prepare", "log prepare"),
        *("db commit", "log commit", "mail commit", "blobs commit"),
        *("log close", "blobs close", "db close", "mail close"),
    ]


@pytest.mark.parametrize("how", ["raised", "status"])
async def test_rollback(drive: Any, recorder: Any, how: str) -> None:
    """With a cause nothing prepares; all roll back in reverse, then close."""
    dm = DataManager()
    for name, kind in (("mail", "effect"), ("db", "authority")):
        dm.register_resources(**{name: transactional(drive, recorder, name, kind)})
    how_it_ended = await ended(
        drive, dm, "mail db", KeyError() if how == "raised" else None, status=500 if how == "status" else None
    )
    assert how_it_ended == ("rolled_back", None)
    assert recorder == ["db rollback", "mail rollback", "db close", "mail close"]


async def test_prepare_fails(drive: Any, recorder: Any) -> None:
    """The later ones do not prepare; all roll back; the error is raised as it is, with a note."""
    dm = DataManager()
    error = RollbackOnlyError("db")
    dm.register_resources(
        first=transactional(drive, recorder, "first", "authority"),
        db=transactional(drive, recorder, "db", "authority", prepare=error),
        mail=transactional(drive, recorder, "mail", "effect"),
    )
    assert await ended(drive, dm, "first db mail") == ("rolled_back", error)
    assert error.__notes__ == ["while preparing resource 'db'"]
    assert recorder[:5] == ["first prepare", "db prepare", "mail rollback", "db rollback", "first rollback"]


async def test_commit_fails(drive: Any, recorder: Any) -> None:
    """Of the only authority: nothing was kept. Of the second: something was, which is partial and logged."""
    for names, outcome in (("db", "rolled_back"), ("first db", "partial")):
        recorder.clear()
        dm = DataManager(commit_order=["first", "db"])
        error = OSError("disk full")
        dm.register_resources(
            first=transactional(drive, recorder, "first", "authority"),
            db=transactional(drive, recorder, "db", "authority", commit=error),
            mail=transactional(drive, recorder, "mail", "effect"),
        )
        assert await ended(drive, dm, f"{names} mail") == (outcome, error)
        assert error.__notes__ == ["while committing resource 'db'"]
        assert "mail commit" not in recorder
        assert "first rollback" not in recorder
        assert recorder.index("mail rollback") < recorder.index("db rollback")


async def test_outcome_unknown(drive: Any, recorder: Any, caplog: Any) -> None:
    """The connection was lost with the commit in flight: said so, logged, and never tried again."""
    dm = DataManager()
    error = CommitOutcomeUnknown("db")
    dm.register_resources(db=transactional(drive, recorder, "db", "authority", commit=error))
    assert await ended(drive, dm, "db") == ("unknown", error)
    assert recorder.count("db commit") == 1
    assert "context ended unknown" in caplog.text


async def test_effect_fails(drive: Any, recorder: Any, caplog: Any) -> None:
    """After the authority's commit it can change nothing: logged and kept, the others go on."""
    dm = DataManager()
    dm.register_resources(
        db=transactional(drive, recorder, "db", "authority"),
        mail=transactional(drive, recorder, "mail", "effect", commit=OSError("no mail")),
        blobs=transactional(drive, recorder, "blobs", "effect"),
    )
    outcome, raised = await ended(drive, dm, "db mail blobs")
    assert (outcome, raised) == ("committed", None)
    assert [record.where for record in outcome.errors] == ["committing resource 'mail'"]
    assert "blobs commit" in recorder
    assert "no mail" in caplog.text


async def test_close_of_a_committed_transaction_fails(drive: Any, recorder: Any, caplog: Any) -> None:
    """It has committed: logged and kept, no error. Before a commit it rolls nothing back that is not already."""
    dm = DataManager()
    dm.register_resources(db=transactional(drive, recorder, "db", "authority", close=OSError("late")))
    outcome, raised = await ended(drive, dm, "db")
    assert (outcome, raised) == ("committed", None)
    assert [record.where for record in outcome.errors] == ["closing resource 'db'"]
    error = KeyError("body")
    outcome, raised = await ended(drive, dm, "db", error)
    assert (outcome, raised) == ("rolled_back", None)
    assert error.__notes__ == ["while closing resource 'db': OSError: late"]


async def test_rollback_fails(drive: Any, recorder: Any, caplog: Any) -> None:
    """A note on the error that rolls back; under a veto the answer stands, and it is logged and kept."""
    dm = DataManager()
    dm.register_resources(
        first=transactional(drive, recorder, "first", "authority"),
        db=transactional(drive, recorder, "db", "authority", rollback=OSError("gone")),
    )
    error = KeyError("body")
    assert await ended(drive, dm, "first db", error) == ("rolled_back", None)
    assert error.__notes__ == ["while rolling back resource 'db': OSError: gone"]
    recorder.clear()
    outcome, raised = await ended(drive, dm, "first db", status=409)
    assert (outcome, raised) == ("rolled_back", None)
    assert [record.message for record in outcome.errors] == ["gone"]
    assert recorder == ["db rollback", "first rollback", "db close", "first close"]


async def test_yielded_by_a_generator(drive: Any, recorder: Any) -> None:
    """A generator may yield a transactional object; it is then ended by the generator, after the commit."""
    dm = DataManager()
    made = AsyncTransaction if drive.has_async_parts else Transaction

    def db(context: Any) -> Iterator[Any]:
        try:
            yield made(recorder, "db", "authority")
        finally:
            recorder("generator ends")

    dm.register_resources(db=drive.part(db))
    assert await ended(drive, dm, "db") == ("committed", None)
    assert recorder == ["db prepare", "db commit", "generator ends"]
    recorder.clear()
    assert await ended(drive, dm, "db", OSError()) == ("rolled_back", None)
    assert recorder == ["db rollback", "generator ends"]


async def test_other_kinds_are_no_transactions(drive: Any, recorder: Any) -> None:
    """A value whose ``kind`` is something else is a plain value."""
    for kind in ("table", None, 3, ["authority"]):
        value = type("Value", (), {"kind": kind})()
        dm = DataManager()
        dm.register_resources(db=recorder.part("db", value))
        assert await ended(drive, dm, "db") == ("committed", None)


async def test_close_may_be_sync(drive: Any, recorder: Any) -> None:
    """A transaction with async steps may have a plain close."""
    if not drive.is_async:
        return

    class PlainClose(AsyncTransaction):
        def close(self) -> None:  # type: ignore[override]
            self._do("close")

    dm = DataManager()
    dm.register_resources(db=lambda context: PlainClose(recorder, "db", "authority"))
    assert await ended(drive, dm, "db") == ("committed", None)
    assert recorder == ["db prepare", "db commit", "db close"]


def test_async_transaction_in_a_sync_context(recorder: Any) -> None:
    """Its steps cannot be awaited: refused when it is touched, and whatever was opened is closed."""
    dm = DataManager()

    def db(context: Any) -> Iterator[Any]:
        try:
            yield AsyncTransaction(recorder, "db", "authority")
        finally:
            recorder("generator ends")

    dm.register_resources(made=lambda context: AsyncTransaction(recorder, "made", "authority"), db=db)
    with pytest.raises(AsyncResourceError):
        with dm.context() as ctx:
            with pytest.raises(AsyncResourceError):
                _ = ctx.made
            _ = ctx.db
    assert recorder == ["generator ends"]
    assert ctx.outcome == "rolled_back"


async def test_a_generator_may_commit_after_its_yield(drive: Any, recorder: Any, caplog: Any) -> None:
    """What ran after a yield counts as kept: a later failure makes the outcome partial, never rolled back."""
    dm = DataManager()

    def failing(context: Any) -> Iterator[int]:
        yield 1
        raise OSError("first")

    dm.register_resources(failing=drive.part(failing), db=drive.part(recorder.part("db")))
    outcome, raised = await ended(drive, dm, "failing db")
    assert outcome == "partial"
    assert outcome.reason == "OSError was raised"
    assert isinstance(raised, OSError)
    assert "context ended partial" in caplog.text


async def test_unreadable_messages(drive: Any, recorder: Any) -> None:
    """An error whose text cannot be made is recorded all the same."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError

    dm = DataManager()
    outcome, _ = await ended(drive, dm, "", Odd())
    assert outcome.errors == ((Odd, "<message not readable: ValueError>", "the body of the context"),)


@pytest.mark.parametrize("related", ["not at all", "to an older one", "to its cause"])
async def test_a_replaced_error_stays_reachable(drive: Any, related: str) -> None:
    """Behind the one that replaced it, whatever the two were raised in; never in a circle."""
    older, new = LookupError("older"), ValueError("new")
    dm = DataManager()

    def replacing(context: Any) -> Iterator[None]:
        try:
            yield
        except KeyError:
            pass
        raise new

    dm.register_context_middleware(drive.part(replacing))
    given = KeyError("given")
    if related == "to an older one":
        given.__context__ = older
    elif related == "to its cause":
        given.__context__ = new
    ctx = await drive.open(dm.context())
    with pytest.raises(ValueError) as caught:
        await drive.close(ctx, given)
    assert caught.value is new
    chain: list[Any] = [new]
    while chain[-1].__context__ is not None:
        chain.append(chain[-1].__context__)
        assert len(chain) < 10
    assert (
        chain
        == {
            "not at all": [new, given],
            "to an older one": [new, given, older],
            "to its cause": [new],  # which already is reachable from the other
        }[related]
    )
    assert [record.type for record in ctx.outcome.errors] == [KeyError, ValueError]
