"""The connection that services get: an object for each context, over a pooled connection, dead once the context has ended.

The pool's own object passes from context to context. A task or thread that outlives its context and still holds that
object would write into another context's transaction, or end it; and libpq crashes if two threads use one connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from functools import cache
from threading import RLock
from typing import Any
from weakref import ReferenceType

from psycopg import AsyncConnection, Connection, OperationalError
from psycopg.adapt import AdaptersMap
from psycopg.pq import PGconn, TransactionStatus

from polydatum.errors import ContextClosedError

LEAVE_TIMEOUT = 1.0
"""How many seconds a task or thread gets to abandon its exchange with the server; psycopg wakes up every 0.1 s."""
IDLE, ACTIVE, INERROR, UNKNOWN = (
    int(status)
    for status in (
        TransactionStatus.IDLE,
        TransactionStatus.ACTIVE,
        TransactionStatus.INERROR,
        TransactionStatus.UNKNOWN,
    )
)
DEAD: Any = PGconn.connect_start(b"port=none")  # an invalid port: fails without any network access
"""Replaces a connection to the server; psycopg treats it as closed."""
DEAD.finish()
LENT: Any = object()
"""Replaces the pool, so that a service can neither return the connection nor close it by a ``with``."""


class Guard:
    """Who may use the connection of a context, and until when.

    Attributes:
        is_closed: whether new exchanges with the server are refused.
        gives_up: whether exchanges under way are abandoned, too.
        saw_no_transaction: whether a service has ended the context's transaction, by a COMMIT or ROLLBACK in SQL.
    """

    def __init__(self, name: str, context: ReferenceType[Any]) -> None:
        self.is_closed = False
        self.gives_up = False
        self.saw_no_transaction = False
        self._name = name
        self._context = context

    def admit(self, pgconn: Any) -> None:
        """Called before an exchange with the server begins; raises if it is too late for one."""
        if self.is_closed:
            raise self.refusal()
        if pgconn.transaction_status == IDLE:
            self.saw_no_transaction = True

    def refusal(self) -> Exception:
        """The error for a use of the connection that comes too late."""
        context = self._context()
        if context is None:
            return ContextClosedError(self._name)
        if context.state == "open":  # only a nested() block has ended, in the middle of an exchange
            return OperationalError("the connection is closed")
        error: Exception = context._closed_error(self._name)
        return error

    def watched(self, exchange: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Wrap an exchange so that its next step abandons it if `gives_up` is set; the connection may be gone by then."""
        try:
            wanted = next(exchange)
            while True:
                ready = yield wanted
                if self.gives_up:
                    raise self.refusal()
                wanted = exchange.send(ready)
        except StopIteration as end:
            return end.value


class SyncGuard(Guard):
    """The guard of a connection that threads may share."""

    def __init__(self, name: str, context: ReferenceType[Any]) -> None:
        super().__init__(name, context)
        self.exchange = RLock()  # not psycopg's own, which a suspended generator may hold
        self.left_behind: Any = None

    def leave_behind(self, pgconn: Any) -> None:
        """Leave it to the thread in the exchange to close the connection to the server: no other thread can do so safely."""
        self.left_behind = pgconn
        if self.exchange.acquire(False):  # that thread has just left
            pgconn.finish()
            self.exchange.release()

    def end(self, patience: float) -> bool:
        """Refuse new exchanges, and wait for the one under way; return whether no thread is in one any more.

        Args:
            patience: how many seconds it may take to complete before it is abandoned.
        """
        self.is_closed = True
        has_left = self.exchange.acquire(False) or (patience > 0 and self.exchange.acquire(timeout=patience))
        if not has_left:
            self.gives_up = True
            has_left = self.exchange.acquire(timeout=LEAVE_TIMEOUT)
        if has_left:
            self.exchange.release()
        return has_left


class AsyncGuard(Guard):
    """The guard of a connection that tasks may share."""

    def __init__(self, name: str, context: ReferenceType[Any]) -> None:
        super().__init__(name, context)
        self.inside = 0
        self._left: asyncio.Event | None = None
        self._left_behind: Any = None

    def leave(self) -> None:
        """Called when a task has ended its exchange."""
        self.inside -= 1
        if self._left is not None and not self.inside:
            self._left.set()
            if self._left_behind is not None:
                self._left_behind.finish()

    def leave_behind(self, pgconn: Any) -> None:
        """As `SyncGuard.leave_behind`."""
        self._left_behind = pgconn

    async def end(self, patience: float) -> bool:
        """As `SyncGuard.end`."""
        self.is_closed = True
        if self.inside and patience > 0:
            await self._see_out(patience)
        if self.inside:
            self.gives_up = True
            await self._see_out(LEAVE_TIMEOUT)
        return not self.inside

    async def _see_out(self, seconds: float) -> None:
        self._left = left = asyncio.Event()
        # Not asyncio.timeout: it would cancel the task, and cancellations are held off at the end of a context.
        timer = asyncio.get_running_loop().call_later(seconds, left.set)
        try:
            await left.wait()
        finally:
            timer.cancel()


# --- Connections ------------------------------------------------------------------------------------------------------


class ContextConnection(Connection[Any]):
    """Mixed into the class of a pooled connection, makes it a context's connection."""

    _polydatum_guard: SyncGuard

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """All exchanges with the server go through here, those of cursors, too."""
        guard = self._polydatum_guard
        with guard.exchange:
            guard.admit(self.pgconn)
            try:
                return super().wait(guard.watched(gen), *args, **options)
            finally:
                if guard.left_behind is not None:
                    guard.left_behind.finish()

    def _check_connection_ok(self) -> None:
        if self.pgconn is DEAD:
            raise self._polydatum_guard.refusal()
        super()._check_connection_ok()


class AsyncContextConnection(AsyncConnection[Any]):
    """The async twin of `ContextConnection`."""

    _polydatum_guard: AsyncGuard

    async def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """As `ContextConnection.wait`."""
        guard = self._polydatum_guard
        guard.admit(self.pgconn)
        guard.inside += 1
        try:
            return await super().wait(guard.watched(gen), *args, **options)
        finally:
            guard.leave()

    def _check_connection_ok(self) -> None:
        if self.pgconn is DEAD:
            raise self._polydatum_guard.refusal()
        super()._check_connection_ok()


@cache
def _of_context(kind: Any, pooled: Any) -> Any:
    names = {"__module__": pooled.__module__, "__qualname__": pooled.__qualname__}
    return type(pooled.__name__, (kind, pooled), names)


class Loan:
    """A pooled connection while a context has it; its settings are restored when the context ends."""

    def __init__(self, pooled: Any) -> None:
        self._pooled = pooled
        self._read_only = pooled.read_only
        self._notice_handlers = pooled._notice_handlers
        self._notify_handlers = pooled._notify_handlers
        prepared = pooled._prepared
        self._prepared = prepared.prepare_threshold, prepared.prepared_max

    def made_for(self, guard: Guard, kind: Any, lock: Any) -> Any:
        """The connection for the context's services; its transaction has already begun."""
        pooled = self._pooled
        # libpq notifies the pooled object, which calls its handlers: both objects share copies of the lists for now.
        pooled._notice_handlers = [*self._notice_handlers]
        pooled._notify_handlers = [*self._notify_handlers]
        connection = object.__new__(_of_context(kind, pooled.__class__))
        connection.__dict__ = {**vars(pooled), "lock": lock, "_pool": LENT, "_polydatum_guard": guard}
        if pooled._adapters is not None:
            connection._adapters = AdaptersMap(pooled._adapters)
        return connection

    def returned(self) -> None:
        """Restore the settings that services may have changed; not the read-only mode, which only the connection's methods set."""
        pooled = self._pooled
        pooled._notice_handlers = self._notice_handlers
        pooled._notify_handlers = self._notify_handlers
        pooled._prepared.prepare_threshold, pooled._prepared.prepared_max = self._prepared
