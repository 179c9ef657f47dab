"""`DataManager.run` over SQLAlchemy: serialization failures, deadlocks and a busy SQLite are tried again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update

from polydatum.testing.backend_contract import Bench
from tests.backends.sql_servers import table_on
from tests.backends.sqlalchemy_hosts import ENTRIES, HOSTS, MARIA, POSTGRES, SQLAlchemyHost, server_for
from tests.backends.transfers import ACCOUNTS, OPENING_BALANCE, Transfers


@pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SQLAlchemyHost]:
    with table_on(server_for(request.param, tmp_path)) as server:
        yield request.param(server)


def transfer(session: Any, source: str, target: str, amount: int) -> None:
    """Read both, then write both. Where the server needs locks for it, in no order and for a while: they meet."""
    locks = session.get_bind().dialect.name in ("mysql", "mariadb")
    changed = []
    for name, change in ((source, -amount), (target, amount)):
        balance = select(ENTRIES.c.text).where(ENTRIES.c.name == name)
        if changed and locks:
            session.execute(text("SELECT SLEEP(0.002)"))
        changed.append((name, int(session.scalar(balance.with_for_update() if locks else balance)) + change))
    for name, balance in changed:
        session.execute(update(ENTRIES).where(ENTRIES.c.name == name).values(text=str(balance)))


def atransfer(session: Any, source: str, target: str, amount: int) -> Any:
    return session.run_sync(transfer, source, target, amount)


def test_the_sum_stays_exact(host: Any) -> None:
    options: dict[str, Any] = {}
    if isinstance(host, POSTGRES):
        options["isolation_level"] = "SERIALIZABLE"
    elif not isinstance(host, MARIA):
        options["connect_args"] = {"timeout": 0.01}

    async def check() -> None:
        bench = Bench(host, host.backend(**options))
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
