"""Psycopg as a resource: services get a pooled connection, in a transaction that ends with the context."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from polydatum.backends.sources import given_client
from polydatum.clients import AsyncBackend, Backend
from polydatum.errors import MissingClientError

try:
    from psycopg import AsyncConnection, Connection, OperationalError
    from psycopg.conninfo import conninfo_to_dict
    from psycopg_pool import AsyncConnectionPool, ConnectionPool
except ImportError as error:
    raise MissingClientError("PsycopgBackend", "psycopg", "psycopg") from error

from polydatum.backends.psycopg_connections import DEAD, IDLE, UNKNOWN
from polydatum.backends.psycopg_transactions import AsyncPsycopgTransaction, PsycopgTransaction

T = TypeVar("T")
PoolT = TypeVar("PoolT", "ConnectionPool[Any]", "AsyncConnectionPool[Any]")

POOL_DEFAULTS: dict[str, Any] = {"min_size": 0, "max_size": 10, "timeout": 5.0}
"""Options of a pool made from a URL: connects on demand only, and fails soon if no connection is available."""


class _Pools(Generic[PoolT]):
    """Common to the sync and the async backend: a pool, or how to create it."""

    def __init__(self, source: object, options: dict[str, Any], resolve_unknown: bool) -> None:
        self._conninfo = source if isinstance(source, str) else None
        self._shown = conninfo_to_dict(self._conninfo) if self._conninfo is not None else None
        self._options = POOL_DEFAULTS | options
        self._resolve_unknown = resolve_unknown
        opened: Any = None if self._conninfo is not None else source
        if opened is not None and not opened.closed:
            # A forked child has neither its threads nor its connections, even if we have not used it.
            self._process: int | None = os.getpid()

    def _repr(self, client: Any) -> str:
        if self._shown is None:
            return f"{type(self).__name__}(pool {client.name!r})"
        shown = {key: self._shown.get(key) or "" for key in ("user", "host", "port", "dbname")}
        place = f"{shown['host']}:{shown['port']}" if shown["port"] else shown["host"]
        user = f"{shown['user']}{':***' if 'password' in self._shown else ''}@" if shown["user"] else ""
        return f"{type(self).__name__}(postgresql://{user}{place}/{shown['dbname']})"


class PsycopgBackend(_Pools["ConnectionPool[Any]"], Backend["ConnectionPool[Any]"]):
    """Connections of a psycopg pool: ``dm.register_resources(pg=PsycopgBackend("postgresql://127.0.0.1/shop"))``.

    Services get a real `psycopg.Connection`, one per context, taken from the pool and in a transaction from the first
    touch on. It commits when the context closes, and rolls back if the context ends otherwise. Until then psycopg
    refuses ``commit()`` and ``rollback()``, and ``with connection.transaction():`` is a savepoint. Afterwards the
    connection object is dead: a task or thread that still uses it gets `ContextClosedError`. Works in sync contexts,
    and in async ones, where it blocks. `DataManager.get_client` returns the pool.

    Args:
        source: a URL or conninfo; or an open pool of your own, which is never closed, and cannot be used in a process
            forked from the one that opened it.
        resolve_unknown: query the transaction's id before the commit, at the price of one exchange. If the connection
            is lost during the commit, another connection asks the server whether the transaction committed.
        options: passed on to ``psycopg_pool.ConnectionPool``, with a URL; by default `POOL_DEFAULTS`.

    Raises:
        ConfigurationError: if the source is something else, or if options are given along with a pool.
        psycopg_pool.PoolTimeout: at the first touch, if no connection becomes available in time.
        RollbackOnlyError: when the context closes, if an SQL error was swallowed outside of a savepoint, if the
            connection was lost before the commit, or if a service executed COMMIT or ROLLBACK as SQL.
        ResourceTimeoutError: when the context closes, if a statement of a task or thread is still running after half of
            the teardown limit.
        CommitOutcomeUnknown: when the context closes, if the connection was lost during the commit.
        psycopg.Error: any other error of psycopg, unchanged.
    """

    def __init__(self, source: str | ConnectionPool[Any], *, resolve_unknown: bool = False, **options: Any) -> None:
        Backend.__init__(self, given_client(self, source, options, ConnectionPool, what="pool"))
        _Pools.__init__(self, source, options, resolve_unknown)

    def __repr__(self) -> str:
        return self._repr(self._given)

    def connect(self) -> ConnectionPool[Any]:
        """Create the pool and start its threads; it connects on demand."""
        assert self._conninfo is not None
        pool: ConnectionPool[Any] = ConnectionPool(self._conninfo, open=False, **self._options)
        pool.open()
        return pool

    def disconnect(self, client: ConnectionPool[Any]) -> None:
        """Close the pool."""
        client.close()

    def begin(self, context: Any, client: ConnectionPool[Any], name: str) -> PsycopgTransaction:
        """Take a connection and begin a transaction."""

        def begun(connection: Connection[Any]) -> PsycopgTransaction:
            transaction = PsycopgTransaction(connection, client, name, context, self._resolve_unknown)
            try:
                transaction.begin()
            except BaseException:
                transaction.close()
                raise
            return transaction

        return _over_live(client, begun)

    def ping(self, client: ConnectionPool[Any]) -> None:
        """``SELECT 1``."""

        def ask(connection: Connection[Any]) -> None:
            try:
                with connection:
                    connection.execute("SELECT 1")
            finally:
                client.putconn(connection)

        _over_live(client, ask)


def _is_in_use(connection: Any) -> bool:
    """Whether a pooled connection is in a transaction, of code that still holds it; if so, the pool has to replace it.

    Our block would only be a savepoint in that transaction.
    """
    if connection.pgconn.transaction_status in (IDLE, UNKNOWN):
        return False
    connection.pgconn = DEAD
    return True


def _over_live(pool: ConnectionPool[Any], begin: Callable[[Connection[Any]], T]) -> T:
    """Begin something on a connection of the pool, and retry with the next one if the connection turns out to be lost.

    After a restart of the server all of them are. The retry is safe, as nothing was done on the connection. ``begin``
    returns its connection to the pool if it raises.
    """
    lost = pool.max_size  # the pool can hold no more lost ones
    while True:
        connection = pool.getconn()
        if _is_in_use(connection) and lost:
            pool.putconn(connection)
            lost -= 1
            continue
        try:
            return begin(connection)
        except OperationalError:
            if not (connection.closed and lost):
                raise
            lost -= 1


class AsyncPsycopgBackend(_Pools["AsyncConnectionPool[Any]"], AsyncBackend["AsyncConnectionPool[Any]"]):
    """The async twin of `PsycopgBackend`: services get an `AsyncConnection`, ``connection = await self._ctx.pg``.

    Args:
        source: a URL or conninfo; or an open ``AsyncConnectionPool`` of your own.
        resolve_unknown: as in `PsycopgBackend`.
        options: passed on to ``psycopg_pool.AsyncConnectionPool``, with a URL.
    """

    def __init__(
        self, source: str | AsyncConnectionPool[Any], *, resolve_unknown: bool = False, **options: Any
    ) -> None:
        AsyncBackend.__init__(self, given_client(self, source, options, AsyncConnectionPool, what="pool"))
        _Pools.__init__(self, source, options, resolve_unknown)

    def __repr__(self) -> str:
        return self._repr(self._given)

    async def connect(self) -> AsyncConnectionPool[Any]:
        """As `PsycopgBackend.connect`."""
        assert self._conninfo is not None
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(self._conninfo, open=False, **self._options)
        await pool.open()
        return pool

    async def disconnect(self, client: AsyncConnectionPool[Any]) -> None:
        """As `PsycopgBackend.disconnect`."""
        await client.close()

    async def begin(self, context: Any, client: AsyncConnectionPool[Any], name: str) -> AsyncPsycopgTransaction:
        """As `PsycopgBackend.begin`."""

        async def begun(connection: AsyncConnection[Any]) -> AsyncPsycopgTransaction:
            transaction = AsyncPsycopgTransaction(connection, client, name, context, self._resolve_unknown)
            try:
                await transaction.begin()
            except BaseException:
                await transaction.close()
                raise
            return transaction

        return await _aover_live(client, begun)

    async def ping(self, client: AsyncConnectionPool[Any]) -> None:
        """As `PsycopgBackend.ping`."""

        async def ask(connection: AsyncConnection[Any]) -> None:
            try:
                async with connection:
                    await connection.execute("SELECT 1")
            finally:
                await client.putconn(connection)

        await _aover_live(client, ask)


async def _aover_live(pool: AsyncConnectionPool[Any], begin: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> T:
    """The async twin of `_over_live`."""
    lost = pool.max_size
    while True:
        connection = await pool.getconn()
        if _is_in_use(connection) and lost:
            await pool.putconn(connection)
            lost -= 1
            continue
        try:
            return await begin(connection)
        except OperationalError:
            if not (connection.closed and lost):
                raise
            lost -= 1
