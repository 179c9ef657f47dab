"""Detects that a service, and not the context, ends a transaction by a statement.

Django does not inspect what a cursor executes. So a ``COMMIT``, or DDL on MariaDB, would keep work that the context then
rolls back, and a ``ROLLBACK`` would undo work that it then commits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_IDLE = 0
"""libpq's transaction state without a transaction."""
_DEADLOCK = 1213
"""MySQL's error number after which the server has rolled back the whole transaction."""
_COMMENTS = r"(?:\s|/\*.*?\*/|(?:--|#)[^\n]*\n)*"
_VERB = re.compile(_COMMENTS + r"(\w+)", re.DOTALL)
_ENDS_ON_MYSQL = re.compile(
    _COMMENTS + r"(?:(ROLLBACK)\b(?!\s+(?:WORK\s+)?TO\b)"
    r"|(?:COMMIT|BEGIN|START|ALTER|RENAME|TRUNCATE|GRANT|REVOKE|LOCK|ANALYZE|OPTIMIZE|REPAIR)\b"
    r"|(?:CREATE|DROP)\b(?!\s+TEMPORARY\b))",
    re.DOTALL | re.IGNORECASE,
)
"""MySQL drivers do not tell whether a transaction is open; and DDL commits in any case."""


class EndWatch:
    """Notices, on a Django connection, that statements of services end the transaction.

    Attributes:
        has_committed: whether they have committed the work before them.
        undone: whether they have rolled it back.
    """

    def __init__(self, connection: Any) -> None:
        self.has_committed = False
        self.undone = False
        self._connection = connection
        self._is_inside = False

    def begin(self) -> None:
        """Start watching: the context's transaction has begun, and nothing is undone."""
        self.undone = False
        self._connection.execute_wrappers.insert(
            0, self
        )  # first, as leaving an execute_wrapper() block removes the last one

    def end(self) -> None:
        """Stop watching: from now on the context itself ends the transaction."""
        self._is_inside = False
        self._connection.execute_wrappers.remove(self)

    def look(self) -> bool:
        """Whether the transaction is under way; notes an end unseen by Django, as by the driver's own methods."""
        is_inside = self._is_in_transaction()
        if self._is_inside and not is_inside:
            self._is_inside = False
            self.undone = self.has_committed = True  # it is not known which of the two
        return is_inside

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Called by Django around each statement."""
        was_inside = self.look()
        try:
            result = execute(sql, params, many, context)
        except BaseException as error:
            self._note_executed(sql, was_inside, error=error)
            raise
        self._note_executed(sql, was_inside, cursor=context["cursor"].cursor)
        return result

    def _note_executed(
        self, sql: Any, was_inside: bool, *, cursor: Any = None, error: BaseException | None = None
    ) -> None:
        self._is_inside = self._is_in_transaction()
        if self._connection.vendor == "mysql":
            found = _ENDS_ON_MYSQL.match(str(sql))
            if found:
                self._note_end(committed=not found[1], undone=bool(found[1] or error))
            elif error is not None and error.args[:1] == (_DEADLOCK,):
                self._connection.needs_rollback = True
        elif was_inside and not self._is_inside:
            verb = "ROLLBACK" if error else _verb(sql, cursor)
            self._note_end(committed=verb != "ROLLBACK", undone=verb not in ("COMMIT", "END"))

    def _note_end(self, *, committed: bool, undone: bool) -> None:
        """Note the end; both are set if it is not known which one happened."""
        self.has_committed = self.has_committed or committed
        self.undone = self.undone or undone

    def _is_in_transaction(self) -> bool:
        """By the server's last answer; unchanged if the driver cannot tell or the connection is lost."""
        raw = self._connection.connection
        if raw is not None and self._connection.vendor == "postgresql":
            driver = (
                getattr(raw, "pgconn", None) or raw.info
            )  # psycopg 3 has `pgconn`, and creates `info` at each access
            return bool(driver.transaction_status != _IDLE)
        if raw is not None and self._connection.vendor == "sqlite":
            try:
                return bool(raw.in_transaction)
            except self._connection.Database.Error:  # it is closed
                return self._is_inside
        return self._is_inside


def _verb(sql: Any, cursor: Any) -> str:
    """The verb of the statement; PostgreSQL's own if known: it answers ROLLBACK to the COMMIT of a failed transaction."""
    found = _VERB.match(getattr(cursor, "statusmessage", None) or str(sql))
    return found[1].upper() if found else ""
