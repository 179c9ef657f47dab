"""A session of SQLAlchemy as a transaction of a context."""

from __future__ import annotations

from typing import Any
from weakref import ref

from sqlalchemy.exc import DBAPIError, InvalidRequestError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from polydatum.backends.sqlalchemy_databases import PostgreSQL
from polydatum.backends.sqlalchemy_watch import SessionWatch
from polydatum.errors import AlreadyCommittedError, CommitOutcomeUnknown, MultipleAuthoritiesError, RollbackOnlyError
from polydatum.transactions import AsyncTransaction, Transaction

ILLEGAL_STATE_CHANGE = "isce"
"""The ``code`` of SQLAlchemy's ``IllegalStateChangeError``."""


class SessionSavepoint:
    """A savepoint of a session: ``session.begin_nested()`` in the words of `polydatum.Savepoint`."""

    def __init__(self, transaction: SQLAlchemyTransaction, nested: SessionTransaction) -> None:
        self._transaction = transaction
        self._nested = nested

    def release(self) -> None:
        """Keep the changes made since, unless an error was swallowed meanwhile."""
        self._transaction.refuse_dead()
        self._nested.commit()

    def rollback(self) -> None:
        """Undo the changes made since."""
        self._nested.rollback()


class SQLAlchemyTransaction(Transaction):
    """A session, whose transaction may span several connections."""

    def __init__(self, session: Session, name: str, context: Any, resolve_unknown: bool) -> None:
        super().__init__(session)
        self._name = name
        self._context = ref(context)
        self._read_only: bool = context.read_only
        self._resolve_unknown = resolve_unknown
        self._watch = SessionWatch(session, name, self._context, read_only=self._read_only)

    @property
    def has_committed(self) -> bool:
        """Whether a service has committed changes that may have been written."""
        return self._watch.has_committed

    @property
    def _goes_on(self) -> bool:
        """Whether services may still use the session: a ``ctx.nested()`` block that opened it was rolled back."""
        context = self._context()
        return context is not None and context.state == "open"

    def refuse_dead(self) -> None:
        """Raise `RollbackOnlyError` if a commit would not keep the changes."""
        session: Session = self.value
        watch = self._watch
        if not session.is_active:  # a failed flush has rolled back, and its error was swallowed
            try:
                session.connection()
            except PendingRollbackError as error:
                raise RollbackOnlyError(self._name, earlier=watch.error) from error
        if watch.undone:
            raise RollbackOnlyError(self._name, undone=True)
        for begun in list(watch.begun.values()):
            if begun.is_dead():
                raise RollbackOnlyError(self._name, earlier=begun.fatal(watch.error))

    def prepare(self) -> None:
        """Flush; raise if the session cannot commit any more, or would commit to several databases."""
        session: Session = self.value
        self._watch.is_ending = True
        if self._read_only:
            session.flush()
            return
        if session.is_active:
            session.flush()
        self.refuse_dead()
        begun = self._watch.begun
        if len(begun) > 1 and not session.twophase:
            self._refuse_several()
        if self._resolve_unknown:
            for one in begun.values():
                if isinstance(one, PostgreSQL):
                    one.xid()

    def _refuse_several(self) -> None:
        """Two databases of one session are two authorities, unless a two-phase commit covers them."""
        writers = [one for one in self._watch.begun.values() if one.wrote()]
        if len(writers) > 1:
            raise MultipleAuthoritiesError([self._name], databases=len(writers))

    def wrote(self) -> bool:
        """Exact on PostgreSQL and SQLite; elsewhere, whether the session has a connection."""
        return not self._read_only and any(begun.may_have_written() for begun in self._watch.begun.values())

    def commit(self) -> None:
        """Commit; a read-only session rolls back in `close` instead, which leaves its objects usable."""
        session: Session = self.value
        if self._read_only or not session.in_transaction():  # a service may have committed and closed the session
            return
        try:
            session.commit()
        except Exception as error:
            sent = self._watch.commits_sent
            if not sent or (sent == 1 and _is_answer(error)):
                raise
            committed = self._was_committed() if self._resolve_unknown else None
            if committed is None:
                raise CommitOutcomeUnknown(self._name) from error
            if not committed:
                raise

    def _was_committed(self) -> bool | None:
        self.value.close()  # frees its place in the pool, which may have no other
        verdicts = {begun.was_committed() for begun in self._watch.begun.values()}
        return verdicts.pop() if len(verdicts) == 1 else None

    def rollback(self) -> None:
        """Roll back; at the end of the context, detach the objects first, as a rollback would expire what they have loaded."""
        watch = self._watch
        watch.is_ending = True
        if self._goes_on:
            self.value.rollback()
            watch.begin_anew()
        else:
            watch.has_ended = True
            self.value.expunge_all()
            self._roll_back_for_good()
        if watch.has_committed:
            raise AlreadyCommittedError(self._name)

    def _roll_back_for_good(self) -> None:
        try:
            self.value.rollback()
        except Exception as error:
            if _is_in_use(error):
                return  # `close` undoes it
            if not self._watch.was_cut:
                raise
            self._watch.report_cut(error)

    def close(self) -> None:
        """Return the connection to its pool, and detach the objects."""
        session: Session = self.value
        watch = self._watch
        watch.is_ending = watch.has_ended = True
        try:
            # After close(), SQLAlchemy would refuse late use itself, before our watch can; but a subclass of the
            # user's may rely on its close() being called.
            (session.reset if type(session) is Session else session.close)()
        except Exception as error:
            watch.cut()
            if not _is_in_use(error):
                raise
        finally:
            watch.end()

    def savepoint(self) -> SessionSavepoint:
        """Flush, and set a savepoint."""
        return SessionSavepoint(self, self.value.begin_nested())


def _is_in_use(error: Exception) -> bool:
    """Whether SQLAlchemy refused to end a session because another thread or task is in one of its methods."""
    return isinstance(error, InvalidRequestError) and error.code == ILLEGAL_STATE_CHANGE


def _is_answer(error: Exception) -> bool:
    """Whether an error is the server's answer to a COMMIT.

    An error with a statement comes from a listener that has executed one, before or after the COMMIT.
    """
    return isinstance(error, DBAPIError) and not error.connection_invalidated and error.statement is None


class AsyncSessionSavepoint:
    """The async twin of `SessionSavepoint`."""

    def __init__(self, session: AsyncSession, savepoint: SessionSavepoint) -> None:
        self._session = session
        self._savepoint = savepoint

    async def release(self) -> None:
        """Keep the changes made since."""
        await self._session.run_sync(lambda session: self._savepoint.release())

    async def rollback(self) -> None:
        """Undo the changes made since."""
        await self._session.run_sync(lambda session: self._savepoint.rollback())


class AsyncSQLAlchemyTransaction(AsyncTransaction):
    """The async twin of `SQLAlchemyTransaction`: runs its steps in SQLAlchemy's greenlet."""

    def __init__(self, session: AsyncSession, name: str, context: Any, resolve_unknown: bool) -> None:
        super().__init__(session)
        self._sync = SQLAlchemyTransaction(session.sync_session, name, context, resolve_unknown)

    @property
    def has_committed(self) -> bool:
        """As `SQLAlchemyTransaction.has_committed`."""
        return self._sync.has_committed

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
