"""Threads and tasks that go on with a session when its context ends: they keep nothing, and hold nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.util import await_only

from polydatum import ContextClosedError
from polydatum.testing.backend_contract import Bench, Failure, settled
from tests.backends.sql_servers import NAME, table_on
from tests.backends.sqlalchemy_hosts import (
    HOSTS,
    SQLITE,
    AsyncpgHost,
    Entry,
    SQLAlchemyHost,
    on,
    server_for,
)

SYNC = [host for host in HOSTS if not host.is_async]
ASYNC = [host for host in HOSTS if host.is_async]
ACTIVE = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND state = 'active'"


@pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SQLAlchemyHost]:
    with table_on(server_for(request.param, tmp_path)) as server:
        yield request.param(server)


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Any:
    """What we tell: what is handled is no matter for a traceback."""
    yield lambda: [record.getMessage() for record in caplog.records if record.name == "polydatum"]
    assert not [record for record in caplog.records if record.name != "asyncio" and record.exc_info]


class Straggler:
    """A thread that uses a session, and waits at a certain place until the context has ended."""

    def __init__(self, work: Any) -> None:
        self.error: BaseException | None = None
        self._arrived = Event()
        self._go_on = Event()
        self._thread = Thread(target=self._run, args=(work,))

    def _run(self, work: Any) -> None:
        try:
            work()
        except BaseException as error:
            self.error = error

    def waits(self, *_: Any) -> None:
        """A listener."""
        if not self._arrived.is_set():
            self._arrived.set()
            assert self._go_on.wait(10)

    def start(self) -> None:
        self._thread.start()
        assert self._arrived.wait(10)

    def finish(self) -> None:
        self._go_on.set()
        self._thread.join()


@contextmanager
def left_behind(bench: Bench, straggler: Straggler, **options: Any) -> Iterator[Any]:
    """A context that fails while the straggler is in its session; the block prepares both."""
    with pytest.raises(Failure), bench.manager.context(**options) as ctx:
        yield ctx
        straggler.start()
        raise Failure


# --- Threads ----------------------------------------------------------------------------------------------------------


@on(*SYNC)
class TestThreads:
    """As of a sync endpoint whose request was cancelled."""

    @pytest.mark.parametrize("read_only", [False, True])
    @pytest.mark.parametrize("place", ["connecting", "connected"])
    def test_one_that_gets_a_connection_keeps_nothing(self, host: Any, place: str, read_only: bool) -> None:
        bench = Bench(host, host.backend(pool_size=1, max_overflow=0, pool_timeout=1))
        engine = bench.manager.get_client("db")
        straggler = Straggler(lambda: host.write(session, bench.key(), "tea"))
        with left_behind(bench, straggler, read_only=read_only) as ctx:
            session: Any = ctx.db
            event.listen(
                *((engine, "checkout") if place == "connecting" else (session, "after_begin")), straggler.waits
            )
        straggler.finish()
        assert isinstance(straggler.error, ContextClosedError if place == "connecting" else PendingRollbackError)
        assert engine.pool.checkedout() == 0
        assert ctx.outcome == "rolled_back"
        with bench.manager.context() as ctx:
            host.write(ctx.db, bench.key("next"), "tea")
        assert [bench.look(), bench.look("next")] == [None, "tea"]
        bench.manager.close()

    def test_one_that_has_a_connection_gives_it_back_at_once(self, host: Any) -> None:
        """While it is still on its way."""
        bench = Bench(host)
        engine = bench.manager.get_client("db")
        straggler = Straggler(lambda: host.write(session, bench.key(), "tea"))
        with left_behind(bench, straggler) as ctx:
            session: Any = ctx.db
            event.listen(session, "after_begin", straggler.waits)
        assert engine.pool.checkedout() == 0
        straggler.finish()
        bench.manager.close()

    def test_one_that_flushes(self, host: Any) -> None:
        bench = Bench(host)
        engine = bench.manager.get_client("db")
        straggler = Straggler(lambda: session.flush())
        with left_behind(bench, straggler) as ctx:
            session: Any = ctx.db
            session.add(Entry(name=bench.key(), text="tea"))
            event.listen(engine, "checkout", straggler.waits)
        straggler.finish()
        assert isinstance(straggler.error, ContextClosedError)
        assert engine.pool.checkedout() == 0
        assert bench.look() is None
        bench.manager.close()

    def test_one_that_commits_keeps_nothing(self, host: Any) -> None:
        bench = Bench(host)
        engine = bench.manager.get_client("db")
        straggler = Straggler(lambda: session.commit())
        with left_behind(bench, straggler) as ctx:
            session: Any = ctx.db
            host.write(session, bench.key(), "tea")
            event.listen(session, "before_commit", straggler.waits)
        straggler.finish()
        assert straggler.error
        assert engine.pool.checkedout() == 0
        assert ctx.outcome == "rolled_back"
        assert bench.look() is None
        bench.manager.close()

    @pytest.mark.parametrize(("joins", "read_only"), [(False, False), (False, True), (True, False)])
    def test_one_that_has_a_lent_connection_leaves_it_to_its_lender(
        self, host: Any, joins: bool, read_only: bool
    ) -> None:
        engine = host.backend().connect()
        with engine.connect() as connection:
            if joins:
                connection.begin()
            maker = sessionmaker(connection, join_transaction_mode="create_savepoint")
            bench = Bench(host, host.make(maker))
            straggler = Straggler(lambda: host.write(session, bench.key(), "tea"))
            with left_behind(bench, straggler, read_only=read_only) as ctx:
                session: Any = ctx.db
                event.listen(session, "after_begin", straggler.waits)
            assert not connection.invalidated
            assert connection.in_transaction() is joins
            straggler.finish()
            connection.rollback()
        assert bench.look() is None
        bench.manager.close()
        engine.dispose()


# --- Connections and sessions that fail at the end --------------------------------------------------------------------


@on(*SYNC)
def test_a_final_rollback_that_fails_closes_its_connection(host: Any, monkeypatch: Any, log: Any) -> None:
    bench = Bench(host)
    engine = bench.manager.get_client("db")

    def refuse(connection: Any) -> None:
        monkeypatch.undo()
        raise engine.dialect.dbapi.OperationalError("not now")

    with pytest.raises(Failure), bench.manager.context() as ctx:
        host.write(ctx.db, bench.key(), "tea")
        monkeypatch.setattr(engine.dialect, "do_rollback", refuse)
        raise Failure
    assert ctx.outcome == "rolled_back"
    assert ["its connection was closed" in message for message in log()] == [True]
    assert engine.pool.checkedout() == 0
    assert bench.look() is None
    bench.manager.close()


@on(*SYNC)
def test_a_session_that_fails_to_close_is_told(host: Any, caplog: Any) -> None:
    class Broken(Session):
        def close(self) -> None:
            super().close()
            raise OSError("not now")

    engine = host.backend().connect()
    bench = Bench(host, host.make(sessionmaker(engine, class_=Broken)))
    with bench.manager.context() as ctx:
        host.write(ctx.db, bench.key(), "tea")
    assert ctx.outcome == "committed"
    assert [error.type for error in ctx.outcome.errors] == [OSError]
    assert bench.look() == "tea"
    caplog.clear()
    bench.manager.close()
    engine.dispose()


# --- Tasks ------------------------------------------------------------------------------------------------------------


class TestTasks:
    """As of ``asyncio.gather()``, where another one has failed."""

    @on(*ASYNC)
    @pytest.mark.parametrize("place", ["connecting", "connected"])
    def test_one_that_gets_a_connection_keeps_nothing(self, host: Any, place: str) -> None:
        async def check() -> None:
            arrived, go_on = asyncio.Event(), asyncio.Event()

            def wait(*_: Any) -> None:
                if not arrived.is_set():
                    arrived.set()
                    await_only(go_on.wait())

            bench = Bench(host, host.backend(pool_size=1, max_overflow=0, pool_timeout=1))
            engine = await bench.manager.get_client("db")
            with pytest.raises(Failure):
                async with bench.context() as ctx:
                    session = await ctx.db
                    where = (
                        (engine.sync_engine, "checkout")
                        if place == "connecting"
                        else (session.sync_session, "after_begin")
                    )
                    event.listen(*where, wait)
                    straggler = asyncio.create_task(host.write(session, bench.key(), "tea"))
                    await arrived.wait()
                    raise Failure
            if place == "connected":
                assert engine.pool.checkedout() == 0
            go_on.set()
            with pytest.raises(ContextClosedError if place == "connecting" else PendingRollbackError):
                await straggler
            assert engine.pool.checkedout() == 0
            async with bench.context() as ctx:
                await bench.write(ctx, "next")
            assert [bench.look(), bench.look("next")] == [None, "tea"]
            await bench.close()

        host.run(check())

    @on(AsyncpgHost)
    @pytest.mark.parametrize("cancelled", [False, True])
    def test_one_in_a_statement_leaves_no_connection_behind_that_is_of_no_use(
        self, host: Any, cancelled: bool, log: Any
    ) -> None:
        """asyncpg does one thing at a time, and cannot roll back meanwhile."""

        async def check() -> None:
            bench = Bench(host, host.backend(pool_size=1, max_overflow=0, pool_timeout=1))
            engine = await bench.manager.get_client("db")
            with pytest.raises(Failure):
                async with bench.context() as ctx:
                    await bench.write(ctx)
                    straggler = asyncio.create_task(host.slow(await ctx.db))
                    while not host.server.ask(ACTIVE, NAME):  # noqa: ASYNC110
                        await asyncio.sleep(0)
                    if cancelled:
                        straggler.cancel()
                    raise Failure
            assert ctx.outcome == "rolled_back"
            assert engine.pool.checkedout() == 0
            async with bench.context() as ctx:
                await bench.write(ctx, "next")
            assert [bench.look(), bench.look("next")] == [None, "tea"]
            (error,) = await asyncio.gather(straggler, return_exceptions=True)
            assert isinstance(
                error, asyncio.CancelledError if cancelled else Exception
            )  # asyncpg's own or SQLAlchemy's
            (message,) = log()
            assert "'db': its connection was closed" in message
            assert "Have it end before" in message
            await bench.close()

        host.run(check())


# --- Late use ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("source", ["url", "factory", "connection"])
@pytest.mark.parametrize("way", ["execute", "add", "begin"])
@on(*SQLITE)
def test_late_use_is_refused(host: Any, source: str, used: bool, way: str) -> None:
    """It would begin anew, and nobody would end it."""

    async def check() -> None:
        engine = host.backend()
        engine = await settled(engine.connect())
        maker: Any = async_sessionmaker if host.is_async else sessionmaker
        connection = await settled(engine.connect())
        sources = {"url": engine, "factory": maker(engine), "connection": maker(connection)}
        bench = Bench(host, host.make(sources[source]))
        async with bench.context() as ctx:
            session = await bench.value(ctx)
            if used:
                await bench.write(ctx)
        for _ in range(2):
            with pytest.raises(ContextClosedError, match=r"cannot use db: its context is closed \(outcome committed\)"):
                if way == "execute":
                    await settled(session.execute(text("SELECT 1")))
                elif way == "add":
                    session.add(Entry(name="late", text="tea"))
                else:
                    await settled(session.begin())
        assert engine.pool.checkedout() == 1  # the lent one
        assert not connection.in_transaction()
        await settled(connection.close())
        await bench.close()
        await settled(engine.dispose())

    host.run(check())
