"""MongoDB's protocol behind a proxy that cuts, delays and slows down exchanges: the outcome is what the server then has."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import closing
from time import monotonic
from typing import Any

import pytest

from polydatum.errors import CommitOutcomeUnknown
from polydatum.testing.backend_contract import Bench
from tests.backends.cancels import AFTER, CANCELS, cancel_at_random
from tests.backends.faults import KINDS, each_fault, lost_commit, visit
from tests.backends.mongo_hosts import HOSTS, AsyncMongoHost, Commands, MongoHost
from tests.backends.proxy import Direction, Fault, Proxy, SlowProxy, before

# PyMongo 4.20's async client leaves the socket of a connection attempt that is cut or cancelled to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning"),
]

QUIET = {"heartbeatFrequencyMS": 60_000, "serverMonitoringMode": "poll", "serverSelectionTimeoutMS": 10_000}
"""Monitors ask nothing while a test runs, so that they do not count."""


@pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest) -> Iterator[MongoHost]:
    with closing(request.param()) as host:
        yield host
    gc.collect()


def assert_free(host: MongoHost, key: str) -> None:
    """No transaction that was left open holds what it has written."""
    host.items.update_one({"_id": key}, {"$set": {"free": True}}, upsert=True)


@pytest.mark.parametrize(("direction", "delay"), KINDS)
def test_the_outcome_is_true(host: MongoHost, direction: Direction, delay: float | None) -> None:
    """And known: a commit that was cut PyMongo sends again."""
    with before(host) as proxy:
        for report in each_fault(host, proxy, direction, delay, **QUIET):
            assert report.is_true, report
            if report.commits or delay is not None:
                assert report.outcome == "committed", report
            assert_free(host, report.key)


@pytest.mark.parametrize(("direction", "done"), [("request", False), ("reply", True)])
def test_a_server_that_is_gone_at_the_commit(host: MongoHost, direction: Direction, done: bool) -> None:
    """Whether it was done is unknown, and both happens."""
    commands = Commands()

    async def check(proxy: Proxy) -> None:
        options = QUIET | {"serverSelectionTimeoutMS": 1000, "event_listeners": [commands]}
        bench = Bench(host, host.backend(**options))
        outcome, error = await lost_commit(bench, proxy, direction, writes=True, lasts=True)
        assert outcome == "unknown"
        assert isinstance(error, CommitOutcomeUnknown)
        assert (bench.look("cut") == "tea") == done
        await bench.close()

    with before(host) as proxy:
        host.run(check(proxy))
    host.end(commands.sessions[-1])


def test_a_rollback_does_not_wait_for_a_server_that_is_gone(host: MongoHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends the transaction itself."""
    monkeypatch.setattr("polydatum.backends.mongo.PATIENCE", 0.2)

    async def check(proxy: Proxy) -> None:
        bench = Bench(host, host.backend(**QUIET))
        await visit(bench, "before")
        proxy.arm(Fault(1, "request", lasts=True))
        started = monotonic()
        context, error = await visit(bench)
        assert monotonic() - started < 4
        assert error is not None
        assert context.outcome == "rolled_back"
        proxy.arm(None)
        await bench.close()

    with before(host) as proxy:
        host.run(check(proxy))


def test_no_reply_reaches_another_task() -> None:
    """Each task finds its own, and what was told is what is there."""
    contexts: dict[int, Any] = {}

    async def main() -> None:
        bench = Bench(host, host.backend(**QUIET))

        async def work(number: int) -> None:
            async with bench.context() as ctx:
                contexts[number] = ctx
                db = await ctx.db
                for _ in range(2):
                    assert (await db.items.find_one({"_id": number}))["text"] == f"text {number}"
                await db.items.insert_one({"_id": f"done {number}"})
                assert (await db.items.find_one({"_id": f"done {number}"}))["_id"] == f"done {number}"

        await cancel_at_random(work)
        await bench.close()

    with closing(AsyncMongoHost()) as host, before(host, SlowProxy):
        host.items.insert_many([{"_id": number, "text": f"text {number}"} for number in range(CANCELS + AFTER)])
        asyncio.run(main())
        for number, ctx in contexts.items():
            is_there = host.items.find_one({"_id": f"done {number}"}) is not None
            assert is_there == (ctx.outcome == "committed")
            assert_free(host, f"done {number}")
    outcomes = [str(ctx.outcome) for ctx in contexts.values()]
    assert "rolled_back" in outcomes
