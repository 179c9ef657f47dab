"""`DataManager.run`: a whole unit of work, tried again where a database says that it may help."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from polydatum import CommitOutcomeUnknown, ConfigurationError, DataManager, Service
from polydatum.retrying import FIRST_PAUSE, is_transient, pauses
from tests.unit.ledgers import AsyncLedger, Ledger


class Transient(Exception):
    """As psycopg raises it."""

    sqlstate = "40001"


class Work:
    """Fails some times, then succeeds; each attempt leaves an entry in the context's transaction."""

    def __init__(self, drive: Any, *failures: Exception) -> None:
        self.drive = drive
        self.failures = list(failures)
        self.kept: list[int] = []
        self.attempts = 0
        made = AsyncLedger if drive is not None and drive.has_async_parts else Ledger
        self.manager: Any = DataManager()
        self.manager.register_resources(db=lambda context: made(self.kept))

    def run(self, **options: Any) -> Any:
        return (
            self.manager.arun(self.aunit, **options) if self.drive.is_async else self.manager.run(self.unit, **options)
        )

    def unit(self, dal: Any) -> str:
        self.attempts += 1
        self.manager.db.append(self.attempts)
        if self.failures:
            raise self.failures.pop(0)
        return "done"

    async def aunit(self, dal: Any) -> str:
        self.attempts += 1
        (await self.drive.value(self.manager.db)).append(self.attempts)
        if self.failures:
            raise self.failures.pop(0)
        return "done"


async def test_the_result_comes_after_the_commit(drive: Any) -> None:
    work = Work(drive)
    assert await drive.value(work.run()) == "done"
    assert work.kept == [1]


async def test_it_is_tried_again_in_a_fresh_context(drive: Any) -> None:
    """What a failed attempt did is rolled back."""
    work = Work(drive, Transient(), Transient())
    assert await drive.value(work.run()) == "done"
    assert work.kept == [3]


async def test_attempts_end(drive: Any) -> None:
    """The last error is raised as it is."""
    work = Work(drive, Transient(), Transient(), Transient())
    with pytest.raises(Transient):
        await drive.value(work.run())
    assert work.attempts == 3
    work = Work(drive, Transient())
    with pytest.raises(Transient):
        await drive.value(work.run(attempts=1))
    assert work.kept == []


async def test_other_errors_are_raised_at_once(drive: Any) -> None:
    work = Work(drive, ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await drive.value(work.run())
    assert work.attempts == 1


async def test_a_failed_commit_counts(drive: Any) -> None:
    """Serializable transactions may fail only there."""
    failures: list[BaseException] = [Transient()]

    class Late(Ledger):
        def commit(self) -> None:
            if failures:
                raise failures.pop()
            super().commit()

    kept: list[str] = []
    dm: Any = DataManager()
    dm.register_resources(db=lambda context: Late(kept))

    async def aunit(dal: Any) -> None:
        dm.db.append("tea")

    if drive.is_async:
        await dm.arun(aunit)
    else:
        dm.run(lambda dal: dm.db.append("tea"))
    assert kept == ["tea"]


def now(coroutine: Any) -> None:
    """Run what never suspends."""
    try:
        coroutine.send(None)
    except StopIteration:
        pass


async def test_what_may_have_been_kept_is_not_tried_again(drive: Any) -> None:
    """Of two databases the first has committed when the second refuses; and so it is with `commit_on_error`."""
    made = AsyncLedger if drive.has_async_parts else Ledger
    kept: list[str] = []
    dm: Any = DataManager(commit_order=["first", "second"])
    dm.register_resources(
        first=lambda context: made(kept), second=lambda context: made(kept, fails={"commit": Transient()})
    )

    async def both(dal: Any) -> None:
        (await drive.value(dm.first)).append("paid")
        (await drive.value(dm.second)).append("sent")

    async def counted(dal: Any) -> None:
        (await drive.value(dm.first)).append("counted")
        dm.require_active_context().commit_on_error()
        raise Transient

    for unit in (both, counted):
        with pytest.raises(Transient):
            if drive.is_async:
                await dm.arun(unit)
            else:
                dm.run(lambda dal, unit=unit: now(unit(dal)))
    assert kept == ["paid", "counted"]


async def run(drive: Any, dm: Any, unit: Any, **options: Any) -> Any:
    """A sync unit of work, by either half."""

    async def aunit(dal: Any) -> Any:
        return unit(dal)

    return await dm.arun(aunit, **options) if drive.is_async else dm.run(unit, **options)


async def test_it_takes_what_a_context_takes(drive: Any) -> None:
    """Also its rules for the end, in each attempt."""

    class Facts(Service):
        def facts(self) -> Any:
            return self._ctx.meta.user, self._ctx.read_only, self._ctx._limit

    dm = DataManager()
    dm.register_services(facts=Facts())
    options: Any = {"meta": {"user": "ann"}, "read_only": True, "teardown_timeout": 1.5}
    assert await run(drive, dm, lambda dal: dal.facts.facts(), **options) == ("ann", True, 1.5)
    async with drive.block(dm.dal(**options)) as dal:
        assert dal.facts.facts() == ("ann", True, 1.5)


async def test_its_own_rule_for_rolling_back(drive: Any) -> None:
    """What it keeps is not tried again."""
    made = AsyncLedger if drive.has_async_parts else Ledger
    kept: list[str] = []
    dm: Any = DataManager()
    dm.register_resources(db=lambda context: made(kept))

    async def aunit(dal: Any) -> None:
        (await drive.value(dm.db)).append("counted")
        raise Transient

    with pytest.raises(Transient):
        options: Any = {"rollback_on": lambda exc, status: False}
        if drive.is_async:
            await dm.arun(aunit, **options)
        else:
            dm.run(lambda dal: now(aunit(dal)), **options)
    assert kept == ["counted"]


async def test_several_errors_at_once(drive: Any) -> None:
    """Of a task group: tried again if that may help against each of them."""
    for errors, attempts in (((Transient(), Transient()), 2), ((Transient(), ValueError("no")), 1)):
        work = Work(drive, ExceptionGroup("two tasks", errors))
        if attempts == 2:
            assert await drive.value(work.run()) == "done"
        else:
            with pytest.raises(ExceptionGroup):
                await drive.value(work.run())
        assert work.attempts == attempts


# --- What cannot be run -----------------------------------------------------------------------------------------------


async def unit_of_work(dal: Any) -> str:
    return "done"


class Unit:
    async def __call__(self, dal: Any) -> str:
        return "done"


@pytest.mark.parametrize("unit", [unit_of_work, Unit(), lambda dal: unit_of_work(dal)])
def test_run_is_for_sync_functions(unit: Any) -> None:
    """What an async one returns has not run, and would run without a context: nothing commits on its behalf."""
    work = Work(None)
    with pytest.raises(ConfigurationError, match=r"run\(\) got a coroutine.*await dm\.arun"):
        work.manager.run(lambda dal: (work.manager.db.append(1), unit(dal))[1])
    assert work.kept == []


@pytest.mark.parametrize("unit", [lambda dal: "done", lambda dal: None])
def test_arun_is_for_async_functions(unit: Any) -> None:
    """It names the twin."""

    async def main() -> None:
        with pytest.raises(ConfigurationError, match=r"arun\(\) awaits .* is not awaitable; use 'dm\.run\("):
            await DataManager().arun(unit)

    asyncio.run(main())


def test_arun_awaits_whatever_can_be() -> None:
    async def main() -> None:
        assert await DataManager().arun(lambda dal: asyncio.ensure_future(unit_of_work(dal))) == "done"
        assert await DataManager().arun(lambda dal: unit_of_work(dal)) == "done"

    asyncio.run(main())


async def test_what_middleware_suppresses_gives_none(drive: Any) -> None:
    """It is not tried again: somebody has dealt with it."""
    work = Work(drive, Transient())

    def forgiving(context: Any) -> Any:
        try:
            yield
        except Transient:
            pass

    work.manager.register_context_middleware(forgiving)
    assert await drive.value(work.run()) is None
    assert work.attempts == 1


def test_attempts_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="1 or more"):
        DataManager().run(lambda dal: None, attempts=0)


def test_pauses_grow_and_differ() -> None:
    """Each is drawn between nothing and twice the limit of the one before."""
    drawn = [list(pauses(4)) for _ in range(200)]
    for number in range(3):
        column = [pause[number] for pause in drawn]
        assert 0 <= min(column) < max(column) <= FIRST_PAUSE * 2**number
        assert max(column) > FIRST_PAUSE * 2**number / 2


# --- What is transient ------------------------------------------------------------------------------------------------


def with_facts(module: str = "driver", args: tuple[Any, ...] = (), **facts: Any) -> Exception:
    """An error as some driver raises it."""
    error: Exception = type("DriverError", (Exception,), {"__module__": module})(*args)
    vars(error).update(facts)
    return error


def wrapped(error: Exception) -> Exception:
    """As SQLAlchemy hands on what a driver raised."""
    return with_facts("sqlalchemy.exc", orig=error)


def caused(error: Exception) -> Exception:
    other = RuntimeError("while booking")
    other.__cause__ = error
    return other


TRANSIENT = {
    "serialization failure": with_facts("psycopg.errors", sqlstate="40001"),
    "deadlock": with_facts("asyncpg.exceptions", sqlstate="40P01"),
    "psycopg2": with_facts("psycopg2.errors", pgcode="40001"),
    "by SQLAlchemy": wrapped(with_facts("psycopg.errors", sqlstate="40001")),
    "as a cause": caused(with_facts("psycopg.errors", sqlstate="40001")),
    "PyMySQL": with_facts("pymysql.err", (1213, "Deadlock found")),
    "PyMySQL, by snapshot isolation": with_facts("pymysql.err", (1020, "Record has changed since last read")),
    "MariaDB's connector": with_facts("mariadb", errno=1213),
    "SQLite busy": with_facts("sqlite3", sqlite_errorcode=sqlite3.SQLITE_BUSY),
    "SQLite busy snapshot": with_facts("sqlite3", sqlite_errorcode=sqlite3.SQLITE_BUSY_SNAPSHOT),
    "SQLite locked": with_facts("sqlite3", sqlite_errorcode=sqlite3.SQLITE_LOCKED),
    "MongoDB": with_facts("pymongo.errors", has_error_label=lambda label: label == "TransientTransactionError"),
    "all of several": ExceptionGroup(
        "", [with_facts(sqlstate="40001"), ExceptionGroup("", [with_facts(pgcode="40P01")])]
    ),
    "all of several, as a cause": caused(ExceptionGroup("", [with_facts(sqlstate="40001")])),
}
LOCK_TIMEOUTS = {
    "PostgreSQL": with_facts("psycopg.errors", sqlstate="55P03"),
    "psycopg2": with_facts("psycopg2.errors", pgcode="55P03"),
    "PyMySQL, by SQLAlchemy": wrapped(with_facts("pymysql.err", (1205, "Lock wait timeout exceeded"))),
    "MariaDB's connector": with_facts("mariadb", errno=1205),
    "one of several": ExceptionGroup("", [with_facts(sqlstate="40001"), with_facts(sqlstate="55P03")]),
}
OTHERS = {
    "unique violation": with_facts("psycopg.errors", sqlstate="23505"),
    "1205 of somebody else": with_facts("shop.errors", (1205, "items")),
    "1213 of somebody else": with_facts("shop.errors", (1213, "items")),
    "SQLite constraint": with_facts("sqlite3", sqlite_errorcode=sqlite3.SQLITE_CONSTRAINT),
    "MongoDB duplicate": with_facts("pymongo.errors", has_error_label=lambda label: False),
    "plain": ValueError("no"),
    "one of several": ExceptionGroup("", [with_facts(sqlstate="40001"), ValueError("no")]),
    "one of several, unknown": ExceptionGroup("", [with_facts(sqlstate="40001"), CommitOutcomeUnknown("db")]),
}


@pytest.mark.parametrize("error", TRANSIENT.values(), ids=TRANSIENT)
def test_transient(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize("error", OTHERS.values(), ids=OTHERS)
def test_not_transient(error: Exception) -> None:
    assert not is_transient(error)
    assert not is_transient(error, lock_timeouts=True)


@pytest.mark.parametrize("error", LOCK_TIMEOUTS.values(), ids=LOCK_TIMEOUTS)
def test_lock_timeouts_are_for_who_asks_for_them(error: Exception) -> None:
    """Whoever holds the lock may do so for long: `dm.run` does not wait for it again and again."""
    assert not is_transient(error)
    assert is_transient(error, lock_timeouts=True)


def test_an_unknown_outcome_is_never_tried_again() -> None:
    """Whatever the driver's error says: it may have succeeded."""
    error = CommitOutcomeUnknown("db")
    error.__cause__ = with_facts("psycopg.errors", sqlstate="40001")
    assert not is_transient(error)


def test_a_chain_that_ends_nowhere() -> None:
    error = ValueError("no")
    error.__cause__ = error
    assert not is_transient(error)


def test_a_group_that_is_the_cause_of_its_own() -> None:
    error = ValueError("no")
    error.__cause__ = group = ExceptionGroup("", [error])
    assert not is_transient(error)
    assert not is_transient(group)


def test_sqlite_that_is_busy(tmp_path: Path) -> None:
    """The error as sqlite3 raises it."""
    first = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
    second = sqlite3.connect(tmp_path / "shop.db", isolation_level=None, timeout=0)
    first.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError) as busy:
        second.execute("BEGIN IMMEDIATE")
    assert is_transient(busy.value)
    first.close()
    second.close()
