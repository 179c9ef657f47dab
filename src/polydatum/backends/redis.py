"""Redis and Valkey through redis-py: reads are sent at once, writes are queued until the authority has committed.

A write that was sent cannot be undone, so none is sent while the context's outcome is open: services queue writes with
``cache.after_commit``, or the whole resource is declared non-transactional by ``immediate=True``.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from polydatum.clients import AsyncBackend, Backend
from polydatum.errors import MissingClientError
from polydatum.transactions import AsyncTransaction, Transaction

from .redis_commands import Admission, ImmediateWriteError, Judged, JudgedClient, Queued
from .sources import given_client, shown_url

try:
    import redis.asyncio
    from redis.asyncio.client import Pipeline as AsyncPipeline
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.client import Pipeline
    from redis.retry import Retry
except ImportError as error:
    raise MissingClientError("RedisBackend", "redis", "redis") from error

__all__ = [
    "AsyncContextRedis",
    "AsyncRedisBackend",
    "ContextRedis",
    "ImmediateWriteError",
    "RedisBackend",
]

ClientT = TypeVar("ClientT")

# Up to redis-py 5.2 get_connection() requires the command's name; later versions warn if it is given.
_PURPOSE: tuple[str, ...] = ("MULTI",) if redis.VERSION < (5, 3) else ()


class _Clients(Generic[ClientT]):
    """Common to the sync and the async backend: a client, or how to create it."""

    _kind: type[Any]

    def __init__(self, source: str | ClientT, *, immediate: bool = False, **options: Any) -> None:
        backend: Any = super()
        backend.__init__(given_client(self, source, options, self._kind))
        self._url = source if isinstance(source, str) else None
        self._immediate = immediate
        self._options = options

    def __repr__(self) -> str:
        source = "<given client>" if self._url is None else repr(shown_url(self._url))
        return f"{type(self).__name__}({source}{', immediate=True' if self._immediate else ''})"


# --- Sync -------------------------------------------------------------------------------------------------------------


class _JudgedPipeline(Judged, Pipeline):
    pass


class _AfterCommit(Queued, Pipeline):
    def __exit__(self, *raised: object) -> None:
        """Nothing: leaving a ``with`` block must not drop the queue."""

    def connect(self) -> None:
        """Take a connection, if anything is queued, so that an unreachable server is noticed before the commit."""
        if self.command_stack:
            self.connection = self.connection_pool.get_connection(*_PURPOSE)

    def send(self) -> None:
        super(Queued, self).execute()


class _SentOnce:
    """The pool behind ``after_commit``: its connections do not resend commands that may already have been executed.

    A client with ``retry``, as `redis.Redis()` has by default, repeats a pipeline whose reply got lost. Only connecting
    is still retried.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._retry: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def get_connection(self, *args: Any, **options: Any) -> Any:
        connection = self._pool.get_connection(*args, **options)
        self._retry, connection.retry = connection.retry, Retry(NoBackoff(), 0)
        return connection

    def release(self, connection: Any) -> None:
        connection.retry = self._retry
        self._pool.release(connection)


class ContextRedis(JudgedClient, redis.Redis):
    """What services get: a `redis.Redis` on the shared pool, for as long as the context is open.

    Attributes:
        after_commit: a redis-py pipeline (MULTI/EXEC). Its commands are sent once, when the context has committed, and
            dropped when it rolls back; a rollback of ``ctx.nested()`` drops those of its block. It returns no replies.
            If the server cannot be reached before the commit, the context rolls back. If sending fails later, the error
            is logged and kept in ``ctx.outcome.errors``, and the answer stands.
    """

    after_commit: Pipeline
    _pipeline_class = _JudgedPipeline


class _RedisTransaction(Transaction):
    kind = "effect"

    def __init__(self, client: redis.Redis, admission: Admission) -> None:
        self._admission = admission
        self._queue: _AfterCommit = _queue(_AfterCommit, _SentOnce, client, admission)
        super().__init__(_view(ContextRedis, client, self._queue))
        self.savepoint = self._queue.savepoint

    def prepare(self) -> None:
        self._queue.connect()

    def commit(self) -> None:
        self._admission.over = True
        self._queue.send()

    def rollback(self) -> None:
        self._queue.reset()

    def close(self) -> None:
        self._admission.over = True
        self._queue.reset()


class RedisBackend(_Clients[redis.Redis], Backend[redis.Redis]):
    """Redis or Valkey, as an effect: services read at once, and queue writes for after the commit.

    Services get a `ContextRedis`. A write that would be sent before the commit raises `ImmediateWriteError`; in a
    context with ``read_only=True`` every write raises `ReadOnlyError`, queued or not. A client of your own may be used
    in a forked child, since redis-py's pools detect the fork.

    Args:
        source: a URL, or a `redis.Redis` of your own, which is never closed.
        immediate: writes may be sent at once, and stay when the context rolls back.
        options: passed on to `redis.Redis.from_url`, with a URL: for example ``decode_responses=True``.

    Raises:
        ConfigurationError: if the source is something else, or if options are given along with a client.
        ImmediateWriteError: on a write that would be sent before the commit.
        ReadOnlyError: on any write in a read-only context.
        redis.RedisError: any other error of redis-py, unchanged; for queued commands see `ContextRedis`.

    Example:
        >>> RedisBackend("redis://ann:secret@127.0.0.1:6379/0")
        RedisBackend('redis://ann:***@127.0.0.1:6379/0')
    """

    _kind = redis.Redis

    def connect(self) -> redis.Redis:
        """Create the client and its pool, which connects on the first command."""
        return redis.Redis.from_url(str(self._url), **self._options)

    def disconnect(self, client: redis.Redis) -> None:
        """Close the pool and its connections."""
        client.close()

    def renew(self, client: redis.Redis, name: str) -> None:
        """Nothing: redis-py's pools make new connections in a forked child."""

    def begin(self, context: Any, client: redis.Redis, name: str) -> Transaction:
        """An effect whose value is a `ContextRedis`; takes no connection yet."""
        return _RedisTransaction(client, Admission(name, read_only=context.read_only, immediate=self._immediate))

    def ping(self, client: redis.Redis) -> None:
        """PING, with the client's own retries."""
        client.ping()


# --- Async ------------------------------------------------------------------------------------------------------------


class _JudgedAsyncPipeline(Judged, AsyncPipeline):  # type: ignore[misc]  # as below
    pass


class _AsyncAfterCommit(Queued, AsyncPipeline):  # type: ignore[misc]  # as below
    async def __aexit__(self, *raised: object) -> None:
        """As in `_AfterCommit`."""

    async def connect(self) -> None:
        """As in `_AfterCommit`."""
        if self.command_stack:
            pool: Any = self.connection_pool
            self.connection = await pool.get_connection(*_PURPOSE)

    async def send(self) -> None:
        await super(Queued, self).execute()


class _AsyncSentOnce(_SentOnce):
    async def get_connection(self, *args: Any, **options: Any) -> Any:
        connection = await self._pool.get_connection(*args, **options)
        self._retry, connection.retry = connection.retry, AsyncRetry(NoBackoff(), 0)
        return connection

    async def release(self, connection: Any) -> None:  # type: ignore[override]
        connection.retry = self._retry
        await self._pool.release(connection)


class AsyncContextRedis(JudgedClient, redis.asyncio.Redis):  # type: ignore[misc]  # redis-py contradicts itself
    """The async twin of `ContextRedis`: a `redis.asyncio.Redis`. Queueing with ``after_commit`` needs no await."""

    after_commit: AsyncPipeline
    _pipeline_class = _JudgedAsyncPipeline


class _AsyncRedisTransaction(AsyncTransaction):
    kind = "effect"

    def __init__(self, client: redis.asyncio.Redis, admission: Admission) -> None:
        self._admission = admission
        self._queue: _AsyncAfterCommit = _queue(_AsyncAfterCommit, _AsyncSentOnce, client, admission)
        super().__init__(_view(AsyncContextRedis, client, self._queue))
        self.savepoint = self._queue.savepoint

    async def prepare(self) -> None:
        await self._queue.connect()

    async def commit(self) -> None:
        self._admission.over = True
        await self._queue.send()

    async def rollback(self) -> None:
        await self._queue.reset()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        self._admission.over = True
        await self._queue.reset()  # type: ignore[no-untyped-call]


class AsyncRedisBackend(_Clients[redis.asyncio.Redis], AsyncBackend[redis.asyncio.Redis]):
    """The async twin of `RedisBackend`: services await the resource and get an `AsyncContextRedis`.

    A cancelled command closes its connection. On Python 3.11 redis-py may swallow the cancel: the context then notices it
    at its end, rolls back and raises it. A client that was used before a fork is refused in the child.

    Args:
        source: a URL, or a `redis.asyncio.Redis` of your own, which is never closed.
        immediate: as for `RedisBackend`.
        options: passed on to `redis.asyncio.Redis.from_url`, with a URL.

    Raises:
        ConfigurationError: as from `RedisBackend`.
    """

    _kind = redis.asyncio.Redis

    async def connect(self) -> redis.asyncio.Redis:
        """As `RedisBackend.connect`."""
        return redis.asyncio.Redis.from_url(str(self._url), **self._options)

    async def disconnect(self, client: redis.asyncio.Redis) -> None:
        """As `RedisBackend.disconnect`."""
        await client.aclose()

    async def begin(self, context: Any, client: redis.asyncio.Redis, name: str) -> AsyncTransaction:
        """As `RedisBackend.begin`."""
        return _AsyncRedisTransaction(client, Admission(name, read_only=context.read_only, immediate=self._immediate))

    async def ping(self, client: redis.asyncio.Redis) -> None:
        """As `RedisBackend.ping`."""
        await client.ping()


# --- Both -------------------------------------------------------------------------------------------------------------


def _queue(queue_class: Any, pool_class: type[_SentOnce], client: Any, admission: Admission) -> Any:
    """The pipeline behind ``after_commit``, with a copy of the callbacks: setting one affects this context only."""
    callbacks = client.response_callbacks
    kind: Any = type(callbacks)
    own = kind.__new__(kind)
    dict.update(own, callbacks)  # the constructor would normalize the case of each key again, which takes 50 us
    queue = queue_class(pool_class(client.connection_pool), own, True, None)
    queue._admission = admission
    return queue


def _view(view_class: Any, client: Any, queue: Any) -> Any:
    """Another client on the same pool, which it does not own; built by hand, as the constructor takes 80 us."""
    made = view_class.__new__(view_class)
    vars(made).update(vars(client))
    made.response_callbacks = queue.response_callbacks
    made.connection = None
    made.single_connection_client = made.auto_close_connection_pool = False
    made._admission = queue._admission
    made.after_commit = queue
    return made
