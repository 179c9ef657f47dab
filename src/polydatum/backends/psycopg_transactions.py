"""A connection of psycopg as a transaction of a context."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Generic, TypeVar
from weakref import ref

from psycopg import AsyncConnection, Connection, Rollback
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from polydatum.backends.postgresql import TRANSACTION_ID, awas_committed, was_committed
from polydatum.errors import CommitOutcomeUnknown, RollbackOnlyError
from polydatum.transactions import AsyncTransaction, Transaction

ConnectionT = TypeVar("ConnectionT", "Connection[Any]", "AsyncConnection[Any]")

ASK_TIMEOUT = 1.0
"""Seconds to wait for a new connection when asking what became of a commit: the teardown limit has room for two."""
DEAD = (TransactionStatus.INERROR, TransactionStatus.UNKNOWN)
"""States in which a commit fails silently: PostgreSQL answers it by a rollback, or psycopg has lost the server."""


class _Connected(Generic[ConnectionT]):
    """Common to the sync and the async transaction: the connection and its state."""

    value: ConnectionT

    def _begin_with(self, pool: Any, name: str, context: Any, resolve_unknown: bool) -> None:
        self._pool = pool
        self._name = name
        self._context = ref(context)
        self._read_only: bool = context.read_only
        self._resolve_unknown = resolve_unknown
        self._usual_read_only = self.value.read_only
        self._xid: str | None = None
        self._is_taken = True

    @property
    def _status(self) -> TransactionStatus:
        return self.value.info.transaction_status

    @property
    def _goes_on(self) -> bool:
        """Whether services may still use the connection: a ``ctx.nested()`` block that opened it was rolled back."""
        context = self._context()
        return context is not None and context.state == "open" and not self.value.closed

    def _cut_exchange(self, *, cancelled: bool = False) -> None:
        """Close a connection abandoned in the middle of an exchange; its ``close()`` may merely return it to the pool.

        A cancelled psycopg cancels the query on the server; that request may arrive late and hit the next query.
        """
        if self._status is TransactionStatus.ACTIVE or (cancelled and not self._goes_on):
            self.value.pgconn.finish()

    def refuse_dead(self) -> None:
        """Raise `RollbackOnlyError` if a commit would not keep the changes."""
        if self._status in DEAD:
            raise RollbackOnlyError(self._name)


class PsycopgSavepoint:
    """A psycopg transaction block nested in the context's own."""

    def __init__(self, transaction: PsycopgTransaction, block: AbstractContextManager[Any]) -> None:
        self._transaction = transaction
        self._block = block

    def release(self) -> None:
        """Keep the changes made since."""
        self._transaction.refuse_dead()
        self._block.__exit__(None, None, None)

    def rollback(self) -> None:
        """Undo the changes made since."""
        self._block.__exit__(Rollback, Rollback(), None)


class PsycopgTransaction(_Connected["Connection[Any]"], Transaction):
    """A pooled connection, in a block ``with connection.transaction()`` that lasts as long as the context."""

    def __init__(
        self,
        connection: Connection[Any],
        pool: ConnectionPool[Any],
        name: str,
        context: Any,
        resolve_unknown: bool,
    ) -> None:
        Transaction.__init__(self, connection)
        self._begin_with(pool, name, context, resolve_unknown)
        self._block: AbstractContextManager[Any] | None = None

    def begin(self) -> None:
        """BEGIN, as psycopg would before the first statement; as a block, so that services cannot commit."""
        if self._read_only:
            self.value.read_only = True
        block = self.value.transaction()
        block.__enter__()
        self._block = block

    def prepare(self) -> None:
        """Raise if the transaction cannot commit any more; with ``resolve_unknown``, query its id."""
        if not self._read_only:
            self.refuse_dead()
            if self._resolve_unknown:
                self._xid = self._ask_xid()

    def _ask_xid(self) -> str | None:
        with self.value.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute(TRANSACTION_ID).fetchone()
        return row[0] if row else None

    def wrote(self) -> bool:
        """Whether the transaction has written; exact."""
        return not self._read_only and self._ask_xid() is not None

    def commit(self) -> None:
        """Commit; a read-only transaction rolls back, as it has nothing to commit."""
        if self._read_only:
            self.rollback()
            return
        self.refuse_dead()  # psycopg leaves the block without an error if it knows that the connection is lost
        block, self._block = self._block, None
        assert block is not None
        try:
            block.__exit__(None, None, None)
        except Exception as error:
            if not self.value.closed:
                raise
            committed = self._was_committed() if self._resolve_unknown else None
            if committed is None:
                raise CommitOutcomeUnknown(self._name) from error
            if not committed:
                raise

    def _was_committed(self) -> bool | None:
        self.close()  # frees its place in the pool, which may be the only one
        return False if self._xid is None else was_committed(self._xid, self._ask_anew)

    def _ask_anew(self, statement: str) -> object:
        with self._pool.connection(ASK_TIMEOUT) as connection, connection.cursor(row_factory=tuple_row) as cursor:
            return cursor.execute(statement).fetchone()[-1]

    def rollback(self) -> None:
        """Roll back, and begin again if services may still use the connection."""
        block, self._block = self._block, None
        if block is None:
            return
        self._cut_exchange()
        block.__exit__(Rollback, Rollback(), None)
        if self._goes_on:
            self.begin()

    def close(self) -> None:
        """Return the connection to the pool with its original settings; the pool replaces a lost one."""
        if not self._is_taken:
            return
        self._is_taken = False
        if self._status is not TransactionStatus.IDLE:
            self.value.pgconn.finish()
        elif self._read_only:
            self.value.read_only = self._usual_read_only
        self._pool.putconn(self.value)

    def savepoint(self) -> PsycopgSavepoint:
        """Set a savepoint."""
        block = self.value.transaction()
        block.__enter__()
        return PsycopgSavepoint(self, block)


class AsyncPsycopgSavepoint:
    """The async twin of `PsycopgSavepoint`."""

    def __init__(self, transaction: AsyncPsycopgTransaction, block: AbstractAsyncContextManager[Any]) -> None:
        self._transaction = transaction
        self._block = block

    async def release(self) -> None:
        """As `PsycopgSavepoint.release`."""
        self._transaction.refuse_dead()
        await self._block.__aexit__(None, None, None)

    async def rollback(self) -> None:
        """As `PsycopgSavepoint.rollback`."""
        await self._block.__aexit__(Rollback, Rollback(), None)


class AsyncPsycopgTransaction(_Connected["AsyncConnection[Any]"], AsyncTransaction):
    """The async twin of `PsycopgTransaction`."""

    def __init__(
        self,
        connection: AsyncConnection[Any],
        pool: AsyncConnectionPool[Any],
        name: str,
        context: Any,
        resolve_unknown: bool,
    ) -> None:
        AsyncTransaction.__init__(self, connection)
        self._begin_with(pool, name, context, resolve_unknown)
        self._block: AbstractAsyncContextManager[Any] | None = None

    async def begin(self) -> None:
        """As `PsycopgTransaction.begin`."""
        if self._read_only:
            await self.value.set_read_only(True)
        block = self.value.transaction()
        await block.__aenter__()
        self._block = block

    async def prepare(self) -> None:
        """As `PsycopgTransaction.prepare`."""
        if not self._read_only:
            self.refuse_dead()
            if self._resolve_unknown:
                self._xid = await self._ask_xid()

    async def _ask_xid(self) -> str | None:
        async with self.value.cursor(row_factory=tuple_row) as cursor:
            row = await (await cursor.execute(TRANSACTION_ID)).fetchone()
        return row[0] if row else None

    async def wrote(self) -> bool:
        """As `PsycopgTransaction.wrote`."""
        return not self._read_only and await self._ask_xid() is not None

    async def commit(self) -> None:
        """As `PsycopgTransaction.commit`."""
        if self._read_only:
            await self.rollback()
            return
        self.refuse_dead()
        block, self._block = self._block, None
        assert block is not None
        try:
            await block.__aexit__(None, None, None)
        except Exception as error:
            if not self.value.closed:
                raise
            committed = await self._was_committed() if self._resolve_unknown else None
            if committed is None:
                raise CommitOutcomeUnknown(self._name) from error
            if not committed:
                raise

    async def _was_committed(self) -> bool | None:
        await self.close()
        if self._xid is None:
            return False
        # In a separate task: from Python 3.12 on, timeouts work by cancelling the task, and cancels of this one are
        # held off at the end of a context.
        asking = asyncio.create_task(awas_committed(self._xid, self._ask_anew))
        try:
            return await asking
        finally:
            asking.cancel()

    async def _ask_anew(self, statement: str) -> object:
        async with self._pool.connection(ASK_TIMEOUT) as connection, connection.cursor(row_factory=tuple_row) as cursor:
            return (await (await cursor.execute(statement)).fetchone())[-1]

    async def rollback(self) -> None:
        """As `PsycopgTransaction.rollback`."""
        block, self._block = self._block, None
        if block is None:
            return
        task = asyncio.current_task()
        self._cut_exchange(cancelled=task is not None and task.cancelling() > 0)
        await block.__aexit__(Rollback, Rollback(), None)
        if self._goes_on:
            await self.begin()

    async def close(self) -> None:
        """As `PsycopgTransaction.close`."""
        if not self._is_taken:
            return
        self._is_taken = False
        if self._status is not TransactionStatus.IDLE:
            self.value.pgconn.finish()
        elif self._read_only:
            await self.value.set_read_only(self._usual_read_only)
        await self._pool.putconn(self.value)

    async def savepoint(self) -> AsyncPsycopgSavepoint:
        """As `PsycopgTransaction.savepoint`."""
        block = self.value.transaction()
        await block.__aenter__()
        return AsyncPsycopgSavepoint(self, block)
