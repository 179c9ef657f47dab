"""What each database has to be told and asked at the edges of a transaction, and SQLAlchemy has no word for.

A `Begun` is one transaction of one connection of a session. It is made when the session begins to use the connection,
inside the greenlet of an async one.
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
from polydatum.errors import ConfigurationError, shown
from polydatum.retrying import MARIADB_ROLLED_BACK


class Begun:
    """A transaction of a database that is nothing special: reads only by promise, and may have written.

    Args:
        connection: its connection, on which it has begun.
        joins: whether it is not the session's own, but was under way before; also if the session has set a savepoint.
    """

    def __init__(self, connection: Connection, *, joins: bool) -> None:
        self.connection = connection
        self.savepoint = connection.get_nested_transaction()
        self.joins = joins or self.savepoint is not None

    @staticmethod
    def note_error(context: ExceptionContext) -> None:
        """Called at any error of the engine's connections, of the driver or a cancellation."""

    def is_autocommit(self) -> bool:
        """Whether each statement is kept at once, so that there is no transaction in truth, although nobody told SQLAlchemy."""
        return False

    def refuse_writes(self, name: str) -> None:
        """Have the server refuse them until the transaction ends.

        Raises:
            ConfigurationError: if the server would do so to others as well; the name is the resource's.
        """

    def allow_writes(self) -> None:
        """The connection's next user may write; for whatever does not end with the transaction."""

    def is_dead(self) -> bool:
        """Whether a commit would not keep what was done since it began."""
        return self.connection.invalidated

    def wrote(self) -> bool | None:
        """Whether there is anything to commit; None if the database does not tell."""
        return None

    def may_have_written(self) -> bool:
        """Whether there is anything to commit; yes if the database does not tell."""
        return self.wrote() is not False

    def was_committed(self) -> bool | None:
        """Whether it has, after its connection was lost while it committed; None if that cannot be told."""
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
    """It refuses every statement after an error, and answers the COMMIT by a rollback, without an error."""

    _asked = False
    _xid: str | None = None

    def is_autocommit(self) -> bool:
        """Told by the driver, or by SQLAlchemy's adapter of it, whoever has chosen it."""
        return getattr(self.adapted_connection, "autocommit", False) is True

    def refuse_writes(self, name: str) -> None:
        """It ends with the transaction, or with the savepoint."""
        if self.joins and self.savepoint is None:
            raise ConfigurationError(
                f"resource {shown(name)} cannot be read_only: its session joins a transaction that is under way, all of which "
                "would be so from then on; make the session factory with join_transaction_mode='create_savepoint'"
            )
        self.connection.exec_driver_sql("SET TRANSACTION READ ONLY")

    def is_dead(self) -> bool:
        """Told by the driver, or else asked, as the driver's own cursors may have failed."""
        self._asked = False
        if self.connection.invalidated:
            return True
        driver = self.driver_connection
        status = getattr(getattr(driver, "pgconn", None) or getattr(driver, "info", None), "transaction_status", None)
        if status is not None:  # psycopg and psycopg2 know, whoever has executed what
            return bool(status == IN_FAILED_TRANSACTION)
        return self._refuses_statements()  # pragma: no cover - as below

    def _refuses_statements(self) -> bool:  # pragma: no cover - asyncpg's, in a greenlet, where coverage does not look
        try:
            self.xid()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == IN_FAILED_TRANSACTION_STATE:
                return True
            raise
        return False

    def xid(self) -> str | None:
        """The transaction's id; None if it has not written. Asked for anew after `is_dead`."""
        if not self._asked:
            self._xid = self.connection.exec_driver_sql(TRANSACTION_ID).scalar()
            self._asked = True
        return self._xid

    def wrote(self) -> bool:
        """Exactly."""
        return self.xid() is not None

    def was_committed(self) -> bool | None:
        """Asked over another connection."""
        if self._xid is None:
            return False  # it had nothing to keep
        return was_committed(self._xid, self._ask_anew)

    def _ask_anew(self, statement: str) -> object:
        with self.connection.engine.connect() as connection:
            return connection.exec_driver_sql(statement).one()[-1]


class MariaDB(Begun):
    """MariaDB and MySQL. After some errors the transaction is rolled back whole, and the next statement begins another."""

    ROLLED_BACK = "polydatum_rolled_back"

    def __init__(self, connection: Connection, *, joins: bool) -> None:
        super().__init__(connection, joins=joins)
        connection.info.pop(self.ROLLED_BACK, None)

    @staticmethod
    def note_error(context: ExceptionContext) -> None:
        """Remember one of those."""
        code = next(iter(context.original_exception.args), None)
        if context.connection is not None and code in MARIADB_ROLLED_BACK:
            context.connection.info[MariaDB.ROLLED_BACK] = True

    def is_autocommit(self) -> bool:
        """As on PostgreSQL; not every driver tells without asking the server."""
        tell = getattr(self.adapted_connection, "get_autocommit", None)
        return tell is not None and bool(tell())

    def refuse_writes(self, name: str) -> None:
        """Before any statement has begun the transaction; it ends with it."""
        if self.joins:
            raise ConfigurationError(
                f"resource {shown(name)} cannot be read_only: its session joins a transaction that is under way, which START "
                "TRANSACTION READ ONLY would commit; bind the session factory to an engine, or open the context without "
                "read_only"
            )
        self.connection.exec_driver_sql("START TRANSACTION READ ONLY")

    def is_dead(self) -> bool:
        """Whether an error has taken away what came before it."""
        return super().is_dead() or self.ROLLED_BACK in self.connection.info


class SQLite(Begun):
    """It knows no read-only transaction, but read-only connections."""

    def __init__(self, connection: Connection, *, joins: bool) -> None:
        super().__init__(connection, joins=joins)
        self._driver = self.driver_connection  # for as long as the connection is not invalidated
        self._changes: int = self._driver.total_changes

    @staticmethod
    def note_error(context: ExceptionContext) -> None:
        """A cancelled statement ends now, and its connection stays good.

        SQLAlchemy would close it, as there is a reply under way on other databases. Here there is none; and SQLite would
        hold the locks of a closed connection until the garbage collector has found the last of its cursors.
        """
        if isinstance(context.original_exception, asyncio.CancelledError) and context.connection is not None:
            context.is_disconnect = False
            driver_connection: Any = context.connection.connection.driver_connection
            try:
                driver_connection.interrupt().send(None)  # a coroutine that never suspends
            except StopIteration:
                pass

    def is_autocommit(self) -> bool:
        """Unless a BEGIN was sent, which the driver leaves to others then."""
        driver = self._driver
        return not driver.in_transaction and (
            driver.isolation_level is None or getattr(driver, "autocommit", None) is True
        )

    def refuse_writes(self, name: str) -> None:
        """It outlasts the transaction."""
        self.connection.exec_driver_sql("PRAGMA query_only = ON")

    def allow_writes(self) -> None:
        """Unless the connection was given up."""
        if not self.connection.invalidated:
            self.connection.exec_driver_sql("PRAGMA query_only = OFF")

    def is_dead(self) -> bool:
        """A full disk and some other errors roll back, too; seen if it began by our BEGIN."""
        return self.connection.invalidated or (
            not self._driver.in_transaction and begins_transactions(self.connection.engine)
        )

    def wrote(self) -> bool:
        """By the rows changed: one that has only changed the schema is taken for a reader."""
        return bool(self.driver_connection.total_changes != self._changes)


DATABASES: dict[str, type[Begun]] = {
    "postgresql": PostgreSQL,
    "mariadb": MariaDB,
    "mysql": MariaDB,
    "sqlite": SQLite,
}
"""By the name of SQLAlchemy's dialect."""
