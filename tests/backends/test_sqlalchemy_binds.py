"""One session over two databases: what no commit covers as one is refused, as with two resources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, insert, select
from sqlalchemy.orm import sessionmaker

from polydatum import DataManager, MultipleAuthoritiesError, RollbackOnlyError
from polydatum.backends.sqlalchemy import SQLAlchemyBackend
from polydatum.testing.backend_contract import Bench, Failure, settled
from tests.backends.cluster import cluster
from tests.backends.sql_servers import NAME, table_on
from tests.backends.sqlalchemy_hosts import ENTRIES, HOSTS, MARIA, POSTGRES, SQLITE, SQLAlchemyHost, on, server_for


@pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SQLAlchemyHost]:
    with table_on(server_for(request.param, tmp_path)) as server:
        yield request.param(server)


@pytest.fixture
def other(host: SQLAlchemyHost, tmp_path: Path) -> Iterator[SQLAlchemyHost]:
    """The second database; of SQLite another file, as one has one writer."""
    if not isinstance(host, SQLITE):
        yield host
        return
    folder = tmp_path / "other"
    folder.mkdir()
    with table_on(server_for(type(host), folder)) as server:
        yield type(host)(server)


async def use_both(host: Any, other: Any, second: str) -> None:
    """Write to the first database, and write to or read from the second."""
    engine: Any = other.engine()
    bind = {"bind": engine.sync_engine if host.is_async else engine}
    bench = Bench(host)
    try:
        async with bench.context() as ctx:
            await bench.write(ctx)
            session = await bench.value(ctx)
            if second == "writes":
                change = insert(ENTRIES).values(name=bench.key("second"), text="rice")
                await settled(session.execute(change, bind_arguments=bind))
            else:
                await settled(session.execute(select(ENTRIES), bind_arguments=bind))
    finally:
        kept = [bench.look(), other.look(bench.key("second"))]
        assert kept == (["tea", "rice" if second == "writes" else None] if ctx.outcome == "committed" else [None, None])
        await bench.close()
        await settled(engine.dispose())


@on(*POSTGRES, *SQLITE)
def test_two_that_were_written_to_are_refused(host: Any, other: Any) -> None:
    with pytest.raises(MultipleAuthoritiesError, match="wrote to 2 databases in one session") as refused:
        host.run(use_both(host, other, "writes"))
    assert refused.value.resources == ("db",)
    assert refused.value.databases == 2


def test_one_may_be_read_from(host: Any, other: Any) -> None:
    host.run(use_both(host, other, "reads"))


@on(*MARIA)
def test_where_the_database_cannot_tell_none_is_refused(host: Any, other: Any) -> None:
    host.run(use_both(host, other, "writes"))


# --- Two-phase commits ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared() -> Iterator[Any]:
    """A PostgreSQL that allows them, as it does not by default."""
    with cluster("max_prepared_transactions=4") as server:
        server.execute(f"CREATE TABLE {NAME} (name TEXT PRIMARY KEY, text TEXT)")
        yield server


@pytest.fixture
def engines(prepared: Any) -> Iterator[list[Any]]:
    """Two of it."""
    engines = [create_engine(prepared.url.replace("postgresql:", "postgresql+psycopg:")) for _ in range(2)]
    yield engines
    for engine in engines:
        engine.dispose()


def write_to_both(context: Any, engines: list[Any], name: str) -> None:
    for number, engine in enumerate(engines):
        change = insert(ENTRIES).values(name=f"{name} {number}", text="tea")
        context.db.execute(change, bind_arguments={"bind": engine})


class TestTwoPhase:
    """A commit that covers both databases."""

    @pytest.fixture
    def dm(self, engines: list[Any]) -> Any:
        dm = DataManager()
        dm.register_resources(db=SQLAlchemyBackend(sessionmaker(engines[0], twophase=True)))
        return dm

    @pytest.fixture
    def kept(self, prepared: Any) -> Iterator[Any]:
        """How many rows there are of a name; afterwards no transaction is left prepared."""
        yield lambda name: prepared.execute(f"SELECT count(*) FROM {NAME} WHERE name LIKE %s", f"{name} %")[0][0]
        assert prepared.execute("SELECT count(*) FROM pg_prepared_xacts") == [(0,)]

    def test_both_may_be_written_to(self, dm: Any, engines: Any, kept: Any) -> None:
        with dm.context() as ctx:
            write_to_both(ctx, engines, "both")
        assert ctx.outcome == "committed"
        assert kept("both") == 2

    def test_both_are_rolled_back(self, dm: Any, engines: Any, kept: Any) -> None:
        with pytest.raises(Failure):
            with dm.context() as ctx:
                write_to_both(ctx, engines, "none")
                raise Failure
        assert ctx.outcome == "rolled_back"
        assert kept("none") == 0

    def test_a_rollback_of_a_service_is_seen(self, dm: Any, engines: Any, kept: Any) -> None:
        with pytest.raises(RollbackOnlyError, match="a service rolled it back"):
            with dm.context() as ctx:
                write_to_both(ctx, engines, "undone")
                ctx.db.rollback()
        assert kept("undone") == 0

    def test_a_commit_of_a_service_is_seen(self, dm: Any, engines: Any, kept: Any) -> None:
        with pytest.raises(Failure):
            with dm.context() as ctx:
                write_to_both(ctx, engines, "early")
                ctx.db.commit()
                raise Failure
        assert ctx.outcome == "partial"
        assert kept("early") == 2
