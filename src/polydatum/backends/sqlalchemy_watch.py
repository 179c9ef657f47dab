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


class SessionWatch:
    """What a session has begun, and what services have done to it.

    It knows the session's connections, and they know it, so that `end` has to be called.

    Attributes:
        undone: services have rolled back what may have been written, or was going to be.
        has_committed: services have committed what may have been written.
        is_ending: the context ends the session now; what happens from here on is its doing.
        commits_sent: how many COMMITs have gone out since.
    """

    def __init__(self, session: Session, *, read_only: bool) -> None:
        self.undone = False
        self.has_committed = False
        self.is_ending = False
        self.commits_sent = 0
        self._read_only = read_only
        self._begun: dict[Connection, Begun] = {}
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
        """The session has ended."""
        self._begun.clear()

    def _note_begun(self, session: Session, transaction: SessionTransaction, connection: Connection) -> None:
        if transaction.nested:
            return
        begun = self._begun[connection] = DATABASES.get(connection.dialect.name, Begun)(connection)
        suffix = "_twophase" if session.twophase else ""
        event.listen(connection, f"rollback{suffix}", self._note_rollback)
        event.listen(connection, f"commit{suffix}", self._note_commit)
        if self._read_only:
            begun.refuse_writes()

    def _note_rollback(self, connection: Connection, xid: object = None, is_prepared: bool = False) -> None:
        begun = self._ended_by_service(connection)
        if begun is not None and not self.undone:
            self.undone = True  # also if the question is cut off
            self.undone = is_prepared or _says_yes(begun.is_dead) or _says_yes(begun.may_have_written)

    def _note_commit(self, connection: Connection, xid: object = None, is_prepared: bool = False) -> None:
        if self.is_ending:
            self.commits_sent += 1
        begun = self._ended_by_service(connection)
        if begun is not None:  # what is prepared for a two-phase commit answers no questions any more
            self.undone = self.undone or (not is_prepared and _says_yes(begun.is_dead))
            self.has_committed = self.has_committed or is_prepared or _says_yes(begun.may_have_written)

    def _ended_by_service(self, connection: Connection) -> Begun | None:
        return None if self.is_ending or self._read_only else self._begun.pop(connection, None)

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
