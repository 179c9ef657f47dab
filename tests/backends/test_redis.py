"""RedisBackend and AsyncRedisBackend, over a real server."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
import redis.asyncio

from polydatum import DataManager
from polydatum.backends.redis import (
    AsyncContextRedis,
    AsyncRedisBackend,
    ContextRedis,
    ImmediateWriteError,
    RedisBackend,
)
from polydatum.backends.redis_commands import READS, TELLS
from polydatum.errors import ConfigurationError, ContextClosedError, MissingClientError, ReadOnlyError, ResourceError
from polydatum.testing import BackendContract
from polydatum.testing.backend_contract import Bench, settled
from tests.backends.redis_hosts import HOSTS, PREFIX, AsyncImmediateHost, ImmediateHost, RedisHost
from tests.backends.sql_servers import in_child
from tests.unit.ledgers import Ledger


class TestRedis(BackendContract):
    @pytest.fixture(params=[*HOSTS, ImmediateHost, AsyncImmediateHost], ids=lambda host: host.__name__)
    def host(self, request: pytest.FixtureRequest) -> Iterator[Any]:
        with closing(request.param()) as host:
            yield host


# --- What is special to Redis -----------------------------------------------------------------------------------------


@pytest.fixture
def host() -> Iterator[RedisHost]:
    with closing(RedisHost()) as host:
        yield host


@pytest.fixture
def dm(host: RedisHost) -> Iterator[Any]:
    manager: Any = DataManager()
    manager.register_resources(cache=host.backend(), store=RedisBackend(host.url, immediate=True))
    yield manager
    manager.close()


def test_services_get_a_redis_client(dm: Any) -> None:
    with dm.context() as ctx:
        assert isinstance(ctx.cache, redis.Redis)
        assert isinstance(ctx.cache, ContextRedis)
        assert isinstance(ctx.cache.after_commit, redis.client.Pipeline)
        assert ctx.cache.after_commit.get_connection_kwargs() == ctx.cache.get_connection_kwargs()
        assert ctx.cache.after_commit.get_encoder().decode_responses


@pytest.mark.parametrize("host_class", HOSTS)
def test_a_response_callback_ends_with_its_context(host_class: type[RedisHost]) -> None:
    """It is set on what services get, by `json` for one; the user's own client stays as it was."""

    async def check(host: RedisHost) -> None:
        host.outside.set(f"{PREFIX}a", "tea")
        backend, client = host.given()
        before = dict(client.response_callbacks)
        bench = Bench(host, backend)
        async with bench.context() as ctx:
            cache = await bench.value(ctx)
            cache.set_response_callback("get", lambda reply, **options: reply.upper())
            cache.after_commit.set_response_callback("set", lambda reply, **options: reply)
            cache.json()
            assert await settled(cache.get(f"{PREFIX}a")) == "TEA"
            assert await settled(cache.pipeline().get(f"{PREFIX}a").execute()) == ["TEA"]
        assert client.response_callbacks == before
        async with bench.context() as ctx:
            assert await settled((await bench.value(ctx)).get(f"{PREFIX}a")) == "tea"
        await bench.close()
        await settled(host.dispose(client))

    with closing(host_class()) as host:
        host.run(check(host))


@pytest.mark.parametrize(
    "write",
    [
        lambda cache: cache.set(f"{PREFIX}a", 1),
        lambda cache: cache.incr(f"{PREFIX}a"),
        lambda cache: cache.publish(f"{PREFIX}a", 1),
        lambda cache: cache.eval("return 1", 0),
        lambda cache: cache.register_script("return 1")(),
        lambda cache: cache.execute_command("SET", f"{PREFIX}a", 1),
        lambda cache: cache.execute_command(b"set", f"{PREFIX}a", 1),
        lambda cache: cache.execute_command(f"SET {PREFIX}a 1"),
        lambda cache: cache.execute_command("NEWLY.INVENTED"),
        lambda cache: cache.config_set("maxmemory", 0),
        lambda cache: cache.pipeline().set(f"{PREFIX}a", 1),
        lambda cache: cache.transaction(lambda pipe: pipe.set(f"{PREFIX}a", 1), f"{PREFIX}a"),
        lambda cache: cache.lock(f"{PREFIX}a").acquire(),
        lambda cache: cache.client().set(f"{PREFIX}a", 1),
        lambda cache: cache.json().set(f"{PREFIX}a", "$", 1),
        lambda cache: cache.json().pipeline(),
        lambda cache: cache.ft().pipeline(),
        lambda cache: cache.ts().pipeline(),
    ],
)
def test_a_write_before_the_commit_is_refused(dm: Any, host: RedisHost, write: Any) -> None:
    """Whichever way it is sent; the message names the two ways out."""
    with pytest.raises(ImmediateWriteError, match=r"after_commit.*immediate=True"):
        with dm.context() as ctx:
            write(ctx.cache)
    with pytest.raises(ReadOnlyError):
        with dm.context(read_only=True) as ctx:
            write(ctx.cache)
    with pytest.raises(ReadOnlyError):
        with dm.context(read_only=True) as ctx:
            write(ctx.store)
    assert host.look("a") is None


@pytest.mark.parametrize("options", [{}, {"read_only": True}], ids=["open", "read-only"])
def test_a_refusal_shows_no_data(dm: Any, options: Any) -> None:
    with dm.context(**options) as ctx:
        for args in (("SET hush hush",), ("SET", "hush", "hush"), ("set\thush",), (b"SET hush",), ("", "hush")):
            with pytest.raises(ResourceError, match="'cache' refuses") as refused:
                ctx.cache.execute_command(*args)
            assert "hush" not in str(refused.value).lower()
    if options:
        with pytest.raises(ReadOnlyError) as refused:
            with dm.context(**options) as ctx:
                ctx.cache.after_commit.execute_command("SET hush hush")
        assert "hush" not in str(refused.value).lower()


def test_reads_go_out_at_once(dm: Any, host: RedisHost) -> None:
    host.outside.set(f"{PREFIX}a", "tea")
    with dm.context(read_only=True) as ctx:
        cache = ctx.cache
        assert cache.get(f"{PREFIX}a") == "tea"
        assert cache.pipeline().get(f"{PREFIX}a").exists(f"{PREFIX}b").execute() == ["tea", 0]
        assert cache.transaction(lambda pipe: pipe.multi() or pipe.get(f"{PREFIX}a"), f"{PREFIX}a") == ["tea"]
        assert cache.execute_command("MEMORY", "USAGE", f"{PREFIX}a") > 0
        assert cache.execute_command(f"MEMORY USAGE {PREFIX}a") > 0  # redis-py cuts it up
        assert cache.execute_command(f"GET {PREFIX}a") == "tea"
        assert cache.memory_usage(f"{PREFIX}a") > 0
        assert cache.eval_ro("return redis.call('get', KEYS[1])", 1, f"{PREFIX}a") == "tea"
        with cache.client() as own:
            assert own.client_id()
            assert own.after_commit is cache.after_commit
        with cache.pubsub() as channel:
            channel.subscribe(f"{PREFIX}channel")
            assert channel.get_message(timeout=5)["type"] == "subscribe"
        assert [key for key in cache.scan_iter(match=f"{PREFIX}*")] == [f"{PREFIX}a"]
    assert ctx.outcome == "committed"


def test_what_counts_as_a_read_is_one_for_the_server(host: RedisHost) -> None:
    """None of them is flagged as a write; those on data are flagged as reads."""
    flags: dict[str, set[str]] = {}

    def note(entry: Any) -> None:
        flags[entry[0].decode().replace("|", " ").upper()] = {flag.decode() for flag in entry[2]}
        for sub in entry[9]:
            note(sub)

    with redis.Redis.from_url(host.url, protocol=2) as plain:
        connection = plain.connection_pool.get_connection()
        connection.send_command("COMMAND")
        for entry in connection.read_response():
            note(entry)
        plain.connection_pool.release(connection)
    known = READS & set(flags)
    assert len(known) > 80
    assert {name for name in known if "readonly" not in flags[name]} == set()
    assert {name for name in TELLS if "write" in flags[name]} == set()
    assert {name for name in flags if "readonly" in flags[name]} <= READS


def test_the_queue_is_one_transaction_after_the_commit(dm: Any, host: RedisHost) -> None:
    with dm.context() as ctx:
        with ctx.cache.after_commit as pipe:
            pipe.set(f"{PREFIX}a", 1).incr(f"{PREFIX}a")
        ctx.cache.after_commit.expire(f"{PREFIX}a", 60)
        ctx.cache.register_script("redis.call('set', KEYS[1], ARGV[1])")([f"{PREFIX}b"], ["x"], client=pipe)
        ctx.before_commit(lambda: ctx.cache.after_commit.set(f"{PREFIX}c", "hook") and None)
        assert host.look("a") is None
    assert ctx.outcome == "committed"
    assert not ctx.outcome.errors
    assert [host.look(key) for key in "abc"] == ["2", "x", "hook"]


@pytest.mark.parametrize("step", ["prepare", "commit"])
def test_the_queue_is_dropped_when_the_authority_fails(dm: Any, host: RedisHost, step: str) -> None:
    """Also where the queue's connection was taken already."""
    dm.register_resources(db=lambda context: Ledger([], fails={step: ValueError("no")}))
    with pytest.raises(ValueError):
        with dm.context() as ctx:
            ctx.cache.after_commit.set(f"{PREFIX}a", 1)
            ctx.db.append("row")
    assert ctx.outcome == "rolled_back"
    assert host.look("a") is None
    assert host.connections()[0] <= 1
    with dm.context() as ctx:
        assert ctx.cache.get(f"{PREFIX}a") is None
    assert host.connections()[0] <= 1


def test_no_server_is_found_out_before_the_authority_commits(host: RedisHost) -> None:
    manager: Any = DataManager()
    rows: list[str] = []
    manager.register_resources(cache=host.unreachable(), db=lambda context: Ledger(rows))
    with pytest.raises(redis.ConnectionError):
        with manager.context() as ctx:
            ctx.db.append("row")
            ctx.cache.after_commit.set(f"{PREFIX}a", 1)
    assert ctx.outcome == "rolled_back"
    assert rows == []
    manager.close()


def test_a_read_only_context_queues_nothing(dm: Any) -> None:
    with pytest.raises(ReadOnlyError):
        with dm.context(read_only=True) as ctx:
            ctx.cache.after_commit.set(f"{PREFIX}a", 1)


def test_only_the_context_sends_the_queue(dm: Any, host: RedisHost) -> None:
    for misuse in (
        lambda queue: queue.execute(),
        lambda queue: queue.watch(f"{PREFIX}a"),
        lambda queue: queue.discard(),
    ):
        with pytest.raises(ResourceError, match="after_commit"):
            with dm.context() as ctx:
                ctx.cache.after_commit.set(f"{PREFIX}a", 1)
                misuse(ctx.cache.after_commit)
    assert host.look("a") is None


def test_nothing_is_queued_when_it_is_too_late(dm: Any, host: RedisHost) -> None:
    """It would never be sent."""
    with dm.context() as ctx:
        cache = ctx.cache
    with pytest.raises(ContextClosedError):
        cache.after_commit.set(f"{PREFIX}a", 1)
    with pytest.raises(ValueError):
        with dm.context() as ctx:
            cache = ctx.cache
            raise ValueError
    with pytest.raises(ContextClosedError):
        cache.after_commit.set(f"{PREFIX}a", 1)


def test_a_command_that_fails_changes_no_answer(dm: Any, host: RedisHost) -> None:
    """EXEC is no rollback: the others are done."""
    host.outside.set(f"{PREFIX}text", "tea")
    with dm.context() as ctx:
        ctx.cache.after_commit.incr(f"{PREFIX}text").set(f"{PREFIX}a", 1)
    assert ctx.outcome == "committed"
    assert [record.type for record in ctx.outcome.errors] == [redis.ResponseError]
    assert host.look("a") == "1"


def test_an_immediate_write_stays(dm: Any, host: RedisHost) -> None:
    with pytest.raises(ValueError):
        with dm.context() as ctx:
            ctx.store.incr(f"{PREFIX}count")
            ctx.store.pipeline().set(f"{PREFIX}piped", 1).execute()
            with ctx.store.lock(f"{PREFIX}lock", timeout=5):
                ctx.store.after_commit.set(f"{PREFIX}a", 1)
            assert ctx.store.json().pipeline() is not None
            raise ValueError
    assert [host.look(key) for key in ("count", "piped", "lock", "a")] == ["1", "1", None, None]


def test_without_redis_py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    monkeypatch.delitem(sys.modules, "polydatum.backends.redis")
    with pytest.raises(MissingClientError, match=r"pip install 'polydatum\[redis\]'"):
        importlib.import_module("polydatum.backends.redis")


def test_a_given_client_is_used_in_a_child(host: RedisHost) -> None:
    """redis-py's pools notice the fork."""
    backend, client = host.given()
    manager: Any = DataManager()
    manager.register_resources(cache=backend)
    with manager.context() as ctx:
        ctx.cache.after_commit.set(f"{PREFIX}parent", 1)

    def check() -> None:
        with manager.context() as ctx:
            ctx.cache.after_commit.set(f"{PREFIX}child", ctx.cache.get(f"{PREFIX}parent"))

    assert in_child(host, check) == 0
    assert host.look("child") == "1"
    with manager.context() as ctx:
        assert ctx.cache.get(f"{PREFIX}child") == "1"
    manager.close()
    client.close()


def test_how_it_is_set_up(host: RedisHost) -> None:
    with redis.Redis.from_url(host.url) as client:
        assert repr(RedisBackend(client, immediate=True)) == "RedisBackend(<given client>, immediate=True)"
        assert repr(AsyncRedisBackend("redis://:hush@one:1/2")) == "AsyncRedisBackend('redis://:***@one:1/2')"
        with pytest.raises(ConfigurationError, match=r"RedisBackend\(decode_responses"):
            RedisBackend(client, decode_responses=True)


def test_async_services_get_an_async_client(host: RedisHost) -> None:
    """Queueing needs no await; a write that is refused is refused at the call."""

    async def main() -> None:
        manager: Any = DataManager()
        manager.register_resources(cache=AsyncRedisBackend(host.url, decode_responses=True))
        async with manager.context() as ctx:
            cache = await ctx.cache
            assert isinstance(cache, AsyncContextRedis)
            assert isinstance(cache, redis.asyncio.Redis)
            assert isinstance(cache.after_commit, redis.asyncio.client.Pipeline)
            async with cache.after_commit as pipe:
                pipe.set(f"{PREFIX}a", "tea")
            with pytest.raises(ResourceError):
                await cache.after_commit.execute()
            with pytest.raises(ImmediateWriteError):
                await cache.set(f"{PREFIX}a", "x")
            with pytest.raises(ImmediateWriteError):
                await cache.lock(f"{PREFIX}a").acquire()
            assert await cache.pipeline().get(f"{PREFIX}a").execute() == [None]
            async with cache.client() as own:
                assert await own.client_id()
        assert ctx.outcome == "committed"
        assert host.look("a") == "tea"
        with pytest.raises(ReadOnlyError):
            async with manager.context(read_only=True) as ctx:
                (await ctx.cache).after_commit.set(f"{PREFIX}a", "x")
        await manager.aclose()

    asyncio.run(main())
