"""SQLAlchemy: the contract on every driver, and what is special to it."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from threading import Thread
from typing import Any
from weakref import ref

import pymysql
import pytest
from sqlalchemy import URL, create_engine, delete, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import StaticPool

from polydatum import (
    CommitOutcomeUnknown,
    ConfigurationError,
    DataManager,
    MissingClientError,
    MultipleAuthoritiesError,
    RollbackOnlyError,
)
from polydatum.backends.sqlalchemy import AsyncSQLAlchemyBackend, SQLAlchemyBackend
from polydatum.backends.sqlalchemy_databases import Begun
from polydatum.testing import BackendContract
from polydatum.testing.backend_contract import Bench, Failure, gone, scenario, settled
from tests.backends.sql_servers import NAME, PLAIN, in_child, table_on
from tests.backends.sqlalchemy_hosts import (
    ENTRIES,
    HOSTS,
    MARIA,
    POSTGRES,
    SQLITE,
    Entry,
    SQLAlchemyHost,
    on,
    server_for,
)


@pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SQLAlchemyHost]:
    with table_on(server_for(request.param, tmp_path)) as server:
        yield request.param(server)


def single(host: SQLAlchemyHost, **options: Any) -> Any:
    """A backend whose contexts all use the same connection."""
    return host.backend(pool_size=1, max_overflow=0, pool_timeout=5, **options)


def sync_session(session: Any) -> Any:
    """What listeners listen to."""
    return session.sync_session if isinstance(session, AsyncSession) else session


async def driver_connection(session: Any) -> Any:
    """What lies below SQLAlchemy."""
    if isinstance(session, AsyncSession):
        return (await (await session.connection()).get_raw_connection()).driver_connection
    return session.connection().connection.driver_connection


class TestSQLAlchemy(BackendContract):
    @pytest.fixture
    def host(self, host: Any) -> Any:
        return host


# --- Swallowed errors -------------------------------------------------------------------------------------------------


class TestSwallowedErrors:
    @on(*POSTGRES)
    @pytest.mark.parametrize("way", ["text", "cursor"])
    def test_postgresql_cannot_commit_after_one(self, host: Any, way: str) -> None:
        """Whatever executed the statement: it would answer the COMMIT by a rollback, and no error."""

        async def check() -> None:
            bench = Bench(host)
            told = (
                "earlier error .*22012. made" if way == "text" else "an earlier error made"
            )  # a driver's is not known
            with pytest.raises(RollbackOnlyError, match=told):
                async with bench.context() as ctx:
                    await bench.write(ctx)
                    session = await bench.value(ctx)
                    with pytest.raises(Exception, match="division by zero"):
                        if way == "text":
                            await settled(session.execute(text("SELECT 1 / 0")))
                        else:
                            await settled((await driver_connection(session)).execute("SELECT 1 / 0"))
                    with pytest.raises(DBAPIError):
                        await settled(session.execute(text("SELECT 1")))  # refused for the first one
            assert ctx.outcome == "rolled_back"
            assert bench.look() is None
            await bench.close()

        host.run(check())

    @on(*MARIA, *SQLITE)
    @scenario()
    async def test_others_can(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            await bench.write(ctx)
            with pytest.raises(IntegrityError):
                await bench.write(ctx)
        assert ctx.outcome == "committed"
        assert bench.look() == "tea"

    @scenario()
    async def test_all_can_if_it_was_in_a_nested_block(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            await bench.write(ctx)
            with pytest.raises(IntegrityError):
                async with bench.nested(ctx):
                    await bench.write(ctx)
            await bench.write(ctx, "after")
        assert ctx.outcome == "committed"
        assert [bench.look(), bench.look("after")] == ["tea", "tea"]

    @on(*POSTGRES)
    @scenario()
    async def test_an_error_swallowed_inside_of_a_block(self, bench: Bench) -> None:
        """The block cannot be kept; the transaction can."""
        async with bench.context() as ctx:
            await bench.write(ctx)
            with pytest.raises(RollbackOnlyError):
                async with bench.nested(ctx):
                    await bench.write(ctx, "inside")
                    with pytest.raises(IntegrityError):
                        await bench.write(ctx)
            await bench.write(ctx, "after")
        assert [bench.look(name) for name in ("", "inside", "after")] == ["tea", None, "tea"]

    @scenario()
    async def test_a_failed_flush_inside_of_a_block(self, bench: Bench) -> None:
        """It has rolled back the block."""
        async with bench.context() as ctx:
            await bench.write(ctx)
            session = await bench.value(ctx)
            with pytest.raises(RollbackOnlyError):
                async with bench.nested(ctx):
                    session.add(Entry(name=bench.key(), text="again"))
                    with pytest.raises(IntegrityError):
                        await settled(session.flush())
            await bench.write(ctx, "after")
        assert [bench.look(), bench.look("after")] == ["tea", "tea"]

    @scenario()
    async def test_none_can_after_a_failed_flush(self, bench: Bench) -> None:
        """It has rolled back everything, the statements before it too."""
        with pytest.raises(RollbackOnlyError, match=r"an earlier error \(.*(Integrity|Unique)") as raised:
            async with bench.context() as ctx:
                await bench.write(ctx)
                session = await bench.value(ctx)
                session.add(Entry(name=bench.key(), text="again"))
                with pytest.raises(IntegrityError):
                    await settled(session.flush())
        assert "Original exception was" in str(raised.value.__cause__)
        assert ctx.outcome == "rolled_back"
        assert bench.look() is None

    @on(*POSTGRES, *MARIA)
    @scenario()
    async def test_a_lost_connection(self, bench: Bench) -> None:
        server = bench.host.server  # type: ignore[attr-defined]
        own_id, kill = (
            ("pg_backend_pid()", "SELECT pg_terminate_backend({})")
            if isinstance(bench.host, POSTGRES)
            else ("connection_id()", "KILL {}")
        )
        with pytest.raises(RollbackOnlyError):
            async with bench.context() as ctx:
                await bench.write(ctx)
                session = await bench.value(ctx)
                process = await settled(session.scalar(text(f"SELECT {own_id}")))
                server.ask(kill.format(process))
                with pytest.raises(DBAPIError):
                    for _ in range(100):
                        await settled(session.execute(text("SELECT 1")))
        assert ctx.outcome == "rolled_back"
        assert bench.look() is None

    @on(*MARIA)
    @scenario()
    async def test_a_deadlock_on_mariadb(self, bench: Bench) -> None:
        """It rolls back all of one of the two, and later statements of that one would commit alone."""
        async with bench.context() as ctx:
            await bench.write(ctx, "a")
            await bench.write(ctx, "b")
        change = text(f"UPDATE {NAME} SET text = 'rice' WHERE name = :name")
        with pytest.raises(RollbackOnlyError, match=r"an earlier error \(OperationalError"):
            async with bench.context() as ctx:
                session = await bench.value(ctx)
                await settled(session.execute(change, {"name": bench.key("a")}))
                await _deadlock(bench, session, change)
                await bench.write(ctx, "after")
        assert bench.look("after") is None

    @on(*MARIA)
    @scenario()
    async def test_a_snapshot_that_is_out_of_date_on_mariadb(self, bench: Bench) -> None:
        """With its snapshot isolation, which is on by default from 11.6, it rolls back all, too."""
        async with bench.context() as ctx:
            await bench.write(ctx, "a")
        change = text(f"UPDATE {NAME} SET text = 'rice' WHERE name = :name")
        with pytest.raises(RollbackOnlyError):
            async with bench.context() as ctx:
                session = await bench.value(ctx)
                await settled(session.execute(text("SET innodb_snapshot_isolation = ON")))
                await bench.write(ctx, "before")
                await bench.read(ctx, "a")
                async with bench.context() as other:
                    await settled((await bench.value(other)).execute(change, {"name": bench.key("a")}))
                with pytest.raises(DBAPIError, match="Record has changed"):
                    await settled(session.execute(change, {"name": bench.key("a")}))
                await bench.write(ctx, "after")
        assert [bench.look("before"), bench.look("after")] == [None, None]


async def _deadlock(bench: Bench, session: Any, change: Any) -> None:
    """Have the server choose the session: the other transaction has done more."""
    server = bench.host.server  # type: ignore[attr-defined]
    other = pymysql.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, database=NAME, **PLAIN
    )
    with other.cursor() as cursor:
        for number in range(50):
            cursor.execute(f"INSERT INTO {NAME} VALUES (%s, 'x')", (bench.key(f"other-{number}"),))
        cursor.execute(f"UPDATE {NAME} SET text = 'rice' WHERE name = %s", (bench.key("b"),))

        def wait_for_the_first() -> None:
            cursor.execute(f"UPDATE {NAME} SET text = 'rice' WHERE name = %s", (bench.key("a"),))

        thread = Thread(target=wait_for_the_first)
        thread.start()
        while not server.ask("SELECT 1 FROM information_schema.innodb_lock_waits"):
            pass
        with pytest.raises(DBAPIError, match="Deadlock"):
            await settled(session.execute(change, {"name": bench.key("b")}))
        thread.join()
    other.rollback()
    other.close()


# --- Read-only --------------------------------------------------------------------------------------------------------


class TestReadOnly:
    @scenario()
    async def test_results_stay_usable(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            await bench.write(ctx)
        for read_only in (True, False):
            async with bench.context(read_only=read_only) as ctx:
                entry = await settled((await bench.value(ctx)).get(Entry, bench.key()))
            assert entry.text == "tea"

    def test_the_same_connection_writes_afterwards(self, host: Any) -> None:
        """However the read-only context ended, and also if its services rolled back in between."""

        async def check() -> None:
            bench = Bench(host, single(host))
            for way in ("clean", "raised", "rolled back"):
                try:
                    async with bench.context(read_only=True) as ctx:
                        await bench.read(ctx)
                        if way == "raised":
                            raise Failure
                        if way == "rolled back":
                            await settled((await bench.value(ctx)).rollback())
                            with pytest.raises(DBAPIError):
                                await bench.write(ctx, way)
                except Failure:
                    pass
                async with bench.context() as ctx:
                    await bench.write(ctx, way)
                assert bench.look(way) == "tea"
            await bench.close()

        host.run(check())

    @on(*SQLITE)
    @scenario()
    async def test_a_connection_that_was_given_up(self, bench: Bench) -> None:
        async with bench.context(read_only=True) as ctx:
            session = await bench.value(ctx)
            await bench.read(ctx)
            await settled((await settled(session.connection())).invalidate())
        assert ctx.outcome == "committed"
        async with bench.context() as ctx:
            await bench.write(ctx)
        assert bench.look() == "tea"

    @scenario()
    async def test_a_flush_is_refused(self, bench: Bench) -> None:
        with pytest.raises(DBAPIError):
            async with bench.context(read_only=True) as ctx:
                (await bench.value(ctx)).add(Entry(name=bench.key(), text="tea"))
        assert ctx.outcome == "rolled_back"
        assert bench.look() is None

    @scenario()
    async def test_a_swallowed_error_is_no_matter(self, bench: Bench) -> None:
        async with bench.context(read_only=True) as ctx:
            with pytest.raises(DBAPIError):
                await bench.write(ctx)
        assert ctx.outcome == "committed"


# --- Two of them ------------------------------------------------------------------------------------------------------


class TestTwo:
    """Two databases in one context: refused only if both wrote."""

    @pytest.mark.parametrize("second", ["unused", "reads", "rolled back", "writes"])
    def test_both(self, host: Any, second: str, tmp_path: Path) -> None:
        async def check() -> None:
            other: Any = host.backend()
            if host.server.placeholder == "?":  # one file of SQLite has one writer
                other = host.make(host.url.set(database=str(tmp_path / "other.db")))
            bench = Bench(host)
            bench.manager.register_resources(other=other)
            if second == "writes":
                with pytest.raises(MultipleAuthoritiesError):
                    await self._use(bench, second)
                assert bench.look() is None
            elif second == "rolled back":
                with pytest.raises(RollbackOnlyError, match="'other'"):
                    await self._use(bench, second)
                assert bench.look() is None
            elif second == "reads" and isinstance(host, MARIA):
                with pytest.raises(MultipleAuthoritiesError):  # it does not tell, so a reader may have written
                    await self._use(bench, second)
            else:
                await self._use(bench, second)
                assert bench.look() == "tea"
            await bench.close()

        host.run(check())

    async def _use(self, bench: Bench, second: str) -> None:
        async with bench.context() as ctx:
            await bench.write(ctx)
            session = await ctx.other if bench.host.is_async else ctx.other
            if second == "reads":
                await settled(session.execute(text("SELECT 1")))
            elif second != "unused":
                await settled(session.execute(text("CREATE TEMPORARY TABLE IF NOT EXISTS drinks (name VARCHAR(10))")))
                await settled(session.execute(text("INSERT INTO drinks VALUES ('tea')")))
            if second == "rolled back":
                await settled(session.rollback())


# --- Sources ----------------------------------------------------------------------------------------------------------


class Shop(Session):
    """A user's own session class."""


class AsyncShop(AsyncSession):
    """A user's own session class."""


def autocommitting(host: Any, way: str) -> tuple[Any, Any]:
    """A backend that is, by the URL's options, or by an engine that is given."""
    chosen = {"isolation_level": "AUTOCOMMIT"}
    if way == "url":
        return host.backend(**chosen), None
    if way == "driver":
        if host.driver.endswith("asyncpg"):
            pytest.skip("asyncpg has no such option")
        option = {"isolation_level": None} if isinstance(host, SQLITE) else {"autocommit": True}
        host.options = {"connect_args": {**host.options.get("connect_args", {}), **option}}
    engine = host.engine(**chosen) if way == "engine" else host.engine()
    return host.make(engine.execution_options(**chosen) if way == "option of the engine" else engine), engine


class TestSources:
    @scenario()
    async def test_services_get_the_real_session(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            assert type(await bench.value(ctx)) is (AsyncSession if bench.host.is_async else Session)

    @on(POSTGRES[0], *SQLITE)
    def test_a_session_factory_makes_its_sessions(self, host: Any) -> None:
        async def check() -> None:
            engine = host.engine()
            maker = async_sessionmaker(engine, class_=AsyncShop) if host.is_async else sessionmaker(engine, class_=Shop)
            bench = Bench(host, host.make(maker))
            for name in "ab":
                async with bench.context() as ctx:
                    session = await bench.value(ctx)
                    assert isinstance(session, Shop | AsyncShop)
                    assert session.sync_session.expire_on_commit if host.is_async else session.expire_on_commit
                    await bench.write(ctx, name)
                assert bench.look(name) == "tea"
                client = bench.manager.get_client("db")
                assert await settled(client) is engine
                await bench.close()
            assert NAME not in repr(bench.backend)
            await settled(engine.dispose())

        host.run(check())

    def test_what_is_refused(self) -> None:
        engine = create_async_engine("sqlite+aiosqlite://")
        with pytest.raises(ConfigurationError, match="takes a URL, Engine or sessionmaker, not a AsyncEngine"):
            SQLAlchemyBackend(engine)  # type: ignore[arg-type]
        with pytest.raises(
            ConfigurationError, match=r"AsyncSQLAlchemyBackend\(echo=...\): options apply only if the engine"
        ):
            AsyncSQLAlchemyBackend(engine, echo=True)
        with pytest.raises(ConfigurationError, match="no bind"):
            SQLAlchemyBackend(sessionmaker())

    @pytest.mark.parametrize("way", ["url", "engine", "factory"])
    def test_an_async_driver_is_refused_by_the_sync_backend(self, way: str) -> None:
        engine = create_engine("sqlite+aiosqlite://")
        source: Any = {"url": "sqlite+aiosqlite://", "engine": engine, "factory": sessionmaker(engine)}[way]
        with pytest.raises(ConfigurationError, match=r"sqlite\+aiosqlite, an async driver: use AsyncSQLAlchemyBackend"):
            SQLAlchemyBackend(source)

    def test_a_sync_driver_is_refused_by_the_async_backend(self) -> None:
        with pytest.raises(
            ConfigurationError, match=r"mysql\+pymysql, a sync driver: use SQLAlchemyBackend, or an async"
        ):
            AsyncSQLAlchemyBackend("mysql+pymysql://ann:secret@127.0.0.1/shop")

    def test_a_driver_that_is_not_there_is_sqlalchemys_to_refuse(self) -> None:
        backend = SQLAlchemyBackend("nonsense://127.0.0.1")
        with pytest.raises(NoSuchModuleError):
            backend.connect()

    def test_a_password_in_the_query_is_not_shown(self) -> None:
        backend = SQLAlchemyBackend("postgresql+psycopg://ann:secret@127.0.0.1/shop?password=secret")
        assert repr(backend) == "SQLAlchemyBackend(postgresql+psycopg://ann:***@127.0.0.1/shop)"

    @pytest.mark.parametrize("way", ["url", "engine", "option of the engine", "option of a connection", "driver"])
    def test_autocommit_is_refused(self, host: Any, way: str) -> None:
        """Each statement would be committed, however the context ends."""

        async def check() -> None:
            backend, engine = autocommitting(host, way)
            bench = Bench(host, backend)
            with pytest.raises(ConfigurationError, match=r"'db'.*AUTOCOMMIT.*dm.get_client\('db'\)"):
                async with bench.context() as ctx:
                    if way == "option of a connection":
                        session = await bench.value(ctx)
                        await settled(session.connection(execution_options={"isolation_level": "AUTOCOMMIT"}))
                    await bench.write(ctx)
            assert ctx.outcome == "rolled_back"
            assert bench.look() is None
            await bench.close()
            if engine is not None:
                await settled(engine.dispose())

        host.run(check())

    @on(*POSTGRES, *MARIA)
    @scenario()
    async def test_no_connection_is_taken_unless_used(self, bench: Bench) -> None:
        """By a service that touches the session, nor for a block or the end of it."""
        async with bench.context() as ctx:
            await bench.value(ctx)
            async with bench.nested(ctx):
                pass
        assert bench.host.connections() == (0, 0)

    @on(*POSTGRES, *MARIA)
    @pytest.mark.parametrize("used", [True, False])
    def test_a_given_engine_is_renewed_in_a_child(self, host: Any, used: bool) -> None:
        """Also if it was used before the fork, by whomever."""

        async def use(bench: Bench, name: str) -> None:
            async with bench.context() as ctx:
                await bench.write(ctx, name)

        engine = host.engine()
        bench = Bench(host, host.make(engine))

        async def parent() -> None:
            if used:
                await use(bench, "parent")
            else:
                await settled(bench.backend.ping(engine))
            assert in_child(host, lambda: host.run(use(bench, "child"))) == 0
            await use(bench, "after")
            assert gone(host, 1)[0] == 1
            await bench.close()
            await settled(engine.dispose())

        host.run(parent())
        assert [bench.look(name) for name in ("child", "after")] == ["tea", "tea"]


# --- What goes on in a context ----------------------------------------------------------------------------------------


class TestSession:
    @scenario()
    async def test_what_was_added_is_flushed_and_usable_afterwards(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            entry = Entry(name=bench.key(), text="tea")
            (await bench.value(ctx)).add(entry)
        assert bench.look() == "tea"
        assert entry.text == "tea"

    @pytest.mark.parametrize("way", ["raised", "status", "refused"])
    def test_what_was_read_is_usable_after_a_rollback(self, host: Any, way: str) -> None:
        """By the page that says what went wrong."""

        async def check() -> None:
            bench = Bench(host)
            async with bench.context() as ctx:
                await bench.write(ctx)
            ctx = bench.manager.context()
            await settled(ctx.aopen() if host.is_async else ctx.open())
            entry = await settled((await bench.value(ctx)).get(Entry, bench.key()))
            entry.text = "rice"
            await settled((await bench.value(ctx)).flush())
            if way == "refused":
                ctx.before_commit(lambda: 1 / 0)
            close = ctx.aclose if host.is_async else ctx.close
            with pytest.raises(ZeroDivisionError) if way == "refused" else nullcontext():
                error = Failure() if way == "raised" else None
                await settled(close(error, status=409 if way == "status" else None))
            assert ctx.outcome == "rolled_back"
            assert entry.text == "rice"
            assert bench.look() == "tea"
            await bench.close()

        host.run(check())

    @scenario()
    async def test_where_services_go_on_the_session_keeps_its_objects(self, bench: Bench) -> None:
        """After a block that is rolled back whole, as it had begun with it."""
        async with bench.context() as ctx:
            await bench.write(ctx)
        async with bench.context() as ctx:
            with pytest.raises(Failure):
                async with bench.nested(ctx):
                    session = await bench.value(ctx)
                    entry = await settled(session.get(Entry, bench.key()))
                    raise Failure
            assert entry in session
            entry.text = "rice"
        assert bench.look() == "rice"

    @scenario()
    async def test_a_failing_flush_is_raised_as_it_is(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            await bench.write(ctx)
        with pytest.raises(IntegrityError):
            async with bench.context() as ctx:
                await settled((await bench.value(ctx)).execute(delete(ENTRIES)))
                (await bench.value(ctx)).add_all([Entry(name=bench.key(), text="a")])
                await settled((await bench.value(ctx)).flush())
                (await bench.value(ctx)).expunge_all()
                (await bench.value(ctx)).add(Entry(name=bench.key(), text="b"))
        assert ctx.outcome == "rolled_back"
        assert bench.look() == "tea"

    @on(*POSTGRES)
    @scenario()
    async def test_an_error_of_the_commit_itself(self, bench: Bench) -> None:
        """The server has answered, so nothing is unknown."""
        table = f"{NAME}_deferred"
        server = bench.host.server  # type: ignore[attr-defined]
        server.ask(f"CREATE TABLE {table} (name TEXT UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        try:
            with pytest.raises(IntegrityError):
                async with bench.context() as ctx:
                    await bench.write(ctx)
                    await settled((await bench.value(ctx)).execute(text(f"INSERT INTO {table} VALUES ('a'), ('a')")))
            assert ctx.outcome == "rolled_back"
            assert bench.look() is None
        finally:
            server.ask(f"DROP TABLE {table}")

    @on(SQLITE[0])
    def test_an_error_of_the_commit_itself_over_a_variant_of_an_engine_in_use(self, host: Any) -> None:
        """One COMMIT was sent, however many engines tell of it."""
        engine = host.backend().connect()
        event.listen(engine, "connect", lambda connection, record: connection.execute("PRAGMA foreign_keys = ON"))
        for used in (engine, engine.execution_options(logging_token="variant")):
            dm: DataManager[Any, Any] = DataManager()
            dm.register_resources(db=SQLAlchemyBackend(used))
            with pytest.raises(IntegrityError):
                with dm.context() as ctx:
                    reference = "REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED"
                    ctx.db.execute(text("CREATE TABLE parents (id INTEGER PRIMARY KEY)"))
                    ctx.db.execute(text(f"CREATE TABLE children (parent INTEGER {reference})"))
                    ctx.db.execute(text("INSERT INTO children VALUES (1)"))
            assert ctx.outcome == "rolled_back"
            dm.close()
        engine.dispose()

    @on(SQLITE[0])
    def test_a_session_of_ones_own_on_the_same_engine_is_its_owners(self, host: Any) -> None:
        dm: DataManager[Any, Any] = DataManager()
        dm.register_resources(db=host.backend())
        with dm.context() as ctx:
            ctx.db.execute(text("CREATE TABLE own (name TEXT)"))
        with Session(dm.get_client("db")) as session:
            session.execute(text("INSERT INTO own VALUES ('rolled back')"))
            session.rollback()
            session.execute(text("INSERT INTO own VALUES ('kept')"))
            session.commit()
        with dm.context() as ctx:
            assert ctx.db.scalars(text("SELECT name FROM own")).all() == ["kept"]
        dm.close()

    @scenario()
    async def test_an_error_of_a_flush_in_the_commit(self, bench: Bench) -> None:
        """Of an object that a listener adds: the COMMIT was not sent."""
        async with bench.context() as ctx:
            await bench.write(ctx)

        def add(session: Session) -> None:
            session.add(Entry(name=bench.key(), text="again"))

        with pytest.raises(IntegrityError):
            async with bench.context() as ctx:
                await bench.write(ctx, "other")
                event.listen(sync_session(await bench.value(ctx)), "before_commit", add)
        assert ctx.outcome == "rolled_back"
        assert bench.look("other") is None

    @pytest.mark.parametrize("what", ["of the session", "of another database"])
    def test_an_error_of_sqlalchemys_is_no_answer_if_a_listener_raises_it(self, host: Any, what: str) -> None:
        """After the COMMIT, which has been answered well."""
        other = create_engine("sqlite://")

        def ask(session: Session) -> None:
            if what == "of the session":
                session.execute(text("SELECT 1"))
            else:
                with other.connect() as connection:
                    connection.execute(text("SELECT nonsense"))

        async def check() -> None:
            bench = Bench(host)
            with pytest.raises(CommitOutcomeUnknown) as unknown:
                async with bench.context() as ctx:
                    await bench.write(ctx)
                    event.listen(sync_session(await bench.value(ctx)), "after_commit", ask)
            assert isinstance(unknown.value.__cause__, InvalidRequestError | DBAPIError)
            assert ctx.outcome == "unknown"
            assert bench.look() == "tea"
            await bench.close()

        host.run(check())
        other.dispose()

    @on(SQLITE[0])
    @scenario()
    async def test_an_error_of_somebodys_listener(self, bench: Bench) -> None:
        def refuse(session: Session) -> None:
            raise Failure

        with pytest.raises(Failure):
            async with bench.context() as ctx:
                await bench.write(ctx)
                event.listen(await bench.value(ctx), "before_commit", refuse)
        assert ctx.outcome == "rolled_back"
        assert bench.look() is None


# --- SQLite -----------------------------------------------------------------------------------------------------------


@on(*SQLITE)
class TestSQLite:
    @scenario()
    async def test_all_of_a_transaction_is_rolled_back(self, bench: Bench) -> None:
        """Python's sqlite3 would have committed the table, and with it what came before."""
        with pytest.raises(Failure):
            async with bench.context() as ctx:
                await bench.write(ctx)
                session = await bench.value(ctx)
                await settled(session.execute(text("CREATE TABLE late (name TEXT)")))
                raise Failure
        server = bench.host.server  # type: ignore[attr-defined]
        assert server.ask("SELECT name FROM sqlite_master WHERE name = 'late'") == []
        assert bench.look() is None

    @scenario()
    async def test_a_block_before_everything_else_is_rolled_back(self, bench: Bench) -> None:
        """Python's sqlite3 would have no transaction around the SAVEPOINT, and RELEASE would commit."""
        with pytest.raises(Failure):
            async with bench.context() as ctx:
                await bench.read(ctx)
                async with bench.nested(ctx):
                    await bench.write(ctx)
                raise Failure
        assert bench.look() is None

    @scenario()
    async def test_a_transaction_that_sqlite_has_rolled_back(self, bench: Bench) -> None:
        with pytest.raises(RollbackOnlyError):
            async with bench.context() as ctx:
                await bench.write(ctx)
                session = await bench.value(ctx)
                with pytest.raises(IntegrityError):
                    await settled(
                        session.execute(
                            text(f"INSERT OR ROLLBACK INTO {NAME} VALUES (:name, 'again')"), {"name": bench.key()}
                        )
                    )
        assert bench.look() is None

    def test_one_database_in_memory(self, host: Any) -> None:
        """For all contexts of a manager, with the transactions of a file; gone with the manager."""

        async def check() -> None:
            for database in (None, "", ":memory:"):
                managers = [DataManager(), DataManager()]
                for manager in managers:
                    manager.register_resources(db=host.make(URL.create(host.driver, database=database)))
                bench = Bench(host)
                bench.manager = managers[0]
                async with bench.context() as ctx:
                    await settled((await bench.value(ctx)).run_sync(_create) if host.is_async else _create(ctx.db))
                async with bench.context() as ctx:
                    await bench.write(ctx, "kept")
                with pytest.raises(Failure):
                    async with bench.context() as ctx:
                        await bench.write(ctx, "undone")
                        raise Failure
                async with bench.context() as ctx, bench.context() as inner:
                    assert await bench.read(inner, "kept") == "tea"
                    assert await bench.read(ctx, "undone") is None
                await bench.close()
                for bench.manager in managers:
                    with pytest.raises(DBAPIError, match="no such table"):
                        async with bench.context() as ctx:
                            await bench.read(ctx, "kept")
                    await bench.close()

        host.run(check())

    def test_a_pool_of_the_users_choice(self, host: Any) -> None:
        backend = host.make(URL.create(host.driver), poolclass=StaticPool)

        async def check() -> None:
            bench = Bench(host, backend)
            engine = await settled(bench.manager.get_client("db"))
            assert engine.url.database is None
            async with bench.context() as ctx:
                await settled((await bench.value(ctx)).execute(text("SELECT 1")))
            await bench.close()

        host.run(check())

    def test_how_transactions_begin_is_the_users_choice(self, host: Any) -> None:
        """Who reads first and writes then may find that another was faster; who locks at the start cannot."""

        async def check() -> None:
            bench = Bench(host, host.backend())
            async with bench.context() as first, bench.context() as second:
                await bench.read(first)
                await bench.read(second)
            await bench.close()

            immediate = {"sqlite_begin": "BEGIN IMMEDIATE"}
            bench = Bench(host, host.backend(execution_options=immediate, connect_args={"timeout": 0}))
            async with bench.context() as first:
                await bench.read(first)
                with pytest.raises(DBAPIError, match="database is locked"):
                    async with bench.context() as second:
                        await bench.read(second)
                await bench.write(first)
            async with bench.context() as second:
                assert await bench.read(second) == "tea"
            await bench.close()

        host.run(check())


@on(SQLITE[1])
def test_one_database_in_memory_for_all_event_loops(host: Any) -> None:
    """One after the other, as tests have them, and beside each other in threads."""
    bench = Bench(host, host.make(URL.create(host.driver)))

    async def begin() -> None:
        async with bench.context() as ctx:
            await (await bench.value(ctx)).run_sync(_create)
            await bench.write(ctx)

    async def read() -> Any:
        async with bench.context() as ctx:
            return await bench.read(ctx)

    async def read_in_a_thread() -> Any:
        assert await read() == "tea"
        return await asyncio.to_thread(asyncio.run, read())

    asyncio.run(begin())
    assert asyncio.run(read()) == "tea"
    assert asyncio.run(read_in_a_thread()) == "tea"
    asyncio.run(bench.close())
    with pytest.raises(DBAPIError, match="no such table"):
        asyncio.run(read())
    asyncio.run(bench.close())


def _create(session: Session) -> None:
    ENTRIES.create(session.connection())


@pytest.mark.parametrize(("module", "package"), [("sqlalchemy", "sqlalchemy"), ("sqlalchemy.ext.asyncio", "greenlet")])
def test_without_sqlalchemy(monkeypatch: pytest.MonkeyPatch, module: str, package: str) -> None:
    """The latter is how SQLAlchemy 2.1 is without greenlet, which it does not bring along."""
    monkeypatch.setitem(sys.modules, module, None)
    spec = find_spec("polydatum.backends.sqlalchemy")
    assert spec
    assert spec.loader
    with pytest.raises(
        MissingClientError, match=rf"needs the package {package}: pip install 'polydatum\[sqlalchemy\]'"
    ):
        spec.loader.exec_module(module_from_spec(spec))


def test_an_error_after_the_commit_is_no_rollback() -> None:
    """A listener of the user's raises when the database has committed: who would call that rolled back?"""

    class Loud(Session):
        pass

    @event.listens_for(Loud, "after_commit")
    def after_commit(session: Session) -> None:
        raise ValueError("no mail today")

    dm = DataManager()
    engine = create_engine("sqlite://")
    dm.register_resources(db=SQLAlchemyBackend(sessionmaker(engine, class_=Loud, expire_on_commit=False)))
    with pytest.raises(CommitOutcomeUnknown) as unknown:
        with dm.context() as ctx:
            ctx.db.execute(text("CREATE TABLE items (name TEXT)"))
    assert ctx.outcome == "unknown"
    assert isinstance(unknown.value.__cause__, ValueError)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM items")) == 0
    engine.dispose()


@pytest.mark.parametrize("way", ["committed", "raised", "read_only"])
def test_a_context_leaves_no_cycles(way: str) -> None:
    """Sessions, their connections, and what listens to them go with the last reference."""
    dm = DataManager()
    dm.register_resources(db=SQLAlchemyBackend("sqlite://"))
    left = []
    gc.disable()
    try:
        with suppress(Failure), dm.context(read_only=way == "read_only") as ctx:
            left += [ref(ctx.db), ref(ctx.db.connection())]
            ctx.db.execute(text("SELECT 1"))
            if way == "raised":
                raise Failure
        assert [one() for one in left] == [None, None]
    finally:
        gc.enable()
    dm.close()


def test_a_database_that_is_nothing_special() -> None:
    """Of one that is not known here it is not asked whether it commits each statement; and it may have written."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        begun = Begun(connection, joins=False)
        assert not begun.is_autocommit()
        assert begun.may_have_written()
    engine.dispose()
