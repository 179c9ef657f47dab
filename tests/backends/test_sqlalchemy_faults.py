"""SQLAlchemy over a network that cuts and delays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polydatum import CommitOutcomeUnknown
from polydatum.testing.backend_contract import Bench, settled
from tests.backends.faults import KINDS, each_fault, lost_commit
from tests.backends.proxy import Direction, Proxy
from tests.backends.sql_servers import table_on
from tests.backends.sqlalchemy_hosts import MARIA, POSTGRES, Entry, SQLAlchemyHost, server_for


@pytest.fixture(params=POSTGRES + MARIA, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SQLAlchemyHost]:
    with table_on(server_for(request.param, tmp_path)) as server:
        yield request.param(server)


@pytest.fixture
def proxy(host: SQLAlchemyHost) -> Iterator[Proxy]:
    with Proxy(host.server.host, host.server.port) as proxy:
        host.port = proxy.port
        yield proxy


COUNTED: dict[str, Any] = {"pool_pre_ping": False}
"""Exchanges are counted in one context, and cut in the next: both have to have as many."""


@pytest.mark.parametrize(("direction", "delay"), KINDS)
def test_the_outcome_is_true(host: SQLAlchemyHost, proxy: Proxy, direction: Direction, delay: float | None) -> None:
    """And unknown exactly if the exchange with the COMMIT was cut."""
    for report in each_fault(host, proxy, direction, delay):
        assert report.is_true, report
        is_unknown = report.commits and delay is None
        assert (report.outcome == "unknown") == is_unknown, report
        assert isinstance(report.error, CommitOutcomeUnknown) == is_unknown, report
        assert delay is None or report.outcome == "committed", report


@pytest.mark.parametrize("direction", ["request", "reply"])
@pytest.mark.parametrize("host", POSTGRES, ids=lambda host: host.__name__, indirect=True)
def test_the_server_tells_what_was_unknown(host: SQLAlchemyHost, proxy: Proxy, direction: Direction) -> None:
    commits = []
    for report in each_fault(host, proxy, direction, None, resolve_unknown=True):
        assert report.is_true, report
        assert report.outcome != "unknown", report
        if report.commits:
            commits.append((report.outcome, report.kept))
    assert commits == [("committed", True) if direction == "reply" else ("rolled_back", False)]


@pytest.mark.parametrize("direction", ["request", "reply"])
@pytest.mark.parametrize("host", MARIA, ids=lambda host: host.__name__, indirect=True)
def test_mariadb_does_not_tell(host: SQLAlchemyHost, proxy: Proxy, direction: Direction) -> None:
    async def check() -> None:
        bench = Bench(host, host.backend(resolve_unknown=True, **COUNTED))
        outcome, error = await lost_commit(bench, proxy, direction, writes=True)
        assert outcome == "unknown"
        assert isinstance(error, CommitOutcomeUnknown)
        await bench.close()

    host.run(check())


@pytest.mark.parametrize("direction", ["request", "reply"])
@pytest.mark.parametrize("host", POSTGRES, ids=lambda host: host.__name__, indirect=True)
def test_what_wrote_nothing_is_not_unknown(host: SQLAlchemyHost, proxy: Proxy, direction: Direction) -> None:
    async def check() -> None:
        bench = Bench(host, host.backend(resolve_unknown=True, **COUNTED))
        outcome, error = await lost_commit(bench, proxy, direction, writes=False)
        assert outcome == "rolled_back"
        assert error is not None
        assert not isinstance(error, CommitOutcomeUnknown)
        await bench.close()

    host.run(check())


@pytest.mark.parametrize("host", POSTGRES, ids=lambda host: host.__name__, indirect=True)
def test_a_server_that_stays_away_does_not_tell(host: SQLAlchemyHost, proxy: Proxy) -> None:
    async def check() -> None:
        bench = Bench(host, host.backend(resolve_unknown=True, **COUNTED))
        outcome, error = await lost_commit(bench, proxy, "reply", writes=True, lasts=True)
        assert outcome == "unknown"
        assert isinstance(error, CommitOutcomeUnknown)
        await bench.close()

    host.run(check())


@pytest.mark.parametrize("host", POSTGRES, ids=lambda host: host.__name__, indirect=True)
def test_results_stay_usable_if_the_server_tells(host: SQLAlchemyHost, proxy: Proxy) -> None:
    async def check() -> None:
        bench = Bench(host, host.backend(resolve_unknown=True, pool_size=1, max_overflow=0, **COUNTED))
        found = []

        async def keep(context: object) -> None:
            found.append(await settled((await bench.value(context)).get(Entry, bench.key("counted"))))

        outcome, error = await lost_commit(bench, proxy, "reply", writes=True, before_commit=keep)
        assert (outcome, error) == ("committed", None)
        assert found[-1].text == "tea"
        await bench.close()

    host.run(check())
