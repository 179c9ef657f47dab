"""SQLite engines made from a URL: complete transactions, and a shared in-memory database."""

from __future__ import annotations

import itertools
import os
import sqlite3
from typing import Any

from sqlalchemy import URL, Connection, Engine, event

_numbers = itertools.count()


def begin_transactions(engine: Engine) -> None:
    """Begin SQLite's transactions where SQLAlchemy's begin, so that rollbacks cover everything, DDL and SAVEPOINT too.

    By default Python's sqlite3 begins one only at the first INSERT, UPDATE or DELETE. This is SQLAlchemy's own recipe.
    The execution option ``sqlite_begin`` replaces the statement, for example by ``"BEGIN IMMEDIATE"``.
    """
    event.listen(engine, "connect", _leave_transactions_alone)
    event.listen(engine, "begin", _begin)


def begins_transactions(engine: Engine) -> bool:
    """Whether `begin_transactions` was applied to the engine."""
    return event.contains(engine, "begin", _begin)


def _leave_transactions_alone(dbapi_connection: Any, record: object) -> None:
    dbapi_connection.isolation_level = None


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


def is_memory(url: URL) -> bool:
    """Whether a URL names SQLite's in-memory database, of which each connection would have its own."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


class SharedMemory:
    """An in-memory database shared by all engines of a backend in this process, with a file's locks and transactions.

    It lasts as long as a connection to it is open.
    """

    def __init__(self) -> None:
        self._number = next(_numbers)

    @property
    def _database(self) -> str:
        return f"file:/polydatum-{os.getpid()}-{self._number}"

    def url(self, url: URL) -> URL:
        """The database's URL, with the options of the given one."""
        return url.set(database=self._database, query={**url.query, "vfs": "memdb", "uri": "true"})

    def keeper(self) -> sqlite3.Connection:
        """A connection that keeps the database alive when all others are closed."""
        return sqlite3.connect(f"{self._database}?vfs=memdb", uri=True, check_same_thread=False)
