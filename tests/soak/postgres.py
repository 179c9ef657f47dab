"""PostgreSQL by pools of psycopg, until `polydatum.backends.psycopg` is there."""

from __future__ import annotations

from typing import Any

from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from polydatum import RollbackOnlyError
from polydatum.backends import AsyncBackend, AsyncTransaction, Backend, Transaction


class _Transaction(Transaction):
    def __init__(self, pool: Any, connection: Any, name: str) -> None:
        super().__init__(connection)
        self.pool = pool
        self.name = name

    def prepare(self) -> None:
        if self.value.info.transaction_status == TransactionStatus.INERROR:
            raise RollbackOnlyError(self.name)

    def commit(self) -> None:
        self.value.commit()

    def rollback(self) -> None:
        self.value.rollback()

    def close(self) -> None:
        self.pool.putconn(self.value)


class _AsyncTransaction(AsyncTransaction):
    def __init__(self, pool: Any, connection: Any, name: str) -> None:
        super().__init__(connection)
        self.pool = pool
        self.name = name

    async def prepare(self) -> None:
        if self.value.info.transaction_status == TransactionStatus.INERROR:
            raise RollbackOnlyError(self.name)

    async def commit(self) -> None:
        await self.value.commit()

    async def rollback(self) -> None:
        await self.value.rollback()

    async def close(self) -> None:
        await self.pool.putconn(self.value)


class PsycopgBackend(Backend[Any]):
    def __init__(self, url: str, **options: Any) -> None:
        super().__init__()
        self.url = url
        self.options = options

    def connect(self) -> Any:
        return ConnectionPool(self.url, open=True, **self.options)

    def disconnect(self, client: Any) -> None:
        client.close()

    def begin(self, context: Any, client: Any, name: str) -> Transaction:
        return _Transaction(client, client.getconn(), name)

    def ping(self, client: Any) -> None:
        with client.connection() as connection:
            connection.execute("SELECT 1")


class AsyncPsycopgBackend(AsyncBackend[Any]):
    def __init__(self, url: str, **options: Any) -> None:
        super().__init__()
        self.url = url
        self.options = options

    async def connect(self) -> Any:
        pool: Any = AsyncConnectionPool(self.url, open=False, **self.options)
        await pool.open()
        return pool

    async def disconnect(self, client: Any) -> None:
        await client.close()

    async def begin(self, context: Any, client: Any, name: str) -> AsyncTransaction:
        return _AsyncTransaction(client, await client.getconn(), name)

    async def ping(self, client: Any) -> None:
        async with client.connection() as connection:
            await connection.execute("SELECT 1")
