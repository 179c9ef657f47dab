"""Services that roll back, commit or close the session themselves: the outcome says what became of the work of all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError

from polydatum import AlreadyCommittedError, ConfigurationError, RollbackOnlyError
from polydatum.testing.backend_contract import Bench, Failure, scenario, settled
from tests.backends.sql_servers import NAME, table_on
from tests.backends.sqlalchemy_hosts import HOSTS, MARIA, POSTGRES, SQLITE, Entry, SQLAlchemyHost, on, server_for


@pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SQLAlchemyHost]:
    with table_on(server_for(request.param, tmp_path)) as server:
        yield request.param(server)


async def roll_back(bench: Bench, ctx: Any) -> None:
    """As a service may."""
    await settled((await bench.value(ctx)).rollback())


async def commit(bench: Bench, ctx: Any) -> None:
    """As a service may."""
    await settled((await bench.value(ctx)).commit())


# --- Rollbacks --------------------------------------------------------------------------------------------------------


class TestRollback:
    @scenario()
    async def test_what_others_wrote_is_not_lost_in_silence(self, bench: Bench) -> None:
        with pytest.raises(RollbackOnlyError, match="a service rolled it back") as raised:
            async with bench.context() as ctx:
                await bench.write(ctx, "before")
                await roll_back(bench, ctx)
                await bench.write(ctx, "after")
        assert raised.value.undone
        assert ctx.outcome == "rolled_back"
        assert [bench.look("before"), bench.look("after")] == [None, None]

    @scenario()
    async def test_nor_by_a_close(self, bench: Bench) -> None:
        with pytest.raises(RollbackOnlyError, match="a service rolled it back"):
            async with bench.context() as ctx:
                await bench.write(ctx)
                await settled((await bench.value(ctx)).close())
        assert ctx.outcome == "rolled_back"

    @scenario()
    async def test_nor_on_the_connection(self, bench: Bench) -> None:
        with pytest.raises(RollbackOnlyError, match="a service rolled it back"):
            async with bench.context() as ctx:
                await bench.write(ctx)
                connection = await settled((await bench.value(ctx)).connection())
                await settled(connection.rollback())
        assert ctx.outcome == "rolled_back"

    @scenario()
    async def test_nor_inside_of_a_block(self, bench: Bench) -> None:
        """A session rolls back all, not the block alone."""
        with pytest.raises(RollbackOnlyError, match="a service rolled it back"):
            async with bench.context() as ctx:
                await bench.write(ctx)
                async with bench.nested(ctx):
                    await roll_back(bench, ctx)
        assert ctx.outcome == "rolled_back"

    @pytest.mark.parametrize("change", ["added", "changed", "deleted"])
    @pytest.mark.parametrize("connected", [True, False])
    def test_nor_what_was_not_flushed(self, host: Any, change: str, connected: bool) -> None:
        async def check() -> None:
            bench = Bench(host)
            async with bench.context() as ctx:
                await bench.write(ctx)
            entry = Entry(name=bench.key("new"), text="rice")
            with pytest.raises(RollbackOnlyError):
                async with bench.context() as ctx:
                    session = await bench.value(ctx)
                    if connected or change != "added":
                        known = await settled(session.get(Entry, bench.key()))
                    if change == "added":
                        session.add(entry)
                    elif change == "changed":
                        known.text = "rice"
                    else:
                        await settled(session.delete(known))
                    await roll_back(bench, ctx)
            assert bench.look() == "tea"
            await bench.close()

        host.run(check())

    @scenario()
    async def test_nor_after_a_failed_flush(self, bench: Bench) -> None:
        """The session can be used again, but what it did before is gone."""
        with pytest.raises(RollbackOnlyError):
            async with bench.context() as ctx:
                await bench.write(ctx)
                session = await bench.value(ctx)
                session.add(Entry(name=bench.key(), text="again"))
                with pytest.raises(IntegrityError):
                    await settled(session.flush())
                await roll_back(bench, ctx)
                await bench.write(ctx, "after")
        assert [bench.look(), bench.look("after")] == [None, None]

    @on(*POSTGRES)
    @scenario()
    async def test_nor_by_a_commit_that_postgresql_answers_by_a_rollback(self, bench: Bench) -> None:
        with pytest.raises(RollbackOnlyError):
            async with bench.context() as ctx:
                await bench.write(ctx)
                with pytest.raises(DBAPIError):
                    await settled((await bench.value(ctx)).execute(text("SELECT 1 / 0")))
                await commit(bench, ctx)
                await bench.write(ctx, "after")
        assert [bench.look(), bench.look("after")] == [None, None]

    @scenario()
    async def test_without_a_connection_it_is_no_matter(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            await roll_back(bench, ctx)
            await bench.write(ctx)
        assert ctx.outcome == "committed"
        assert bench.look() == "tea"

    @on(*POSTGRES, *SQLITE)
    @scenario()
    async def test_of_what_was_only_read_it_is_no_matter(self, bench: Bench) -> None:
        """Where the database can tell."""
        async with bench.context() as ctx:
            await bench.read(ctx)
            await roll_back(bench, ctx)
            await bench.write(ctx)
        assert ctx.outcome == "committed"
        assert bench.look() == "tea"

    @on(*MARIA)
    @scenario()
    async def test_where_the_database_cannot_tell_it_may_have_written(self, bench: Bench) -> None:
        with pytest.raises(RollbackOnlyError):
            async with bench.context() as ctx:
                await bench.read(ctx)
                await roll_back(bench, ctx)

    @scenario()
    async def test_to_a_savepoint_of_its_own_it_is_no_matter(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            await bench.write(ctx, "before")
            savepoint = await settled((await bench.value(ctx)).begin_nested())
            await bench.write(ctx, "inside")
            await settled(savepoint.rollback())
        assert ctx.outcome == "committed"
        assert [bench.look("before"), bench.look("inside")] == ["tea", None]

    @scenario()
    async def test_in_a_block_that_is_undone_with_all_the_session_did_it_is_no_matter(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            with pytest.raises(Failure):
                async with bench.nested(ctx):
                    await bench.write(ctx, "inside")
                    await roll_back(bench, ctx)
                    raise Failure
            await bench.write(ctx, "after")
        assert ctx.outcome == "committed"
        assert [bench.look("inside"), bench.look("after")] == [None, "tea"]

    @scenario()
    async def test_after_such_a_block_services_are_watched_again(self, bench: Bench) -> None:
        with pytest.raises(RollbackOnlyError):
            async with bench.context() as ctx:
                with pytest.raises(Failure):
                    async with bench.nested(ctx):
                        await bench.write(ctx, "inside")
                        raise Failure
                await bench.write(ctx, "after")
                await roll_back(bench, ctx)
        assert bench.look("after") is None

    @scenario()
    async def test_a_context_that_rolls_back_anyway_just_does(self, bench: Bench) -> None:
        with pytest.raises(Failure) as raised:
            async with bench.context() as ctx:
                await bench.write(ctx)
                await roll_back(bench, ctx)
                raise Failure
        assert ctx.outcome == "rolled_back"
        assert not hasattr(raised.value, "__notes__")


# --- Commits ----------------------------------------------------------------------------------------------------------


class TestCommit:
    @scenario()
    async def test_a_rollback_of_the_context_is_partial(self, bench: Bench) -> None:
        with pytest.raises(Failure) as raised:
            async with bench.context() as ctx:
                await bench.write(ctx, "before")
                await commit(bench, ctx)
                await bench.write(ctx, "after")
                raise Failure
        assert ctx.outcome == "partial"
        assert [record.type for record in ctx.outcome.errors] == [Failure, AlreadyCommittedError]
        assert "a service committed resource 'db'" in raised.value.__notes__[0]
        assert [bench.look("before"), bench.look("after")] == ["tea", None]

    @scenario()
    async def test_on_the_connection_too(self, bench: Bench) -> None:
        with pytest.raises(Failure):
            async with bench.context() as ctx:
                await bench.write(ctx)
                connection = await settled((await bench.value(ctx)).connection())
                await settled(connection.commit())
                raise Failure
        assert ctx.outcome == "partial"
        assert bench.look() == "tea"

    @scenario()
    async def test_a_commit_of_the_context_is_a_commit(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            await bench.write(ctx, "before")
            await commit(bench, ctx)
            await bench.write(ctx, "after")
        assert ctx.outcome == "committed"
        assert [bench.look("before"), bench.look("after")] == ["tea", "tea"]

    @on(*POSTGRES, *SQLITE)
    @scenario()
    async def test_of_what_was_only_read_it_is_no_matter(self, bench: Bench) -> None:
        with pytest.raises(Failure):
            async with bench.context() as ctx:
                await bench.read(ctx)
                await commit(bench, ctx)
                raise Failure
        assert ctx.outcome == "rolled_back"

    @scenario()
    async def test_in_a_block_that_fails_nothing_more_is_kept(self, bench: Bench) -> None:
        """The block cannot be undone."""
        with pytest.raises(RollbackOnlyError):
            async with bench.context() as ctx:
                with pytest.raises(Failure):
                    async with bench.nested(ctx):
                        await bench.write(ctx, "inside")
                        await commit(bench, ctx)
                        raise Failure
                await bench.write(ctx, "after")
        assert ctx.outcome == "partial"
        assert [bench.look("inside"), bench.look("after")] == ["tea", None]

    @on(*POSTGRES)
    @scenario()
    async def test_an_answer_to_the_commit_of_the_context_is_one_still(self, bench: Bench) -> None:
        """There were two COMMITs, and the server has answered both."""
        table = f"{NAME}_deferred"
        server = bench.host.server  # type: ignore[attr-defined]
        server.ask(f"CREATE TABLE {table} (name TEXT UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        try:
            with pytest.raises(IntegrityError):
                async with bench.context() as ctx:
                    await bench.write(ctx)
                    await commit(bench, ctx)
                    await settled((await bench.value(ctx)).execute(text(f"INSERT INTO {table} VALUES ('a'), ('a')")))
            assert ctx.outcome == "partial"
        finally:
            server.ask(f"DROP TABLE {table}")


# --- Statements -------------------------------------------------------------------------------------------------------


class TestStatements:
    """A COMMIT or ROLLBACK as SQL: SQLAlchemy does not see it, so it is refused."""

    @pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
    def test_that_end_the_transaction_are_refused(self, host: Any, end: str) -> None:
        async def check() -> None:
            bench = Bench(host)
            with pytest.raises(ConfigurationError, match=r"'db'.*leave its end to the context"):
                async with bench.context() as ctx:
                    await bench.write(ctx)
                    await settled((await bench.value(ctx)).execute(text(end)))
            assert ctx.outcome == "rolled_back"
            assert bench.look() is None
            await bench.close()

        host.run(check())

    @pytest.mark.parametrize(
        "statement",
        ["-- done\ncommit;", "/* a\nb */ END", "rollback work", "COMMIT AND NO CHAIN", "abort -- it", "commit;x"],
    )
    @on(SQLITE[0])
    def test_however_they_are_written(self, host: Any, statement: str) -> None:
        bench = Bench(host)
        with pytest.raises(ConfigurationError):
            with bench.manager.context() as ctx:
                ctx.db.connection().exec_driver_sql(statement)
        bench.manager.close()

    @pytest.mark.parametrize("statement", ["ROLLBACK TO mine", "RELEASE mine", "SELECT 1 -- COMMIT"])
    @on(SQLITE[0])
    def test_others_are_not(self, host: Any, statement: str) -> None:
        bench = Bench(host)
        with bench.manager.context() as ctx:
            host.write(ctx.db, bench.key(), "tea")
            ctx.db.execute(text("SAVEPOINT mine"))
            ctx.db.execute(text(statement))
        assert bench.look() == "tea"
        bench.manager.close()

    @on(SQLITE[0])
    def test_beside_a_context_they_are_nobodys_matter(self, host: Any) -> None:
        bench = Bench(host)
        with bench.manager.context() as ctx:
            host.write(ctx.db, bench.key(), "tea")
        with bench.manager.get_client("db").connect() as connection:
            connection.execute(text("ROLLBACK"))
        bench.manager.close()


# --- Closing ----------------------------------------------------------------------------------------------------------


class TestClose:
    @scenario()
    async def test_of_what_was_committed_it_is_no_matter(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            await bench.write(ctx)
            await commit(bench, ctx)
            await settled((await bench.value(ctx)).close())
        assert ctx.outcome == "committed"
        assert bench.look() == "tea"

    @scenario()
    async def test_nobody_can_use_the_session_afterwards(self, bench: Bench) -> None:
        with pytest.raises(InvalidRequestError, match="permanently closed"):
            async with bench.context() as ctx:
                await settled((await bench.value(ctx)).close())
                await bench.write(ctx)
        assert ctx.outcome == "rolled_back"
