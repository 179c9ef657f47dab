"""What each database needs at the start and the end of a transaction, beyond SQLAlchemy's own interface.

A `Begun` is one transaction on one connection of a session. It is created when the session begins to use the
connection, in the greenlet of an async one.
"""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import Connection, ExceptionContext
from sqlalchemy.exc import DBAPIError

from polydatum.backends.postgresql import (
    IN_FAILED_TRANSACTION,
    IN_FAILED_TRANSACTION_STATE,
    TRANSACTION_ID,
    was_committed,
)
from polydatum.backends.sqlalchemy_sqlite import begins_transactions
from polydatum.errors import ConfigurationError, kind_of, shown
from polydatum.retrying import MARIADB_ROLLED_BACK


class Begun:
    """A transaction of a database without special support: cannot enforce read-only, and may always have written.

    Args:
        connection: the connection on which the transaction has begun.
        joins: whether the session joined a transaction that was already under way, with or without a savepoint of its
            own.
    """

    def __init__(self, connection: Connection, *, joins: bool) -> None:
        self.connection = connection
        self.savepoint = connection.get_nested_transaction()
        self.joins = joins or self.savepoint is not None

    @staticmethod
    def note_error(context: ExceptionContext) -> None:
        """Called for any error on the engine's connections: the driver's, or a cancellation."""

    def is_autocommit(self) -> bool:
        """Whether the driver commits each statement at once, without SQLAlchemy knowing."""
        return False

    def refuse_writes(self, name: str) -> None:
        """Make the server refuse writes until the transaction ends.

        Raises:
            ConfigurationError: if that would affect others, too; ``name`` is the resource's.
        """

    def allow_writes(self) -> None:
        """Undo `refuse_writes` for the connection's next user, where the setting outlasts the transaction."""

    def is_dead(self) -> bool:
        """Whether a commit would not keep the changes made since the transaction began."""
        return self.connection.invalidated

    def fatal(self, last: str) -> str:
        """The error that made `is_dead` true; ``last`` is the last one that was noted."""
        return last

    def wrote(self) -> bool | None:
        """Whether there is anything to commit; None if the database cannot tell."""
        return None

    def may_have_written(self) -> bool:
        """Whether there is anything to commit; True if the database cannot tell."""
        return self.wrote() is not False

    def was_committed(self) -> bool | None:
        """Whether the transaction committed, after the connection was lost during the commit; None if unknown."""
        return None

    @property
    def adapted_connection(self) -> Any:
        """The driver's connection, or SQLAlchemy's adapter of an async one."""
        return self.connection.connection.dbapi_connection

    @property
    def driver_connection(self) -> Any:
        """The driver's own connection, below SQLAlchemy's adapter."""
        return self.connection.connection.driver_connection


class PostgreSQL(Begun):
    """After an error PostgreSQL refuses every statement, and answers COMMIT by a silent rollback."""

    _asked = False
    _xid: str | None = None

    def is_autocommit(self) -> bool:
        """The driver or SQLAlchemy's adapter knows, no matter who has set it."""
        return getattr(self.adapted_connection, "autocommit", False) is True

    def refuse_writes(self, name: str) -> None:
        """The setting ends with the transaction, or with the savepoint."""
        if self.joins and self.savepoint is None:
            raise ConfigurationError(
                f"resource {shown(name)} cannot be read_only: its session joins a transaction that is under way, which "
                "would become read-only as a whole; make the session factory with join_transaction_mode='create_savepoint'"
            )
        self.connection.exec_driver_sql("SET TRANSACTION READ ONLY")

    def is_dead(self) -> bool:
        """The driver knows; otherwise ask the server, as a statement on the driver's own cursor may have failed."""
        self._asked = False
        if self.connection.invalidated:
            return True
        driver = self.driver_connection
        status = getattr(getattr(driver, "pgconn", None) or getattr(driver, "info", None), "transaction_status", None)
        if status is not None:  # psycopg and psycopg2 know, including errors on their own cursors
            return bool(status == IN_FAILED_TRANSACTION)
        return self._refuses_statements()  # pragma: no cover - as below

    def _refuses_statements(self) -> bool:  # pragma: no cover - asyncpg only, in a greenlet: not traced
        try:
            self.xid()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == IN_FAILED_TRANSACTION_STATE:
                return True
            raise
        return False

    def xid(self) -> str | None:
        """The transaction's id; None if it has not written. Queried again after `is_dead`."""
        if not self._asked:
            self._xid = self.connection.exec_driver_sql(TRANSACTION_ID).scalar()
            self._asked = True
        return self._xid

    def wrote(self) -> bool:
        """Exact: a transaction that has written has an id."""
        return self.xid() is not None

    def was_committed(self) -> bool | None:
        """Ask the server over another connection."""
        if self._xid is None:
            return False  # it had nothing to commit
        return was_committed(self._xid, self._ask_anew)

    def _ask_anew(self, statement: str) -> object:
        with self.connection.engine.connect() as connection:
            return connection.exec_driver_sql(statement).one()[-1]


class MariaDB(Begun):
    """MariaDB and MySQL. Some errors roll the whole transaction back, and the next statement begins another."""

    ROLLED_BACK = "polydatum_rolled_back"

    def __init__(self, connection: Connection, *, joins: bool) -> None:
        super().__init__(connection, joins=joins)
        connection.info.pop(self.ROLLED_BACK, None)

    @staticmethod
    def note_error(context: ExceptionContext) -> None:
        """Note an error that has rolled the transaction back."""
        code = next(iter(context.original_exception.args), None)
        if context.connection is not None and code in MARIADB_ROLLED_BACK:
            context.connection.info[MariaDB.ROLLED_BACK] = kind_of(context.original_exception)

    def is_autocommit(self) -> bool:
        """As on PostgreSQL; some drivers cannot tell without asking the server."""
        tell = getattr(self.adapted_connection, "get_autocommit", None)
        return tell is not None and bool(tell())

    def refuse_writes(self, name: str) -> None:
        """Called before any statement has begun the transaction; the setting ends with it."""
        if self.joins:
            raise ConfigurationError(
                f"resource {shown(name)} cannot be read_only: its session joins a transaction that is under way, which START "
                "TRANSACTION READ ONLY would commit; bind the session factory to an engine, or open the context without "
                "read_only"
            )
        self.connection.exec_driver_sql("START TRANSACTION READ ONLY")

    def is_dead(self) -> bool:
        """Whether an error has rolled back the changes made before it."""
        return super().is_dead() or self.ROLLED_BACK in self.connection.info

    def fatal(self, last: str) -> str:
        """Not the last error, if others have followed the one that rolled back."""
        return last if self.connection.invalidated else str(self.connection.info[self.ROLLED_BACK])


class SQLite(Begun):
    """SQLite has no read-only transactions, only read-only connections."""

    def __init__(self, connection: Connection, *, joins: bool) -> None:
        super().__init__(connection, joins=joins)
        self._driver = self.driver_connection  # valid until the connection is invalidated
        self._changes: int = self._driver.total_changes

    @staticmethod
    def note_error(context: ExceptionContext) -> None:
        """Interrupt a cancelled statement, and keep its connection.

        SQLAlchemy would close it, as other databases still have a reply under way. SQLite has none, and would hold the
        locks of a closed connection until the last of its cursors is garbage-collected.
        """
        if isinstance(context.original_exception, asyncio.CancelledError) and context.connection is not None:
            context.is_disconnect = False
            driver_connection: Any = context.connection.connection.driver_connection
            try:
                driver_connection.interrupt().send(None)  # a coroutine that never suspends
            except StopIteration:
                pass

    def is_autocommit(self) -> bool:
        """The driver leaves BEGIN to others, and none was sent."""
        driver = self._driver
        return not driver.in_transaction and (
            driver.isolation_level is None or getattr(driver, "autocommit", None) is True
        )

    def refuse_writes(self, name: str) -> None:
        """The setting outlasts the transaction."""
        self.connection.exec_driver_sql("PRAGMA query_only = ON")

    def allow_writes(self) -> None:
        """Needless if the connection was invalidated."""
        if not self.connection.invalidated:
            self.connection.exec_driver_sql("PRAGMA query_only = OFF")

    def is_dead(self) -> bool:
        """A full disk and some other errors roll back, too; detected only if our own BEGIN began the transaction."""
        return self.connection.invalidated or (
            not self._driver.in_transaction and begins_transactions(self.connection.engine)
        )

    def wrote(self) -> bool:
        """Counts changed rows: a transaction that only changed the schema counts as a reader."""
        return bool(self.driver_connection.total_changes != self._changes)


DATABASES: dict[str, type[Begun]] = {
    "postgresql": PostgreSQL,
    "mariadb": MariaDB,
    "mysql": MariaDB,
    "sqlite": SQLite,
}
"""Keyed by the name of SQLAlchemy's dialect."""
