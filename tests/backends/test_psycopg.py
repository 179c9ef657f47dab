"""psycopg: the contract, and what is special to it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from importlib.util import find_spec, module_from_spec
from typing import Any

import psycopg
import pytest
from psycopg.errors import DivisionByZero, ReadOnlySqlTransaction, UniqueViolation
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from polydatum import (
    ConfigurationError,
    ForkedResourceError,
    MissingClientError,
    MultipleAuthoritiesError,
    RollbackOnlyError,
)
from polydatum.backends.psycopg import AsyncPsycopgBackend, PsycopgBackend
from polydatum.testing import BackendContract
from polydatum.testing.backend_contract import Bench, Failure, Sync, scenario, settled
from tests.backends.psycopg_hosts import HOSTS, PsycopgHost
from tests.backends.sql_servers import NAME, PostgresServer, in_child, table_on


@pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest) -> Iterator[PsycopgHost]:
    with table_on(PostgresServer()) as server:
        yield request.param(server)


class TestPsycopg(BackendContract):
    @pytest.fixture
    def host(self, host: Any) -> Any:
        return host


def block(bench: Bench, connection: Any) -> Any:
    """psycopg's own."""
    return connection.transaction() if bench.host.is_async else Sync(connection.transaction())


def over(**options: Any) -> Any:
    """A scenario over a backend with options."""

    def decorate(test: Any) -> Any:
        @scenario()
        async def run(self: Any, bench: Bench) -> None:
            other = Bench(bench.host, bench.host.backend(**options))  # type: ignore[call-arg]
            try:
                await test(self, other)
            finally:
                await other.close()

        run.__name__ = test.__name__
        return run

    return decorate


class TestTransaction:
    @scenario()
    async def test_a_swallowed_error(self, bench: Bench) -> None:
        with pytest.raises(RollbackOnlyError, match="'db'"):
            async with bench.context() as ctx:
                await bench.write(ctx)
                with pytest.raises(DivisionByZero):
                    await settled((await bench.value(ctx)).execute("SELECT 1 / 0"))
        assert ctx.outcome == "rolled_back"
        assert bench.look() is None

    @pytest.mark.parametrize("way", ["nested", "block"])
    def test_an_error_swallowed_around_a_savepoint(self, host: Any, way: str) -> None:
        async def check() -> None:
            bench = Bench(host)
            async with bench.context() as ctx:
                await bench.write(ctx)
                connection = await bench.value(ctx)
                with pytest.raises(UniqueViolation):
                    async with bench.nested(ctx) if way == "nested" else block(bench, connection):
                        await bench.write(ctx)
                await bench.write(ctx, "after")
            assert [bench.look(), bench.look("after")] == ["tea", "tea"]
            await bench.close()

        host.run(check())

    @scenario()
    async def test_an_error_swallowed_inside_of_a_savepoint(self, bench: Bench) -> None:
        """The block cannot be kept; the transaction can."""
        async with bench.context() as ctx:
            await bench.write(ctx)
            with pytest.raises(RollbackOnlyError):
                async with bench.nested(ctx):
                    await bench.write(ctx, "inside")
                    with pytest.raises(UniqueViolation):
                        await bench.write(ctx)
            await bench.write(ctx, "after")
        assert [bench.look(name) for name in ("", "inside", "after")] == ["tea", None, "tea"]

    @scenario()
    async def test_nobody_else_commits(self, bench: Bench) -> None:
        """psycopg's block would commit, and not be a savepoint, if no transaction had begun."""
        with pytest.raises(Failure):
            async with bench.context() as ctx:
                connection = await bench.value(ctx)
                async with block(bench, connection):
                    await bench.write(ctx)
                with pytest.raises(psycopg.ProgrammingError, match="commit"):
                    await settled(connection.commit())
                raise Failure
        assert bench.look() is None

    @over(kwargs={"autocommit": True, "row_factory": dict_row}, resolve_unknown=True)
    async def test_connections_of_other_ways(self, bench: Bench) -> None:
        for name, fails in (("kept", False), ("undone", True)):
            try:
                async with bench.context() as ctx:
                    await settled((await bench.value(ctx)).execute(f"INSERT INTO {NAME} VALUES (%s, 'x')", [name]))
                    if fails:
                        raise Failure
            except Failure:
                pass
        assert [bench.host.look(name) for name in ("kept", "undone")] == ["x", None]

    @scenario()
    async def test_an_error_of_the_commit_itself(self, bench: Bench) -> None:
        """The server has answered, so nothing is unknown."""
        table = f"{NAME}_deferred"
        server = bench.host.server  # type: ignore[attr-defined]
        server.ask(f"CREATE TABLE {table} (name TEXT UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        try:
            with pytest.raises(UniqueViolation):
                async with bench.context() as ctx:
                    await bench.write(ctx)
                    await settled((await bench.value(ctx)).execute(f"INSERT INTO {table} VALUES ('a'), ('a')"))
            assert ctx.outcome == "rolled_back"
            assert bench.look() is None
        finally:
            server.ask(f"DROP TABLE {table}")

    @pytest.mark.parametrize("second", ["reads", "writes"])
    def test_two_of_them(self, host: Any, second: str) -> None:
        """Refused only if both wrote."""

        async def check() -> None:
            bench = Bench(host)
            bench.manager.register_resources(other=host.backend())

            async def use() -> None:
                async with bench.context() as ctx:
                    await bench.write(ctx)
                    other = await ctx.other if host.is_async else ctx.other
                    if second == "writes":
                        await settled(host.write(other, bench.key("other"), "tea"))
                    else:
                        await settled(host.read(other, bench.key("other")))

            if second == "writes":
                with pytest.raises(MultipleAuthoritiesError):
                    await use()
            else:
                await use()
            assert bench.look() == (None if second == "writes" else "tea")
            await bench.close()

        host.run(check())


class TestReadOnly:
    @over(max_size=1)
    async def test_the_same_connection_writes_afterwards(self, bench: Bench) -> None:
        for fails in (False, True):
            try:
                async with bench.context(read_only=True) as ctx:
                    await bench.read(ctx)
                    if fails:
                        raise Failure
            except Failure:
                pass
            async with bench.context() as ctx:
                assert (await bench.value(ctx)).read_only is None
                await bench.write(ctx, str(fails))
            assert bench.look(str(fails)) == "tea"

    @scenario()
    async def test_a_swallowed_error_is_no_matter(self, bench: Bench) -> None:
        async with bench.context(read_only=True) as ctx:
            with pytest.raises(ReadOnlySqlTransaction):
                await bench.write(ctx)
        assert ctx.outcome == "committed"

    @scenario()
    async def test_beside_one_that_writes(self, bench: Bench) -> None:
        async with bench.context(read_only=True) as ctx:
            await bench.read(ctx)
            assert (await settled(ctx._transactions[0][1].wrote())) is False


class TestPool:
    @over(max_size=1, timeout=0.1)
    async def test_a_timeout_is_the_pools_error(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            await bench.write(ctx)
            with pytest.raises(PoolTimeout):
                async with bench.context() as inner:
                    await bench.read(inner)
            assert inner.outcome == "rolled_back"
        assert bench.look() == "tea"

    @scenario()
    async def test_a_lost_connection(self, bench: Bench) -> None:
        """If somebody catches its error, the context still knows."""
        with pytest.raises(RollbackOnlyError):
            async with bench.context() as ctx:
                await bench.write(ctx)
                self._kill(bench)
                with pytest.raises(psycopg.OperationalError):
                    await bench.read(ctx)
        assert ctx.outcome == "rolled_back"
        assert bench.look() is None

    @over(max_size=2)
    async def test_connections_lost_in_the_pool_are_replaced(self, bench: Bench) -> None:
        """As nothing was done over them yet, nobody needs to know."""
        async with bench.context() as ctx, bench.context() as inner:
            await bench.read(ctx)
            await bench.read(inner)
        self._kill(bench)
        async with bench.context() as ctx:
            await bench.write(ctx)
        assert bench.look() == "tea"

    @over(max_size=2)
    async def test_a_ping_does_not_mind_lost_connections(self, bench: Bench) -> None:
        """A server that was restarted answers again, whatever the pool still holds."""
        async with bench.context() as ctx, bench.context() as inner:
            await bench.read(ctx)
            await bench.read(inner)
        self._kill(bench)
        for _ in range(3):  # as many as it holds, so that one that was not given back would be missed
            assert (await bench.ping()).ok

    @over(max_size=1)
    async def test_all_are_lost(self, bench: Bench) -> None:
        """A server that goes away again and again is an error."""
        client = await settled(bench.manager.get_client("db"))
        getconn = client.getconn

        async def alost() -> Any:
            connection = await getconn()
            self._kill(bench)
            return connection

        def lost() -> Any:
            connection = getconn()
            self._kill(bench)
            return connection

        client.getconn = alost if bench.host.is_async else lost
        with pytest.raises(psycopg.OperationalError):
            async with bench.context() as ctx:
                await bench.read(ctx)
        assert ctx.outcome == "rolled_back"
        assert (await bench.ping()).error == "AdminShutdown"

    def _kill(self, bench: Bench) -> None:
        bench.host.server.ask(  # type: ignore[attr-defined]
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s", NAME
        )

    @scenario()
    async def test_an_error_of_begin_is_raised_as_it_is(self, bench: Bench) -> None:
        client = await settled(bench.manager.get_client("db"))
        client.connection_class = Refusing if not bench.host.is_async else AsyncRefusing
        with pytest.raises(Failure):
            async with bench.context() as ctx:
                await bench.read(ctx)
        assert client.get_stats()["pool_available"] == client.get_stats()["pool_size"]

    @scenario()
    async def test_a_given_pool_of_the_parent_is_refused(self, bench: Bench) -> None:
        """Also if only the application had used it: its threads are the parent's."""
        host: Any = bench.host
        pool = host.pool()
        if host.is_async:
            await pool.open()
        other = Bench(host, host.make(pool))

        async def use() -> None:
            with pytest.raises(ForkedResourceError):
                async with other.context() as ctx:
                    await other.value(ctx)

        assert in_child(host, lambda: host.run(use())) == 0
        await settled(pool.close())

    @over(max_size=1)
    async def test_an_exchange_that_was_given_up(self, bench: Bench) -> None:
        """A COPY that nobody has ended: its connection is closed, and replaced."""
        with pytest.raises(Failure):
            async with bench.context() as ctx:
                connection = await bench.value(ctx)
                copying = connection.cursor().copy(f"COPY {NAME} FROM STDIN")
                await settled(copying.__aenter__() if bench.host.is_async else copying.__enter__())
                raise Failure
        assert connection.closed
        async with bench.context() as ctx:
            await bench.write(ctx)
        assert bench.look() == "tea"


@pytest.mark.parametrize("host", HOSTS[1:], ids=lambda host: host.__name__, indirect=True)
class TestCancelled:
    async def _pid(self, bench: Bench, context: Any) -> int:
        connection = await bench.value(context)
        pid: int = connection.info.backend_pid
        return pid

    @over(max_size=1)
    async def test_its_connection_is_closed(self, bench: Bench) -> None:
        """The server's cancellation of the query may come late."""
        async with bench.context() as ctx:
            before = await self._pid(bench, ctx)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                async with bench.context() as ctx:
                    await bench.write(ctx)
                    await bench.host.slow(await bench.value(ctx))
        async with bench.context() as ctx:
            assert await self._pid(bench, ctx) != before
        assert bench.look() is None

    @over(max_size=1)
    async def test_a_block_that_was_cancelled(self, bench: Bench) -> None:
        """The context goes on, over the same connection."""
        async with bench.context() as ctx:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), ctx.nested():
                    await bench.write(ctx, "inside")
                    await bench.host.slow(await bench.value(ctx))
            await bench.write(ctx, "after")
        assert [bench.look(name) for name in ("inside", "after")] == [None, "tea"]


class Refusing(psycopg.Connection[Any]):
    """A user's own, which begins no transaction."""

    def wait(self, *args: Any, **options: Any) -> Any:
        raise Failure


class AsyncRefusing(psycopg.AsyncConnection[Any]):
    """A user's own, which begins no transaction."""

    def wait(self, *args: Any, **options: Any) -> Any:
        raise Failure


class TestSources:
    def test_options_are_for_a_url(self) -> None:
        pool = AsyncConnectionPool("", open=False)
        with pytest.raises(
            ConfigurationError, match=r"AsyncPsycopgBackend\(max_size=...\): options apply only if the pool"
        ):
            AsyncPsycopgBackend(pool, max_size=2)

    @pytest.mark.parametrize(
        ("conninfo", "shown"),
        [
            (
                "postgresql://ann:secret@127.0.0.1:5432/shop?sslpassword=secret",
                "postgresql://ann:***@127.0.0.1:5432/shop",
            ),
            ("host=127.0.0.1 dbname=shop user=ann password=secret", "postgresql://ann:***@127.0.0.1/shop"),
            ("dbname=shop", "postgresql:///shop"),
        ],
    )
    def test_repr(self, conninfo: str, shown: str) -> None:
        assert repr(PsycopgBackend(conninfo)) == f"PsycopgBackend({shown})"

    def test_repr_of_a_given_pool(self) -> None:
        pool = ConnectionPool("password=secret", name="shop", open=False)
        assert repr(PsycopgBackend(pool)) == "PsycopgBackend(pool 'shop')"

    def test_without_psycopg(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "psycopg_pool", None)
        spec = find_spec("polydatum.backends.psycopg")
        assert spec
        assert spec.loader
        with pytest.raises(MissingClientError, match=r"pip install 'polydatum\[psycopg\]'"):
            spec.loader.exec_module(module_from_spec(spec))
