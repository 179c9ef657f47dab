"""psycopg over a network that cuts and delays, and transactions that collide."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
from psycopg import IsolationLevel

from polydatum import CommitOutcomeUnknown
from polydatum.testing.backend_contract import Bench, settled
from tests.backends.faults import KINDS, each_fault, lost_commit
from tests.backends.proxy import Direction, Fault, Proxy
from tests.backends.psycopg_hosts import HOSTS, PsycopgHost
from tests.backends.sql_servers import NAME, PostgresServer, table_on
from tests.backends.transfers import ACCOUNTS, OPENING_BALANCE, Transfers


@pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest) -> Iterator[PsycopgHost]:
    with table_on(PostgresServer()) as server:
        yield request.param(server)


@pytest.fixture
def proxy(host: PsycopgHost) -> Iterator[Proxy]:
    with Proxy(host.server.host, host.server.port) as proxy:
        host.port = proxy.port
        yield proxy


@pytest.mark.parametrize(("direction", "delay"), KINDS)
def test_the_outcome_is_true(host: PsycopgHost, proxy: Proxy, direction: Direction, delay: float | None) -> None:
    """And unknown exactly if the exchange with the COMMIT was cut."""
    for report in each_fault(host, proxy, direction, delay):
        assert report.is_true, report
        is_unknown = report.commits and delay is None
        assert (report.outcome == "unknown") == is_unknown, report
        assert isinstance(report.error, CommitOutcomeUnknown) == is_unknown, report
        assert delay is None or report.outcome == "committed", report


@pytest.mark.parametrize("direction", ["request", "reply"])
def test_the_server_tells_what_was_unknown(host: PsycopgHost, proxy: Proxy, direction: Direction) -> None:
    """Also if the pool has room for no second connection."""
    commits = []
    for report in each_fault(host, proxy, direction, None, resolve_unknown=True, max_size=1):
        assert report.is_true, report
        assert report.outcome != "unknown", report
        if report.commits:
            commits.append((report.outcome, report.kept))
    assert commits == [("committed", True) if direction == "reply" else ("rolled_back", False)]


@pytest.mark.parametrize("direction", ["request", "reply"])
def test_what_wrote_nothing_is_not_unknown(host: PsycopgHost, proxy: Proxy, direction: Direction) -> None:
    async def check() -> None:
        bench = Bench(host, host.backend(resolve_unknown=True))
        outcome, error = await lost_commit(bench, proxy, direction, writes=False)
        assert outcome == "rolled_back"
        assert error is not None
        assert not isinstance(error, CommitOutcomeUnknown)
        await bench.close()

    host.run(check())


def test_a_server_that_stays_away_does_not_tell(host: PsycopgHost, proxy: Proxy) -> None:
    async def check() -> None:
        bench = Bench(host, host.backend(resolve_unknown=True))
        outcome, error = await lost_commit(bench, proxy, "reply", writes=True, lasts=True)
        assert outcome == "unknown"
        assert isinstance(error, CommitOutcomeUnknown)
        await bench.close()

    host.run(check())


def test_a_ping_does_not_wait_for_a_silent_server(host: PsycopgHost, proxy: Proxy) -> None:
    """And asks again, over the same few connections, when that has spoken."""

    async def check() -> None:
        bench = Bench(host, host.backend(max_size=1))
        assert (await bench.ping()).ok
        proxy.arm(Fault(0, "reply", 3.0))
        ask = bench.manager.aping if host.is_async else lambda **options: settled(bench.manager.ping(**options))
        for _ in range(3):
            started = monotonic()
            assert (await ask(timeout=0.2))["db"].error == "TimeoutError"
            assert monotonic() - started < 2
        await ask(timeout=10)
        assert (await ask(timeout=10))["db"].ok
        await bench.close()

    host.run(check())


def transfer(connection: Any, source: str, target: str, amount: int) -> None:
    """Read both, then write both."""
    changed = []
    for name, change in ((source, -amount), (target, amount)):
        (balance,) = connection.execute(f"SELECT text FROM {NAME} WHERE name = %s", (name,)).fetchone()
        changed.append((str(int(balance) + change), name))
    for balance_and_name in changed:
        connection.execute(f"UPDATE {NAME} SET text = %s WHERE name = %s", balance_and_name)


async def atransfer(connection: Any, source: str, target: str, amount: int) -> None:
    """As `transfer`."""
    changed = []
    for name, change in ((source, -amount), (target, amount)):
        cursor = await connection.execute(f"SELECT text FROM {NAME} WHERE name = %s", (name,))
        (balance,) = await cursor.fetchone()
        changed.append((str(int(balance) + change), name))
    for balance_and_name in changed:
        await connection.execute(f"UPDATE {NAME} SET text = %s WHERE name = %s", balance_and_name)


def test_the_sum_of_transfers_stays_exact(host: Any) -> None:
    def serializable(connection: Any) -> None:
        connection.isolation_level = IsolationLevel.SERIALIZABLE

    async def aserializable(connection: Any) -> None:
        await connection.set_isolation_level(IsolationLevel.SERIALIZABLE)

    async def check() -> None:
        configure = aserializable if host.is_async else serializable
        bench = Bench(host, host.backend(configure=configure))
        async with bench.context() as ctx:
            for account in range(ACCOUNTS):
                await bench.write(ctx, str(account), str(OPENING_BALANCE))
        transfers = Transfers(bench, atransfer if host.is_async else transfer)
        await transfers.run()
        assert transfers.begun > transfers.asked
        balances = [int(bench.look(str(account)) or 0) for account in range(ACCOUNTS)]
        assert sum(balances) == ACCOUNTS * OPENING_BALANCE
        assert balances != [OPENING_BALANCE] * ACCOUNTS
        await bench.close()

    host.run(check())
