"""Who ends what a session has begun: the context, or a service that calls the session's own methods.

A service's rollback undoes what others have done with the session, and its commit keeps it, whatever the context decides.
Neither can be forbidden, so both are seen: on the session's connections, in the moment before it happens.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, SessionTransaction

from polydatum.backends.sqlalchemy_databases import DATABASES, Begun
from polydatum.errors import ConfigurationError, shown


class SessionWatch:
    """What a session has begun, and what services have done to it.

    It knows the session's connections, and they know it, so that `end` has to be called.

    Attributes:
        undone: services have rolled back what may have been written, or was going to be.
        has_committed: services have committed what may have been written.
        is_ending: the context ends the session now; what happens from here on is its doing.
        commits_sent: how many COMMITs have gone out since.
    """

    def __init__(self, session: Session, name: str, *, read_only: bool) -> None:
        self.undone = False
        self.has_committed = False
        self.is_ending = False
        self.commits_sent = 0
        self._name = name
        self._read_only = read_only
        bind = session.bind
        self._joined = bind if isinstance(bind, Connection) and bind.in_transaction() else None
        self._begun: dict[Connection, Begun] = {}
        self._listening: set[tuple[Connection, str, Callable[..., None]]] = set()
        event.listen(session, "after_begin", self._note_begun)
        event.listen(session, "after_rollback", self._note_discarded)

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
        for connection, name, listener in self._listening:
            if not connection.closed:  # pragma: no branch - unless a service has closed it
                event.remove(connection, name, listener)
        self._listening.clear()
        if self._read_only:
            for connection, begun in self._begun.items():
                if not connection.closed:
                    begun.allow_writes()
        self._begun.clear()

    def _note_begun(self, session: Session, transaction: SessionTransaction, connection: Connection) -> None:
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
        if begun.savepoint is not None:
            self._listen(connection, "rollback_savepoint", self._note_rollback)
            self._listen(connection, "release_savepoint", self._note_release)
        else:
            suffix = "_twophase" if session.twophase else ""
            self._listen(connection, f"rollback{suffix}", self._note_rollback)
            self._listen(connection, f"commit{suffix}", self._note_commit)
        if self._read_only:
            begun.refuse_writes(self._name)

    def _listen(self, connection: Connection, name: str, listener: Callable[..., None]) -> None:
        event.listen(connection, name, listener)
        self._listening.add((connection, name, listener))

    def _note_rollback(self, connection: Connection, xid: object = None, is_prepared: bool | None = False) -> None:
        begun = self._ended_by_service(connection)
        if begun is not None and not self.undone:
            self.undone = True  # also if the question is cut off
            self.undone = bool(is_prepared) or _says_yes(begun.is_dead) or _says_yes(begun.may_have_written)

    def _note_commit(self, connection: Connection, xid: object = None, is_prepared: bool = False) -> None:
        if self.is_ending:
            self.commits_sent += 1
        begun = self._ended_by_service(connection)
        if begun is not None:  # what is prepared for a two-phase commit answers no questions any more
            self.undone = self.undone or (not is_prepared and _says_yes(begun.is_dead))
            self.has_committed = self.has_committed or is_prepared or _says_yes(begun.may_have_written)

    def _note_release(self, connection: Connection, name: str, context: None) -> None:
        """A session that has joined a transaction commits by that."""
        begun = self._ended_by_service(connection)
        if begun is not None:
            self.has_committed = self.has_committed or _says_yes(begun.may_have_written)

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

    def _note_discarded(self, session: Session) -> None:
        """Objects that were not flushed go with a rollback, too; and there may be no connection to see it on."""
        if not (self.is_ending or self._read_only or session.in_nested_transaction()):
            self.undone = self.undone or bool(session.new or session.dirty or session.deleted)


def _says_yes(question: Callable[[], bool]) -> bool:
    """The answer of a database; taken for yes if it cannot give one any more."""
    try:
        return question()
    except DBAPIError:
        return True
