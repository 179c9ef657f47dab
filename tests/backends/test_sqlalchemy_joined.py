"""Session factories that are bound to one connection, and join its transaction: as tests do, that roll it back at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import sessionmaker

from polydatum import ConfigurationError, RollbackOnlyError
from polydatum.testing.backend_contract import Bench, Failure, settled
from tests.backends.sql_servers import table_on
from tests.backends.sqlalchemy_hosts import HOSTS, MARIA, POSTGRES, SQLITE, SQLAlchemyHost, on, server_for


@pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SQLAlchemyHost]:
    with table_on(server_for(request.param, tmp_path)) as server:
        yield request.param(server)


class Joined(Bench):
    """A bench whose sessions join the transaction of a connection."""

    connection: Any


@asynccontextmanager
async def joined(host: Any, mode: str = "create_savepoint", *, survives: bool = True) -> AsyncIterator[Joined]:
    """At the end the transaction, if it survives until then, is rolled back, and nothing must be left of it."""
    engine = await settled(host.backend().connect())
    connection = await settled(engine.connect())
    outer = await settled(connection.begin())
    maker = async_sessionmaker if host.is_async else sessionmaker
    bench = Joined(host, host.make(maker(connection, join_transaction_mode=mode)))
    bench.connection = connection.sync_connection if host.is_async else connection
    try:
        async with bench.context() as ctx:
            await bench.write(ctx, "before")
        yield bench
        if survives:
            async with bench.context() as ctx:
                assert await bench.read(ctx, "before") == "tea"
                await bench.write(ctx, "after")
            assert ctx.outcome == "committed"
        await bench.close()
        if outer.is_active:
            await settled(outer.rollback())
        assert [bench.look(name) for name in ("before", "inside", "after")] == [None, None, None]
    finally:
        await settled(connection.close())
        await settled(engine.dispose())


def test_contexts_see_what_others_committed(host: Any) -> None:
    """And ping takes a connection of its own."""

    async def check() -> None:
        async with joined(host) as bench:
            assert (await bench.ping()).ok

    host.run(check())


def test_a_context_is_rolled_back_alone(host: Any) -> None:
    async def check() -> None:
        async with joined(host) as bench:
            with pytest.raises(Failure):
                async with bench.context() as ctx:
                    await bench.write(ctx, "inside")
                    raise Failure
            async with bench.context() as ctx:
                assert await bench.read(ctx, "inside") is None

    host.run(check())


def test_what_a_service_rolls_back_is_seen(host: Any) -> None:
    async def check() -> None:
        async with joined(host) as bench:
            with pytest.raises(RollbackOnlyError, match="a service rolled it back"):
                async with bench.context() as ctx:
                    await bench.write(ctx, "inside")
                    await settled((await bench.value(ctx)).rollback())
                    await bench.write(ctx, "late")

    host.run(check())


def test_a_block_that_is_rolled_back_is_not_taken_for_that(host: Any) -> None:
    """It is a savepoint inside of another one."""

    async def check() -> None:
        async with joined(host) as bench:
            async with bench.context() as ctx:
                await bench.write(ctx, "inside")
                with pytest.raises(Failure):
                    async with bench.nested(ctx):
                        await bench.write(ctx, "block")
                        raise Failure
            assert ctx.outcome == "committed"

    host.run(check())


def test_what_a_service_commits_is_seen(host: Any) -> None:
    async def check() -> None:
        async with joined(host) as bench:
            with pytest.raises(Failure):
                async with bench.context() as ctx:
                    async with bench.nested(ctx):
                        await bench.write(ctx, "inside")
                    await settled((await bench.value(ctx)).commit())
                    raise Failure
            assert ctx.outcome == "partial"
            async with bench.context() as ctx:
                assert await bench.read(ctx, "inside") == "tea"

    host.run(check())


def test_a_connection_is_listened_to_no_longer_than_a_context_lasts(host: Any) -> None:
    async def check() -> None:
        async with joined(host) as bench:
            for _ in range(2):
                async with bench.context() as ctx:
                    await bench.read(ctx)
            assert bench.connection._polydatum_told == []

    host.run(check())


# --- Read-only --------------------------------------------------------------------------------------------------------


@on(*POSTGRES, *SQLITE)
@pytest.mark.parametrize("way", ["clean", "raised", "rolled back"])
def test_writes_are_refused_in_the_context_alone(host: Any, way: str) -> None:
    async def check() -> None:
        async with joined(host) as bench:
            try:
                async with bench.context(read_only=True) as ctx:
                    assert await bench.read(ctx, "before") == "tea"
                    if way == "rolled back":
                        await settled((await bench.value(ctx)).rollback())
                    with pytest.raises(DBAPIError):
                        await bench.write(ctx, "inside")
                    if way == "raised":
                        raise Failure
            except Failure:
                pass

    host.run(check())


@on(*SQLITE)
def test_also_in_a_transaction_that_has_no_savepoint(host: Any) -> None:
    async def check() -> None:
        async with joined(host, "rollback_only") as bench:
            async with bench.context(read_only=True) as ctx:
                with pytest.raises(DBAPIError):
                    await bench.write(ctx, "inside")
            assert ctx.outcome == "committed"

    host.run(check())


@on(*POSTGRES)
def test_postgresql_needs_a_savepoint(host: Any) -> None:
    """Without, all that comes after the context would be refused as well."""

    async def check() -> None:
        async with joined(host, "rollback_only", survives=False) as bench:
            with pytest.raises(ConfigurationError, match=r"'db'.*join_transaction_mode='create_savepoint'"):
                async with bench.context(read_only=True) as ctx:
                    await bench.read(ctx)

    host.run(check())


@on(*MARIA)
@pytest.mark.parametrize("mode", ["create_savepoint", "rollback_only"])
def test_mariadb_cannot_refuse_them(host: Any, mode: str) -> None:
    """It would commit the transaction before."""

    async def check() -> None:
        async with joined(host, mode, survives=mode == "create_savepoint") as bench:
            with pytest.raises(ConfigurationError, match=r"'db'.*bind the session factory to an engine"):
                async with bench.context(read_only=True) as ctx:
                    await bench.read(ctx)

    host.run(check())
