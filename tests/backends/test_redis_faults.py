"""Redis behind a proxy that cuts, delays and slows down exchanges: the outcome is what the server then has."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
import redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from polydatum import DataManager
from polydatum.testing.backend_contract import Bench, gone
from tests.backends.cancels import AFTER, CANCELS, cancel_at_random, cancelled_after
from tests.backends.faults import KINDS, each_fault
from tests.backends.proxy import Direction, Fault, SlowProxy, before
from tests.backends.redis_hosts import HOSTS, NAME, PREFIX, AsyncRedisHost, ImmediateHost, RedisHost


@pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest) -> Iterator[RedisHost]:
    with closing(request.param()) as host:
        yield host


@pytest.fixture
def async_host() -> Iterator[AsyncRedisHost]:
    with closing(AsyncRedisHost()) as host:
        yield host


@pytest.mark.parametrize("retries", [3, 0])
@pytest.mark.parametrize(("direction", "delay"), KINDS)
def test_the_outcome_is_true(host: RedisHost, retries: int, direction: Direction, delay: float | None) -> None:
    """And the queue is done once or not at all, which is told: redis-py would send it again, and cannot know."""
    retry = (AsyncRetry if host.is_async else Retry)(NoBackoff(), retries)
    with before(host) as proxy:
        for report in each_fault(host, proxy, direction, delay, retry=retry):
            if report.commits and delay is None:
                assert (report.outcome, report.error) == ("committed", None), report
                assert report.told == [redis.ConnectionError], report
                assert report.kept == (direction == "reply"), report
            else:
                assert report.is_true, report
                assert report.told == [] or report.error, report
            assert delay is None or report.outcome == "committed", report


@pytest.mark.parametrize(("retries", "count"), [(0, "1"), (1, "2")])
def test_an_immediate_write_is_sent_again_if_the_client_retries(retries: int, count: str) -> None:
    """As redis-py has it: it cannot know that it was done."""
    with closing(ImmediateHost()) as host, before(host) as proxy:
        manager: Any = DataManager()
        manager.register_resources(limits=host.backend(retry=Retry(NoBackoff(), retries)))
        with manager.context() as ctx:
            ctx.limits.get(f"{PREFIX}tries")
        proxy.arm(Fault(0, "reply"))
        with suppress(redis.ConnectionError), manager.context() as ctx:
            ctx.limits.incr(f"{PREFIX}tries")
        assert host.look("tries") == count
        assert ctx.outcome == ("committed" if retries else "rolled_back")
        manager.close()


def test_a_cancelled_exchange_closes_its_connection(async_host: AsyncRedisHost) -> None:
    ids: list[int] = []

    async def main() -> None:
        bench = Bench(async_host, async_host.backend(max_connections=1))
        begun = asyncio.Event()

        async def wait() -> None:
            async with bench.context() as ctx:
                cache = await ctx.db
                ids.append(await cache.client_id())
                begun.set()
                await async_host.slow(cache)

        task = asyncio.create_task(wait())
        await begun.wait()
        for _ in range(1000):
            clients: Any = async_host.outside.client_list()
            if any(client["name"] == NAME and client["flags"] == "b" for client in clients):  # it is blocked
                break
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with bench.context() as ctx:
            ids.append(await (await ctx.db).client_id())
        await bench.close()

    asyncio.run(main())
    assert ids[0] != ids[1]
    assert gone(async_host, 0) == (0, 0)


def test_a_swallowed_cancel_is_noticed(async_host: AsyncRedisHost) -> None:
    """On Python 3.11 redis-py swallows a cancel that comes while it sends; the context rolls back and raises it."""
    swallowed: list[bool] = []
    contexts: list[Any] = []

    async def main() -> None:
        bench = Bench(async_host, async_host.backend(socket_timeout=5))

        async def work(name: str) -> None:
            task: Any = asyncio.current_task()
            async with bench.context() as ctx:
                contexts.append(ctx)
                await bench.write(ctx, name)
                await bench.read(ctx, name)
                swallowed.append(task.cancelling() > 0)

        await work("connects")
        for ticks in range(1, 12):
            await cancelled_after(ticks, work(str(ticks)))
            assert (bench.look(str(ticks)) == "tea") == (contexts[-1].outcome == "committed")
        await bench.close()

    asyncio.run(main())
    assert any(swallowed) == (sys.version_info < (3, 12))


def test_no_reply_reaches_another_task(async_host: AsyncRedisHost) -> None:
    """Each reader checks its own key; whoever was cancelled, rolled back or told so.

    On Python 3.11 redis-py swallows most of these cancels: the context notices them at its end.
    """
    contexts: dict[int, Any] = {}
    swallowed: list[bool] = []

    async def main() -> None:
        bench = Bench(async_host)

        async def read(number: int) -> None:
            key = f"{PREFIX}{number}"
            task: Any = asyncio.current_task()
            async with bench.context() as ctx:
                contexts[number] = ctx
                cache = await ctx.db
                await bench.write(ctx, f"done {number}")
                for _ in range(4):
                    assert await cache.get(key) == str(number)
                assert await cache.pipeline().get(key).exists(key).execute() == [str(number), 1]
                swallowed.append(task.cancelling() > 0)
            assert not task.cancelling()

        cancelled = await cancel_at_random(read)
        for number, ctx in contexts.items():
            assert (bench.look(f"done {number}") == "tea") == (ctx.outcome == "committed")
            assert not ctx.outcome.errors or number in cancelled
        await bench.close()

    for number in range(CANCELS + AFTER):
        async_host.outside.set(f"{PREFIX}{number}", number)
    with before(async_host, SlowProxy):
        asyncio.run(main())
    outcomes = [str(ctx.outcome) for ctx in contexts.values()]
    assert len(outcomes) > CANCELS / 2
    assert "rolled_back" in outcomes
    assert sys.version_info < (3, 12) or not any(swallowed)
    assert gone(async_host, 0) == (0, 0)
