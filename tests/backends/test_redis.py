"""RedisBackend and AsyncRedisBackend, over a real server."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

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
from polydatum.testing import BackendContract, BackendHost
from polydatum.testing.backend_contract import Bench, settled
from tests.services import url_of
from tests.unit.ledgers import Ledger

NAME = f"polydatum-{os.getpid()}"
PREFIX = f"{NAME}:"
NOTHING: dict[str, str] = {}
NO_CANCEL = {"cancel": "a thread cannot be cancelled"}
AT_ONCE = {
    "rollback": "what was sent at once stays",
    "isolation": "what was sent at once is seen at once",
    "savepoints": "what was sent at once stays",
}


class RedisHost(BackendHost):
    """The backend under test, and a client of the tests' own that looks from outside."""

    secret = "hush"
    backend_class: Any = RedisBackend
    client_class: Any = redis.Redis
    immediate = False
    absent: Any = NO_CANCEL

    def __init__(self) -> None:
        self.url = url_of("redis")
        self.outside = redis.Redis.from_url(self.url, decode_responses=True, retry=None)

    def close(self) -> None:
        for key in self.outside.scan_iter(match=f"{PREFIX}*", count=1000):
            self.outside.delete(key)
        self.outside.close()

    def backend(self) -> Any:
        parts = urlsplit(self.url)
        place = parts.netloc.rpartition("@")[2]
        netloc = parts.netloc if parts.password else f"default:{self.secret}@{place}"  # a default user takes any
        url = urlunsplit(parts._replace(netloc=netloc, query="client_name=" + NAME))
        return self.backend_class(url, immediate=self.immediate, decode_responses=True)

    def given(self) -> tuple[Any, Any]:
        client = self.client_class.from_url(self.url, decode_responses=True)
        return self.backend_class(client, immediate=self.immediate), client

    def dispose(self, client: Any) -> Any:
        return client.close()

    def unreachable(self) -> Any:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        return self.backend_class(f"redis://127.0.0.1:{port}/0", immediate=self.immediate)

    def write(self, value: Any, key: str, text: str) -> Any:
        value.after_commit.set(PREFIX + key, text)

    def read(self, value: Any, key: str) -> Any:
        return value.get(PREFIX + key)

    def look(self, key: str) -> str | None:
        return self.outside.get(PREFIX + key)  # type: ignore[return-value]

    def connections(self) -> tuple[int, int]:
        clients: Any = self.outside.client_list()
        found = [client for client in clients if client["name"] == NAME]
        return len(found), sum(client["multi"] != "-1" for client in found)


class AsyncRedisHost(RedisHost):
    is_async = True
    backend_class = AsyncRedisBackend
    client_class = redis.asyncio.Redis
    absent = NOTHING

    def dispose(self, client: Any) -> Any:
        return client.aclose()

    def slow(self, value: Any) -> Any:
        return value.xread({f"{PREFIX}stream": "$"}, block=60_000)


class ImmediateHost(RedisHost):
    immediate = True
    absent = NO_CANCEL | AT_ONCE

    def write(self, value: Any, key: str, text: str) -> Any:
        return value.set(PREFIX + key, text)


class AsyncImmediateHost(AsyncRedisHost):
    immediate = True
    absent = AT_ONCE

    def write(self, value: Any, key: str, text: str) -> Any:
        return value.set(PREFIX + key, text)


def closing(host: RedisHost) -> Iterator[Any]:
    try:
        yield host
    finally:
        host.close()


class TestRedis(BackendContract):
    @pytest.fixture
    def host(self) -> Iterator[Any]:
        yield from closing(RedisHost())


class TestAsyncRedis(BackendContract):
    @pytest.fixture
    def host(self) -> Iterator[Any]:
        yield from closing(AsyncRedisHost())


class TestImmediate(BackendContract):
    @pytest.fixture
    def host(self) -> Iterator[Any]:
        yield from closing(ImmediateHost())


class TestAsyncImmediate(BackendContract):
    @pytest.fixture
    def host(self) -> Iterator[Any]:
        yield from closing(AsyncImmediateHost())


# --- What is special to Redis -----------------------------------------------------------------------------------------


@pytest.fixture
def host() -> Iterator[Any]:
    yield from closing(RedisHost())


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


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_response_callback_ends_with_its_context(is_async: bool) -> None:
    """It is set on what services get, by `json` for one; the user's own client stays as it was."""
    host = AsyncRedisHost() if is_async else RedisHost()

    async def main() -> None:
        host.outside.set(f"{PREFIX}a", "tea")
        backend, client = host.given()
        bench = Bench(host, backend)
        before = dict(client.response_callbacks)
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

    host.run(main())
    host.close()


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


def test_reads_go_out_at_once(dm: Any, host: RedisHost) -> None:
    host.outside.set(f"{PREFIX}a", "tea")
    with dm.context(read_only=True) as ctx:
        cache = ctx.cache
        assert cache.get(f"{PREFIX}a") == "tea"
        assert cache.pipeline().get(f"{PREFIX}a").exists(f"{PREFIX}b").execute() == ["tea", 0]
        assert cache.transaction(lambda pipe: pipe.multi() or pipe.get(f"{PREFIX}a"), f"{PREFIX}a") == ["tea"]
        assert cache.execute_command("MEMORY", "USAGE", f"{PREFIX}a") > 0
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
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with manager.context() as ctx:
                ctx.cache.after_commit.set(f"{PREFIX}child", ctx.cache.get(f"{PREFIX}parent"))
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert host.look("child") == "1"
    with manager.context() as ctx:
        assert ctx.cache.get(f"{PREFIX}child") == "1"
    manager.close()
    client.close()


def test_how_it_is_set_up(host: RedisHost) -> None:
    with redis.Redis.from_url(host.url) as client:
        assert repr(RedisBackend(client, immediate=True)) == "RedisBackend(<given client>, immediate=True)"
        assert repr(AsyncRedisBackend("redis://:hush@one:1/2")) == "AsyncRedisBackend('redis://:***@one:1/2')"
        with pytest.raises(ConfigurationError, match="RedisBackend: decode_responses"):
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
