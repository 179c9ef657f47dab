"""MongoDB's protocol behind a proxy that cuts, delays and slows down exchanges: the outcome is what the server then has."""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from pymongo.monitoring import CommandListener

from polydatum import DataManager
from polydatum.backends.mongo import AsyncMongoBackend, MongoBackend
from polydatum.errors import CommitOutcomeUnknown
from polydatum.testing.backend_contract import Sync
from tests.backends.mongod import mongo_url
from tests.backends.proxy import Direction, Fault, Proxy

DATABASE = f"polydatum_faults_{os.getpid()}"
# PyMongo 4.20's async client leaves the socket of a connection attempt that is cut or cancelled to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning"),
]
DELAYS = (0.05, 0.5, 2.0) if os.environ.get("POLYDATUM_FAULTS") == "all" else (0.05,)


class SlowProxy(Proxy):
    """Every reply is late, some more than others, so that those of different tasks overlap."""

    def _strikes(self, exchange: int, direction: Direction) -> Fault | None:
        return Fault(exchange, direction, random.uniform(0, 0.004)) if direction == "reply" else None


class DeafProxy(Proxy):
    """Once the armed fault has happened, every connection is cut."""

    def _strikes(self, exchange: int, direction: Direction) -> Fault | None:
        if self.struck:
            return Fault(exchange, direction)
        return super()._strikes(exchange, direction)


@pytest.fixture
def items() -> Iterator[Any]:
    client: Any = MongoClient(mongo_url())
    yield client[DATABASE].create_collection("items")
    client.drop_database(DATABASE)
    client.close()
    gc.collect()


def proxied(proxy_class: type[Proxy] = Proxy) -> Proxy:
    place = urlsplit(mongo_url())
    assert place.port
    return proxy_class(place.hostname or "", place.port)


class Sessions(CommandListener):
    """Notes the sessions that are used."""

    def __init__(self) -> None:
        self.used: list[Any] = []

    def started(self, event: Any) -> None:
        if "lsid" in event.command:
            self.used.append(event.command["lsid"])

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


class Stand:
    """A manager over the proxy, in either mode. Monitors ask nothing while a test runs, so that they do not count."""

    def __init__(self, proxy: Proxy, is_async: bool, patience: int = 1000) -> None:
        self.is_async = is_async
        self.sessions = Sessions()
        self.manager: Any = DataManager()
        backend: Any = AsyncMongoBackend if is_async else MongoBackend
        login, at, _ = urlsplit(mongo_url()).netloc.rpartition("@")
        self.manager.register_resources(
            db=backend(
                f"mongodb://{login}{at}127.0.0.1:{proxy.port}/{DATABASE}?directConnection=true",
                heartbeatFrequencyMS=60_000,
                serverMonitoringMode="poll",
                serverSelectionTimeoutMS=patience,
                event_listeners=[self.sessions],
            )
        )

    async def visit(self, key: str) -> Any:
        """A typical context: a read, then a write; gives it, and what was raised."""
        raised: BaseException | None = None
        context = self.manager.context()
        try:
            async with context if self.is_async else Sync(context):
                db = await context.db if self.is_async else context.db
                for operation in (
                    lambda: db.items.find_one({"_id": "none"}),
                    lambda: db.items.insert_one({"_id": key}),
                ):
                    result = operation()
                    if isinstance(result, Awaitable):
                        await result
        except (PyMongoError, CommitOutcomeUnknown) as error:
            raised = error
        return context, raised

    async def close(self) -> None:
        if self.is_async:
            await self.manager.aclose()
        else:
            self.manager.close()


def is_there(items: Any, key: str) -> bool:
    return items.find_one({"_id": key}) is not None


def assert_free(items: Any, key: str) -> None:
    """No transaction that was left open holds what it has written."""
    items.update_one({"_id": key}, {"$set": {"free": True}}, upsert=True)


async def each_exchange(items: Any, is_async: bool, warm: bool, direction: Direction, delay: float | None) -> list[str]:
    outcomes = []
    struck = True
    while struck:
        key = f"key-{len(outcomes)}"
        with proxied() as proxy:
            stand = Stand(proxy, is_async, patience=10_000)
            if warm:
                await stand.visit(f"{key}-warm")
            proxy.arm(Fault(len(outcomes), direction, delay))
            context, raised = await stand.visit(key)
            struck = proxy.struck
            proxy.arm(None)
            outcomes.append(str(context.outcome))
            assert (raised is None) == (context.outcome == "committed")
            if context.outcome != "unknown":
                assert is_there(items, key) == (context.outcome == "committed")
            if delay is not None:
                assert context.outcome == "committed"
            assert_free(items, key)
            context, raised = await stand.visit(f"{key}-next")
            assert raised is None
            assert is_there(items, f"{key}-next")
            await stand.close()
    return outcomes[:-1]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize("direction", ["request", "reply"])
@pytest.mark.parametrize("delay", [None, *DELAYS])
def test_any_exchange_fails(items: Any, is_async: bool, warm: bool, direction: Direction, delay: float | None) -> None:
    """Connecting, the read, the write, the commit: cut or late. A commit that was cut PyMongo sends again."""
    outcomes = asyncio.run(each_exchange(items, is_async, warm, direction, delay))
    assert len(outcomes) >= 3
    if warm and delay is None:
        assert outcomes == ["rolled_back", "rolled_back", "committed"]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("direction", "done"), [("request", False), ("reply", True)])
def test_a_server_that_is_gone_at_the_commit(items: Any, is_async: bool, direction: Direction, done: bool) -> None:
    """Whether it was done is unknown, and both happens."""

    async def main() -> None:
        with proxied(DeafProxy) as proxy:
            stand = Stand(proxy, is_async)
            await stand.visit("before")
            proxy.arm(Fault(2, direction))
            context, raised = await stand.visit("key")
            assert isinstance(raised, CommitOutcomeUnknown)
            assert context.outcome == "unknown"
            assert is_there(items, "key") == done
            proxy.arm(None)
            await stand.close()
            # The server would keep the transaction for a minute.
            items.database.client.admin.command("killSessions", stand.sessions.used)

    asyncio.run(main())


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_rollback_does_not_wait_for_a_server_that_is_gone(
    items: Any, is_async: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends the transaction itself."""
    monkeypatch.setattr("polydatum.backends.mongo.PATIENCE", 0.2)

    async def main() -> None:
        with proxied(DeafProxy) as proxy:
            stand = Stand(proxy, is_async, patience=30_000)
            await stand.visit("before")
            proxy.arm(Fault(1, "request"))
            started = monotonic()
            context, _ = await stand.visit("key")
            assert monotonic() - started < 4
            assert context.outcome == "rolled_back"
            proxy.arm(None)
            await stand.close()

    asyncio.run(main())


def test_no_reply_reaches_another_task(items: Any) -> None:
    """200 cancels at random moments; each task finds its own, and what was told is what is there."""
    cancels = 200
    found = {"rolled_back": 0, "committed": 0}
    contexts: dict[int, Any] = {}

    async def work(manager: Any, number: int) -> None:
        async with manager.context() as ctx:
            contexts[number] = ctx
            db = await ctx.db
            for _ in range(2):
                assert (await db.items.find_one({"_id": number}))["text"] == f"text {number}"
            await db.items.insert_one({"_id": f"done {number}"})
            assert (await db.items.find_one({"_id": f"done {number}"}))["_id"] == f"done {number}"

    async def cancel(manager: Any, number: int) -> None:
        task = asyncio.create_task(work(manager, number))
        for _ in range(random.randrange(400)):
            await asyncio.sleep(0)
        was_cancelled = task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled() == was_cancelled

    async def main() -> None:
        with proxied(SlowProxy) as proxy:
            stand = Stand(proxy, is_async=True)
            for first in range(0, cancels, 10):
                await asyncio.gather(*(cancel(stand.manager, number) for number in range(first, first + 10)))
            for number in range(cancels, cancels + 20):
                await work(stand.manager, number)
            await stand.close()

    items.insert_many([{"_id": number, "text": f"text {number}"} for number in range(cancels + 20)])
    asyncio.run(main())
    for number, context in contexts.items():
        found[context.outcome] += 1
        assert is_there(items, f"done {number}") == (context.outcome == "committed")
        assert_free(items, f"done {number}")
    assert found["rolled_back"] > 0
