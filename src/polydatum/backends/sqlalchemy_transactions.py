"""A session of SQLAlchemy as a transaction of a context."""

from __future__ import annotations

from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError, PendingRollbackError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from polydatum.backends.sqlalchemy_databases import DATABASES, Begun, PostgreSQL
from polydatum.errors import CommitOutcomeUnknown, RollbackOnlyError
from polydatum.transactions import AsyncTransaction, Transaction


class SessionSavepoint:
    """A savepoint of a session: ``session.begin_nested()`` in the words of `polydatum.Savepoint`."""

    def __init__(self, transaction: SQLAlchemyTransaction, nested: SessionTransaction) -> None:
        self._transaction = transaction
        self._nested = nested

    def release(self) -> None:
        """Keep what was done since, unless an error was swallowed meanwhile."""
        self._transaction.refuse_dead()
        self._nested.commit()

    def rollback(self) -> None:
        """Undo what was done since."""
        self._nested.rollback()


class SQLAlchemyTransaction(Transaction):
    """A session, and what it has begun, on one connection or several."""

    def __init__(self, session: Session, name: str, *, read_only: bool, resolve_unknown: bool) -> None:
        super().__init__(session)
        self._name = name
        self._read_only = read_only
        self._resolve_unknown = resolve_unknown
        self._begun = begun = list[Begun]()
        self._sent = sent = list[Connection]()  # connections that a COMMIT went out on

        # A closure over the list, and no method: that would be a cycle of references through the session.
        def note_begun(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
            if not transaction.nested:
                event.listen(connection, "commit", sent.append)
                begun.append(DATABASES.get(connection.dialect.name, Begun)(connection))
                if read_only:
                    begun[-1].refuse_writes()

        event.listen(session, "after_begin", note_begun)

    def _current(self) -> list[Begun]:
        return [begun for begun in self._begun if begun.is_current]

    def refuse_dead(self) -> None:
        """Raise `RollbackOnlyError` if a commit would not keep what was done."""
        session: Session = self.value
        if not session.is_active:  # a flush failed, which has rolled back, and somebody caught its error
            try:
                session.connection()
            except PendingRollbackError as error:
                raise RollbackOnlyError(self._name) from error
        if any(begun.is_dead() for begun in self._current()):
            raise RollbackOnlyError(self._name)

    def prepare(self) -> None:
        """Flush, and see whether there is anything left that can commit."""
        session: Session = self.value
        if self._read_only:
            session.flush()
            return
        if session.is_active:
            session.flush()
        self.refuse_dead()
        if self._resolve_unknown:
            for begun in self._current():
                if isinstance(begun, PostgreSQL):
                    begun.xid()

    def wrote(self) -> bool:
        """Exactly on PostgreSQL and SQLite; elsewhere, whether it has a connection."""
        return not self._read_only and any(begun.wrote() for begun in self._current())

    def commit(self) -> None:
        """Commit; read-only it has nothing to, and rolls back in `close`, which leaves its objects usable."""
        if self._read_only:
            return
        try:
            self.value.commit()
        except Exception as error:
            # An answer of the database is an error of SQLAlchemy's; any other, of a listener, tells nothing of the COMMIT.
            was_answered = isinstance(error, SQLAlchemyError) and not _is_lost(error)
            if not self._sent or (was_answered and len(self._sent) == 1):
                raise
            committed = self._was_committed() if self._resolve_unknown else None
            if committed is None:
                raise CommitOutcomeUnknown(self._name) from error
            if not committed:
                raise

    def _was_committed(self) -> bool | None:
        self.value.close()  # its place in the pool may be the only one
        verdicts = {begun.was_committed() for begun in self._begun}
        return verdicts.pop() if len(verdicts) == 1 else None

    def rollback(self) -> None:
        """Roll back."""
        self.value.rollback()

    def close(self) -> None:
        """Give the connection back, and let go of the objects."""
        self.value.close()

    def savepoint(self) -> SessionSavepoint:
        """Flush, and set a savepoint."""
        return SessionSavepoint(self, self.value.begin_nested())


def _is_lost(error: Exception) -> bool:
    """Whether the connection broke, instead of bringing the server's answer."""
    return error.connection_invalidated if isinstance(error, DBAPIError) else isinstance(error, OSError)


class AsyncSessionSavepoint:
    """The async twin of `SessionSavepoint`."""

    def __init__(self, session: AsyncSession, savepoint: SessionSavepoint) -> None:
        self._session = session
        self._savepoint = savepoint

    async def release(self) -> None:
        """Keep what was done since."""
        await self._session.run_sync(lambda session: self._savepoint.release())

    async def rollback(self) -> None:
        """Undo what was done since."""
        await self._session.run_sync(lambda session: self._savepoint.rollback())


class AsyncSQLAlchemyTransaction(AsyncTransaction):
    """The async twin of `SQLAlchemyTransaction`, and nothing but that: its steps, run in SQLAlchemy's greenlet."""

    def __init__(self, session: AsyncSession, name: str, *, read_only: bool, resolve_unknown: bool) -> None:
        super().__init__(session)
        self._sync = SQLAlchemyTransaction(
            session.sync_session, name, read_only=read_only, resolve_unknown=resolve_unknown
        )

    async def prepare(self) -> None:
        """As `SQLAlchemyTransaction.prepare`."""
        await self.value.run_sync(lambda session: self._sync.prepare())

    async def wrote(self) -> bool:
        """As `SQLAlchemyTransaction.wrote`."""
        wrote: bool = await self.value.run_sync(lambda session: self._sync.wrote())
        return wrote

    async def commit(self) -> None:
        """As `SQLAlchemyTransaction.commit`."""
        await self.value.run_sync(lambda session: self._sync.commit())

    async def rollback(self) -> None:
        """As `SQLAlchemyTransaction.rollback`."""
        await self.value.run_sync(lambda session: self._sync.rollback())

    async def close(self) -> None:
        """As `SQLAlchemyTransaction.close`."""
        await self.value.run_sync(lambda session: self._sync.close())

    async def savepoint(self) -> AsyncSessionSavepoint:
        """As `SQLAlchemyTransaction.savepoint`."""
        return AsyncSessionSavepoint(self.value, await self.value.run_sync(lambda session: self._sync.savepoint()))
