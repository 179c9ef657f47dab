"""Detects whether the context ends a session's transaction, or a service that calls the session's own methods.

A service's rollback undoes the work of others on the session, and its commit keeps it, whatever the context decides.
Neither can be prevented, so both are observed: on the session's connections, just before they happen.

A thread or task may outlive the context and still be in a method of its session. SQLAlchemy then refuses to end the
session, so any transaction or connection that the session gets afterwards is ended at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn
from weakref import ref

from sqlalchemy import Connection, ExceptionContext, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, SessionTransaction

from polydatum.backends.postgresql import IN_FAILED_TRANSACTION_STATE
from polydatum.backends.sqlalchemy_databases import DATABASES, Begun
from polydatum.errors import ConfigurationError, ContextClosedError, kind_of, shown
from polydatum.reporting import log_error


class SessionWatch:
    """The transactions that a session has begun, and whether services have ended them.

    Call `end`: a connection whose transaction the session has joined outlives it, and would go on notifying this watch.

    Attributes:
        begun: the open transactions, by connection.
        undone: whether services have rolled back changes that were, or were going to be, written.
        has_committed: whether services have committed changes that may have been written.
        error: the class and SQLSTATE of the last database error, except for the refusals that follow one on PostgreSQL.
        is_ending: whether the context is ending the session, so that it causes all that follows.
        has_ended: whether the session has ended, so that nothing may begin or commit any more.
        was_cut: whether a connection was closed because it could not roll back at the end.
    """

    def __init__(self, session: Session, name: str, context: ref[Any], *, read_only: bool) -> None:
        self.undone = False
        self.has_committed = False
        self.is_ending = False
        self.has_ended = False
        self.was_cut = False
        self.error = ""
        self._name = name
        self._context = context
        self._read_only = read_only
        bind = session.bind
        self._lent = bind if isinstance(bind, Connection) else None
        self._joined = bind if isinstance(bind, Connection) and bind.in_transaction() else None
        self.begun: dict[Connection, Begun] = {}
        self._told_by: list[Any] = []
        self._commits_sent: set[Connection] = set()
        noted: Any = session
        noted._polydatum_watch = self

    @property
    def commits_sent(self) -> int:
        """The number of connections on which a COMMIT was sent since the session is ending."""
        return len(self._commits_sent)

    def begin_anew(self) -> None:
        """Start over: everything was rolled back, and services go on."""
        self.undone = self.is_ending = False
        self.error = ""
        self.begun.clear()

    def end(self) -> None:
        """Stop watching: the session has ended, but a connection that is not its own lives on."""
        while self._told_by:
            self._told_by.pop()._polydatum_told.remove(ref(self))
        if self._read_only:
            for connection, begun in self.begun.items():
                if not connection.closed:  # pragma: no branch - unless a service has closed it
                    begun.allow_writes()
        self.begun.clear()

    def refuse_late(self) -> NoReturn:
        """Raise `ContextClosedError`: the session has ended with its context."""
        context = self._context()
        raise ContextClosedError(self._name) if context is None else context._closed_error(self._name)

    def cut(self) -> None:
        """Close the connections in use: the session refuses to end while a thread or task is in its methods, or the driver's."""
        while self.begun:
            try:
                connection, begun = self.begun.popitem()  # atomic: a late thread may do the same
            except KeyError:  # pragma: no cover - the other thread was faster
                return
            if connection is not self._lent:
                if not connection.closed:  # pragma: no branch - the late thread may have closed it
                    connection.invalidate()
                continue
            if self._read_only:
                begun.allow_writes()
            own = begun.savepoint if begun.joins else connection.get_transaction()
            if own is not None:  # pragma: no branch - the late thread may have ended it
                own.rollback()

    def report_cut(self, error: Exception) -> None:
        """Log that a connection was closed: that undoes the work as a rollback does, but the pool loses the connection."""
        log_error(
            "resource %s: its connection was closed, as it could not roll back (%s). Is a task or a thread still using it "
            "when its context ends? Have it end before, or open a context of its own",
            shown(self._name),
            type(error).__name__,
        )

    def refuse_statement(self) -> NoReturn:
        """Refuse a statement that would end the transaction: some drivers would then autocommit each later statement."""
        raise ConfigurationError(
            f"resource {shown(self._name)}: a COMMIT or ROLLBACK as a statement would end the transaction behind SQLAlchemy's "
            "back; leave its end to the context, undo a part in a block of ctx.nested(), and keep something in any case by a "
            "context of its own: 'with dm.context():'"
        )

    def note_begun(self, connection: Any) -> None:
        """Note that the session has begun to use a connection."""
        engine = connection.engine
        kind: type[Begun] = getattr(engine, "_polydatum_kind", None) or _listen(engine)
        begun = self.begun[connection] = kind(connection, joins=connection is self._joined)
        told = getattr(connection, "_polydatum_told", None)
        if told is None:
            told = connection._polydatum_told = []
        if connection not in self._told_by:
            self._told_by.append(connection)
            told.append(ref(self))
        if (
            self.has_ended
        ):  # checked last: either the closer finds this connection in `begun`, or we see that it has ended
            self.cut()
            self.end()
            self.refuse_late()
        if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT" or begun.is_autocommit():
            raise ConfigurationError(
                f"resource {shown(self._name)}: its connection is in AUTOCOMMIT mode, so each statement would be committed, "
                "however the context ends; use the engine for statements that cannot run in a transaction: "
                f"dm.get_client({shown(self._name)})"
            )
        if self._read_only:
            begun.refuse_writes(self._name)

    def note_rollback(self, connection: Connection, is_prepared: bool | None, *, savepoint: bool = False) -> None:
        """Note that a connection is about to roll back: its transaction, or a savepoint in it."""
        begun = self._ended_by_service(connection, savepoint)
        if begun is not None and not self.undone:
            self.undone = True  # remains so if the queries below are interrupted
            self.undone = bool(is_prepared) or _says_yes(begun.is_dead) or _says_yes(begun.may_have_written)

    def note_commit(self, connection: Connection, is_prepared: bool) -> None:
        """Note that a connection is about to commit."""
        if self.has_ended:  # pragma: no cover - between the final rollback and the close
            self.refuse_late()
        begun = self.begun.get(connection)
        if self.is_ending and (begun is None or begun.savepoint is None):
            self._commits_sent.add(connection)
        begun = self._ended_by_service(connection)
        if begun is not None:  # a transaction that is prepared for two-phase commit accepts no queries any more
            self.undone = self.undone or (not is_prepared and _says_yes(begun.is_dead))
            self.has_committed = self.has_committed or is_prepared or _says_yes(begun.may_have_written)

    def note_release(self, connection: Connection) -> None:
        """Note a release of a savepoint, which is the commit of a session that has joined a transaction."""
        if self.has_ended:  # pragma: no cover - between the final rollback and the close
            self.refuse_late()
        begun = self._ended_by_service(connection, savepoint=True)
        if begun is not None:
            self.has_committed = self.has_committed or _says_yes(begun.may_have_written)

    def _ended_by_service(self, connection: Connection, savepoint: bool = False) -> Begun | None:
        """The transaction that a service ends on the connection, if that can lose or keep changes; else None.

        ``savepoint``: whether a savepoint ends, not a transaction.
        """
        begun = self.begun.get(connection)
        if begun is None or (begun.savepoint is not None) is not savepoint:
            return None
        if savepoint and begun.savepoint is not connection.get_nested_transaction():
            return None  # an inner savepoint
        if self._read_only:
            begun.allow_writes()  # before the connection returns to the pool
        elif self.is_ending:
            return None
        del self.begun[connection]
        return None if self._read_only else begun

    def note_discarded(self, session: Session) -> None:
        """Note unflushed objects that a rollback discards, which may happen without any connection."""
        if not (self.is_ending or self._read_only or session.in_nested_transaction()):
            self.undone = self.undone or bool(session.new or session.dirty or session.deleted)


# --- Listeners --------------------------------------------------------------------------------------------------------

# One for all sessions, and one per engine for all its connections: adding a listener takes longer than a statement.
# Our state is stored in attributes of the session, connection and engine: a WeakKeyDictionary look-up takes four calls.


@event.listens_for(Session, "after_transaction_create")
def _refuse_late(session: Session, transaction: SessionTransaction) -> None:
    watch: SessionWatch | None = getattr(session, "_polydatum_watch", None)
    if watch is not None and watch.has_ended:
        transaction.close()
        watch.refuse_late()


@event.listens_for(Session, "after_begin")
def _note_begun(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    watch: SessionWatch | None = getattr(session, "_polydatum_watch", None)
    if watch is not None and not transaction.nested:
        watch.note_begun(connection)


@event.listens_for(Session, "after_rollback")
def _note_discarded(session: Session) -> None:
    watch: SessionWatch | None = getattr(session, "_polydatum_watch", None)
    if watch is not None:
        watch.note_discarded(session)


def _note_rollback(connection: Connection, xid: object = None, is_prepared: bool | None = False) -> None:
    for watch in _watching(connection):
        watch.note_rollback(connection, is_prepared)


def _note_commit(connection: Connection, xid: object = None, is_prepared: bool = False) -> None:
    for watch in _watching(connection):
        watch.note_commit(connection, is_prepared)


def _note_savepoint_rollback(connection: Connection, name: str, context: None) -> None:
    for watch in _watching(connection):
        watch.note_rollback(connection, is_prepared=False, savepoint=True)


def _note_savepoint_release(connection: Connection, name: str, context: None) -> None:
    for watch in _watching(connection):
        watch.note_release(connection)


_ENDS = re.compile(
    r"(?:\s|;|--[^\n]*\n|/\*.*?\*/)*(?:COMMIT|END|ABORT|ROLLBACK)"
    r"(?:\s+(?:WORK|TRANSACTION|AND|NO|CHAIN|RELEASE))*\s*(?:;|--|/\*|$)",
    re.IGNORECASE | re.DOTALL,
)
"""Matches statements that end a transaction; not those for savepoints and two-phase commits, which SQLAlchemy executes."""
_ends_transaction = _ENDS.match  # bound once, for the hot path


def _refuse_end(connection: Connection, cursor: object, statement: str, *_: object) -> None:
    if _ends_transaction(statement):
        for watch in _watching(connection):
            watch.refuse_statement()


def _note_error(context: ExceptionContext) -> None:
    """Note the error, and keep a connection that cannot roll back from returning to its pool.

    With drivers that allow one operation at a time, a rollback fails while a task or thread of the ended context still
    uses the connection.
    """
    error = context.original_exception
    is_refusal = getattr(error, "sqlstate", None) == IN_FAILED_TRANSACTION_STATE
    for watch in _watching(context.connection):
        if isinstance(error, Exception) and not is_refusal:
            watch.error = kind_of(error)
        if watch.has_ended and context.statement is None:
            watch.was_cut = True
            # If the server is still there, the pool's other connections are fine.
            context.invalidate_pool_on_disconnect = context.invalidate_pool_on_disconnect and context.is_disconnect
            context.is_disconnect = True


def _watching(connection: Any) -> list[SessionWatch]:
    """The watches of the sessions that use the connection."""
    return [watch for told in getattr(connection, "_polydatum_told", ()) if (watch := told()) is not None]


_LISTENERS: dict[str, Callable[..., None]] = {
    "rollback": _note_rollback,
    "rollback_twophase": _note_rollback,
    "rollback_savepoint": _note_savepoint_rollback,
    "release_savepoint": _note_savepoint_release,
    "commit_twophase": _note_commit,
    "commit": _note_commit,
    "handle_error": _note_error,
    "before_cursor_execute": _refuse_end,
}


def _listen(engine: Any) -> type[Begun]:
    """Listen to the connections of an engine; returns the class of its transactions.

    The engine may share the listeners of another one (``execution_options()``), so an event may arrive twice.
    """
    kind = DATABASES.get(engine.dialect.name, Begun)
    for name, listener in (("handle_error", kind.note_error), *_LISTENERS.items()):
        event.listen(engine, name, listener)  # a no-op if already added
    engine._polydatum_kind = kind  # last, so that a thread that sees it has all listeners
    return kind


def _says_yes(question: Callable[[], bool]) -> bool:
    """The database's answer; True if it cannot answer any more."""
    try:
        return question()
    except DBAPIError:
        return True
