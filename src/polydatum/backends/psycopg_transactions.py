"""A connection of psycopg as a transaction of a context."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from threading import Lock
from typing import Any, Generic, TypeVar
from weakref import ref

import psycopg
from psycopg import AsyncConnection, Connection, Error, OperationalError, Rollback, capabilities
from psycopg.rows import tuple_row
from psycopg.transaction import OutOfOrderTransactionNesting
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from polydatum.backends.postgresql import TRANSACTION_ID, awas_committed, was_committed
from polydatum.backends.psycopg_connections import (
    ACTIVE,
    DEAD,
    IDLE,
    INERROR,
    UNKNOWN,
    AsyncContextConnection,
    AsyncGuard,
    ContextConnection,
    Loan,
    SyncGuard,
)
from polydatum.errors import AlreadyCommittedError, CommitOutcomeUnknown, ResourceTimeoutError, RollbackOnlyError
from polydatum.transactions import AsyncTransaction, Transaction

ConnectionT = TypeVar("ConnectionT", "Connection[Any]", "AsyncConnection[Any]")
GuardT = TypeVar("GuardT", SyncGuard, AsyncGuard)

ASK_TIMEOUT = 1.0
"""How many seconds a query for a commit's outcome waits for a connection; the teardown limit has room for two."""
CANCEL_TIMEOUT = 1.0
"""How many seconds it may take to ask the server to cancel a running statement."""


class _Connected(Generic[ConnectionT, GuardT]):
    """Common to the sync and the async transaction.

    Services get ``value``, the context's own connection object. The transaction begins and ends on the pool's object,
    which nobody else has, so that it does not depend on the state in which services leave theirs, such as psycopg's
    lock.
    """

    value: Any
    _connection: ConnectionT
    _guard: GuardT
    _block: Any

    def _begin_with(self, connection: ConnectionT, guard: GuardT, pool: Any, name: str, context: Any) -> None:
        self._connection = connection
        self._guard = guard
        self._pool = pool
        self._name = name
        self._context = ref(context)
        self._limit: float = context._limit
        self._read_only: bool = context.read_only
        self._loan = Loan(connection)
        self._usual_read_only = connection.read_only
        self._xid: str | None = None
        self._is_taken = True

    @property
    def _status(self) -> int:
        status: int = self._connection.pgconn.transaction_status
        return status

    @property
    def _goes_on(self) -> bool:
        """Whether services may still use the connection: a ``ctx.nested()`` block that opened it was rolled back."""
        context = self._context()
        return context is not None and context.state == "open" and not self.value.closed

    @property
    def _is_ended(self) -> bool:
        """Whether a service has ended the transaction; only SQL can, as psycopg's methods refuse it."""
        return self._guard.saw_no_transaction or (self._block is not None and self._status == IDLE)

    @property
    def has_committed(self) -> bool:
        """Whether a service may have committed: it has executed COMMIT or ROLLBACK, and which of the two is not known."""
        return self._is_ended

    def refuse_dead(self) -> None:
        """Raise `RollbackOnlyError` if a commit would not keep what was done."""
        # After an error, PostgreSQL answers COMMIT by a silent rollback; on a lost connection psycopg raises nothing.
        if self._status in (INERROR, UNKNOWN):
            raise RollbackOnlyError(self._name)
        if self._is_ended:
            raise RollbackOnlyError(self._name, ended=True)

    def _refuse_unfinished(self) -> None:
        """Raise if a service, or a task or thread of it, is in the middle of an operation or a block."""
        if self._status == ACTIVE or self._connection.pgconn.pipeline_status:
            raise OperationalError("the context ends in the middle of a COPY, a stream or a pipeline")
        if self.value._num_transactions != 1:
            raise OutOfOrderTransactionNesting("the context ends in a block of connection.transaction()")

    def _refuse_uncommitted(self) -> None:
        """Raise if the server answered the commit, and the connection is still in a transaction."""
        if self._status not in (IDLE, UNKNOWN):
            raise CommitOutcomeUnknown(self._name)

    def _has_ended_use(self, has_left: bool) -> None:
        """Cut the context's connection object off from the server."""
        if not has_left:
            self._guard.leave_behind(self._connection.pgconn)
            self._connection.pgconn = DEAD
            self._block = None
        self.value.pgconn = DEAD

    def _refuse_given_up(self) -> None:
        """Raise if a statement has used up half of the limit; the other half is for the rollback."""
        if self._guard.gives_up:
            raise ResourceTimeoutError(f"waiting for a statement over resource {self._name!r}", self._limit)

    def _is_cancellable(self) -> bool:
        """Whether a statement is still running, and libpq can cancel it within a time limit."""
        return self._status == ACTIVE and capabilities.has_cancel_safe()


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


class PsycopgTransaction(_Connected["Connection[Any]", SyncGuard], Transaction):
    """A pooled connection, in a psycopg transaction block that lasts as long as the context."""

    def __init__(
        self,
        connection: Connection[Any],
        pool: ConnectionPool[Any],
        name: str,
        context: Any,
        resolve_unknown: bool,
    ) -> None:
        Transaction.__init__(self, None)
        self._begin_with(connection, SyncGuard(name, ref(context)), pool, name, context)
        self._resolve_unknown = resolve_unknown
        self._block: psycopg.Transaction | None = None

    def begin(self) -> None:
        """BEGIN, as psycopg would before the first statement, but as a block, so that services cannot commit."""
        if self._read_only:
            self._connection.read_only = True
        self._begin_block()
        self.value = self._loan.made_for(self._guard, ContextConnection, Lock())

    def _begin_block(self) -> None:
        block = psycopg.Transaction(self._connection)
        block.__enter__()
        self._block = block

    def _roll_back_block(self) -> None:
        block, self._block = self._block, None
        if block is not None:
            block.__exit__(Rollback, Rollback(), None)

    def prepare(self) -> None:
        """Refuse new statements, wait for the one under way, and raise if the transaction cannot commit."""
        self._end_use(patience=self._limit / 2)
        self._refuse_given_up()
        if not self._read_only:
            self.refuse_dead()
            self._refuse_unfinished()
            if self._resolve_unknown:
                self._xid = self._ask_xid()

    def _end_use(self, patience: float = 0) -> None:
        if self.value is not None and not self._guard.is_closed:
            self._has_ended_use(self._guard.end(patience))

    def _ask_xid(self) -> str | None:
        with self._connection.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute(TRANSACTION_ID).fetchone()
        return row[0] if row else None

    def wrote(self) -> bool:
        """Whether the transaction has written; exact."""
        return not self._read_only and self._ask_xid() is not None

    def commit(self) -> None:
        """Commit; a read-only transaction rolls back, as it has nothing to commit."""
        if self._read_only:
            self._roll_back()
            return
        self.refuse_dead()  # psycopg leaves the block without an error if it knows that the connection is lost
        block, self._block = self._block, None
        assert block is not None
        try:
            block.__exit__(None, None, None)
        except Exception as error:
            if not self._connection.closed:
                raise
            committed = self._was_committed() if self._resolve_unknown else None
            if committed is None:
                raise CommitOutcomeUnknown(self._name) from error
            if not committed:
                raise
        self._refuse_uncommitted()

    def _was_committed(self) -> bool | None:
        self.close()  # frees its place in the pool, which may have no other
        return False if self._xid is None else was_committed(self._xid, self._ask_anew)

    def _ask_anew(self, statement: str) -> object:
        with self._pool.connection(ASK_TIMEOUT) as connection, connection.cursor(row_factory=tuple_row) as cursor:
            return cursor.execute(statement).fetchone()[-1]

    def rollback(self) -> None:
        """Roll back, and begin a new transaction if services may go on."""
        if self._block is None:
            return
        self._guard.saw_no_transaction = is_ended = self._is_ended
        self._roll_back()
        if is_ended:
            raise AlreadyCommittedError(self._name)

    def _roll_back(self) -> None:
        if self._goes_on and self._status != ACTIVE:
            with self._guard.exchange:
                self._roll_back_block()
                self._begin_block()
            return
        self._end_use()
        if self._status == ACTIVE:
            self._cut()
        self._roll_back_block()

    def _cut(self) -> None:
        """Close the connection to the server in the middle of an exchange: psycopg's ``close()`` may only return it to its pool."""
        if self._is_cancellable():
            with suppress(Error):
                self._connection.cancel_safe(timeout=CANCEL_TIMEOUT)
        self._connection.pgconn.finish()

    def close(self) -> None:
        """Return the connection to the pool with its original settings; the pool replaces a lost one."""
        if not self._is_taken:
            return
        self._is_taken = False
        self._end_use()
        connection = self._connection
        if self._status != IDLE or connection.pgconn.pipeline_status:
            self._cut()
        elif self._read_only:
            connection.read_only = self._usual_read_only
        self._loan.returned()
        self._pool.putconn(connection)

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


class AsyncPsycopgTransaction(_Connected["AsyncConnection[Any]", AsyncGuard], AsyncTransaction):
    """The async twin of `PsycopgTransaction`."""

    def __init__(
        self,
        connection: AsyncConnection[Any],
        pool: AsyncConnectionPool[Any],
        name: str,
        context: Any,
        resolve_unknown: bool,
    ) -> None:
        AsyncTransaction.__init__(self, None)
        self._begin_with(connection, AsyncGuard(name, ref(context)), pool, name, context)
        self._resolve_unknown = resolve_unknown
        self._block: psycopg.AsyncTransaction | None = None

    async def begin(self) -> None:
        """As `PsycopgTransaction.begin`."""
        if self._read_only:
            await self._connection.set_read_only(True)
        await self._begin_block()
        self.value = self._loan.made_for(self._guard, AsyncContextConnection, asyncio.Lock())

    async def _begin_block(self) -> None:
        block = psycopg.AsyncTransaction(self._connection)
        await block.__aenter__()
        self._block = block

    async def _roll_back_block(self) -> None:
        block, self._block = self._block, None
        if block is not None:
            await block.__aexit__(Rollback, Rollback(), None)

    async def prepare(self) -> None:
        """As `PsycopgTransaction.prepare`."""
        await self._end_use(patience=self._limit / 2)
        self._refuse_given_up()
        if not self._read_only:
            self.refuse_dead()
            self._refuse_unfinished()
            if self._resolve_unknown:
                self._xid = await self._ask_xid()

    async def _end_use(self, patience: float = 0) -> None:
        if self.value is not None and not self._guard.is_closed:
            has_left = False
            try:
                has_left = await self._guard.end(patience)
            finally:  # even if the time is used up
                self._has_ended_use(has_left)

    async def _ask_xid(self) -> str | None:
        async with self._connection.cursor(row_factory=tuple_row) as cursor:
            row = await (await cursor.execute(TRANSACTION_ID)).fetchone()
        return row[0] if row else None

    async def wrote(self) -> bool:
        """As `PsycopgTransaction.wrote`."""
        return not self._read_only and await self._ask_xid() is not None

    async def commit(self) -> None:
        """As `PsycopgTransaction.commit`."""
        if self._read_only:
            await self._roll_back()
            return
        self.refuse_dead()
        block, self._block = self._block, None
        assert block is not None
        try:
            await block.__aexit__(None, None, None)
        except Exception as error:
            if not self._connection.closed:
                raise
            committed = await self._was_committed() if self._resolve_unknown else None
            if committed is None:
                raise CommitOutcomeUnknown(self._name) from error
            if not committed:
                raise
        self._refuse_uncommitted()

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
        if self._block is None:
            return
        self._guard.saw_no_transaction = is_ended = self._is_ended
        await self._roll_back()
        if is_ended:
            raise AlreadyCommittedError(self._name)

    async def _roll_back(self) -> None:
        if self._goes_on and self._status != ACTIVE:
            async with self.value.lock:
                await self._roll_back_block()
                await self._begin_block()
            return
        await self._end_use()
        task = asyncio.current_task()
        # A cancelled psycopg call cancels its query on the server; that may arrive late and hit the next query.
        if self._status == ACTIVE or (task is not None and task.cancelling() > 0):
            await self._cut()
        await self._roll_back_block()

    async def _cut(self) -> None:
        """As `PsycopgTransaction._cut`."""
        try:
            if self._is_cancellable():
                cancelling = asyncio.create_task(self._cancel())  # its timeout needs a task, as in _was_committed
                try:
                    await asyncio.wait({cancelling})
                finally:
                    cancelling.cancel()
        finally:
            self._connection.pgconn.finish()

    async def _cancel(self) -> None:
        with suppress(Error):
            await self._connection.cancel_safe(timeout=CANCEL_TIMEOUT)

    async def close(self) -> None:
        """As `PsycopgTransaction.close`."""
        if not self._is_taken:
            return
        self._is_taken = False
        connection = self._connection
        try:
            await self._end_use()
            if self._status != IDLE or connection.pgconn.pipeline_status:
                await self._cut()
            elif self._read_only:
                await connection.set_read_only(self._usual_read_only)
        finally:  # even if the time is used up
            self._loan.returned()
            await self._pool.putconn(connection)

    async def savepoint(self) -> AsyncPsycopgSavepoint:
        """As `PsycopgTransaction.savepoint`."""
        block = self.value.transaction()
        await block.__aenter__()
        return AsyncPsycopgSavepoint(self, block)
