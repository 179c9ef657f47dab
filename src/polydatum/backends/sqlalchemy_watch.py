"""Who ends what a session has begun: the context, or a service that calls the session's own methods.

A service's rollback undoes what others have done with the session, and its commit keeps it, whatever the context decides.
Neither can be forbidden, so both are seen: on the session's connections, in the moment before it happens.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary, WeakSet, ref

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, SessionTransaction

from polydatum.backends.sqlalchemy_databases import DATABASES, Begun
from polydatum.errors import ConfigurationError, shown


class SessionWatch:
    """What a session has begun, and what services have done to it.

    `end` has to be called: a connection that the session has joined outlasts it, and would go on telling.

    Attributes:
        undone: services have rolled back what may have been written, or was going to be.
        has_committed: services have committed what may have been written.
        is_ending: the context ends the session now; what happens from here on is its doing.
    """

    def __init__(self, session: Session, name: str, *, read_only: bool) -> None:
        self.undone = False
        self.has_committed = False
        self.is_ending = False
        self._name = name
        self._read_only = read_only
        bind = session.bind
        self._joined = bind if isinstance(bind, Connection) and bind.in_transaction() else None
        self._begun: dict[Connection, Begun] = {}
        self._told_by: set[Connection] = set()
        self._commits_sent: set[Connection] = set()
        _of_session[session] = self

    @property
    def commits_sent(self) -> int:
        """On how many connections a COMMIT has gone out since the session is ending."""
        return len(self._commits_sent)

    @property
    def begun(self) -> list[Begun]:
        """What is under way, on one connection or several."""
        return list(self._begun.values())

    def begin_anew(self) -> None:
        """Services go on; everything that they have done so far was rolled back."""
        self.undone = self.is_ending = False
        self._begun.clear()

    def end(self) -> None:
        """The session has ended, but a connection that is not its own goes on."""
        for connection in self._told_by:
            _of_connection[connection].remove(ref(self))
        self._told_by.clear()
        if self._read_only:
            for connection, begun in self._begun.items():
                if not connection.closed:  # pragma: no branch - unless a service has closed it
                    begun.allow_writes()
        self._begun.clear()

    def note_begun(self, transaction: SessionTransaction, connection: Connection) -> None:
        """The session has begun to use a connection."""
        if transaction.nested:
            return
        kind = DATABASES.get(connection.dialect.name, Begun)
        begun = self._begun[connection] = kind(connection, joins=connection is self._joined)
        if begun.is_autocommit():
            raise ConfigurationError(
                f"resource {shown(self._name)}: its connection is in AUTOCOMMIT mode, so each statement would be kept, "
                "however the context ends; leave that mode to the engine itself, for what cannot run in a transaction: "
                f"dm.get_client({shown(self._name)})"
            )
        if connection not in self._told_by:
            self._told_by.add(connection)
            _of_connection.setdefault(connection, []).append(ref(self))
            _listen(connection.engine)
        if self._read_only:
            begun.refuse_writes(self._name)

    def note_rollback(self, connection: Connection, is_prepared: bool | None) -> None:
        """A connection is about to roll back."""
        begun = self._ended_by_service(connection)
        if begun is not None and not self.undone:
            self.undone = True  # also if the question is cut off
            self.undone = bool(is_prepared) or _says_yes(begun.is_dead) or _says_yes(begun.may_have_written)

    def note_commit(self, connection: Connection, is_prepared: bool) -> None:
        """A connection is about to commit."""
        if self.is_ending:
            self._commits_sent.add(connection)
        begun = self._ended_by_service(connection)
        if begun is not None:  # what is prepared for a two-phase commit answers no questions any more
            self.undone = self.undone or (not is_prepared and _says_yes(begun.is_dead))
            self.has_committed = self.has_committed or is_prepared or _says_yes(begun.may_have_written)

    def note_release(self, connection: Connection) -> None:
        """A session that has joined a transaction commits by that."""
        begun = self._ended_by_service(connection)
        if begun is not None:
            self.has_committed = self.has_committed or _says_yes(begun.may_have_written)

    def ends_by_savepoint(self, connection: Connection) -> bool:
        """Whether what the session has begun there is a savepoint in a transaction that is not its own."""
        begun = self._begun.get(connection)
        return begun is not None and begun.savepoint is not None

    def _ended_by_service(self, connection: Connection) -> Begun | None:
        """What ends there, if it is a service that ends it, and something can be lost or kept by that."""
        begun = self._begun.get(connection)
        if begun is None or begun.savepoint not in (None, connection.get_nested_transaction()):
            return None  # a savepoint inside of it
        if self._read_only:
            begun.allow_writes()  # before the connection gets back into the pool
        elif self.is_ending:
            return None
        del self._begun[connection]
        return None if self._read_only else begun

    def note_discarded(self, session: Session) -> None:
        """Objects that were not flushed go with a rollback, too; and there may be no connection to see it on."""
        if not (self.is_ending or self._read_only or session.in_nested_transaction()):
            self.undone = self.undone or bool(session.new or session.dirty or session.deleted)


# --- Listeners --------------------------------------------------------------------------------------------------------

# One for all sessions, and one for all connections of an engine: to listen to each anew takes longer than a statement.
_of_session: WeakKeyDictionary[Session, SessionWatch] = WeakKeyDictionary()
_of_connection: WeakKeyDictionary[Connection, list[ref[SessionWatch]]] = WeakKeyDictionary()


@event.listens_for(Session, "after_begin")
def _note_begun(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    watch = _of_session.get(session)
    if watch is not None:
        watch.note_begun(transaction, connection)


@event.listens_for(Session, "after_rollback")
def _note_discarded(session: Session) -> None:
    watch = _of_session.get(session)
    if watch is not None:
        watch.note_discarded(session)


def _note_rollback(connection: Connection, xid: object = None, is_prepared: bool | None = False) -> None:
    for watch in _watching(connection, savepoint=False):
        watch.note_rollback(connection, is_prepared)


def _note_commit(connection: Connection, xid: object = None, is_prepared: bool = False) -> None:
    for watch in _watching(connection, savepoint=False):
        watch.note_commit(connection, is_prepared)


def _note_savepoint_rollback(connection: Connection, name: str, context: None) -> None:
    for watch in _watching(connection, savepoint=True):
        watch.note_rollback(connection, is_prepared=False)


def _note_savepoint_release(connection: Connection, name: str, context: None) -> None:
    for watch in _watching(connection, savepoint=True):
        watch.note_release(connection)


def _watching(connection: Connection, *, savepoint: bool) -> list[SessionWatch]:
    """Those to whom the connection's transaction, or a savepoint in it, is what their session has begun."""
    watches = (watch() for watch in _of_connection.get(connection, ()))
    return [watch for watch in watches if watch is not None and watch.ends_by_savepoint(connection) is savepoint]


_LISTENERS: dict[str, Callable[..., None]] = {
    "rollback": _note_rollback,
    "rollback_twophase": _note_rollback,
    "rollback_savepoint": _note_savepoint_rollback,
    "release_savepoint": _note_savepoint_release,
    "commit_twophase": _note_commit,
    "commit": _note_commit,
}


_listened_to: WeakSet[Engine] = WeakSet()


def _listen(engine: Engine) -> None:
    """Listen to the connections of an engine; it may be a variant of one that is listened to, so they may be told twice."""
    if engine not in _listened_to:
        for name, listener in _LISTENERS.items():
            event.listen(engine, name, listener)  # does nothing if it listens already
        _listened_to.add(engine)  # the last step: then all are there, whichever thread has added them


def _says_yes(question: Callable[[], bool]) -> bool:
    """The answer of a database; taken for yes if it cannot give one any more."""
    try:
        return question()
    except DBAPIError:
        return True
