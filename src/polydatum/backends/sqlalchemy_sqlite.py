"""SQLite engines that are made from a URL: transactions that are whole, and one database in memory."""

from __future__ import annotations

import itertools
import os
import sqlite3
from typing import Any

from sqlalchemy import URL, Connection, Engine, event

_numbers = itertools.count()


def begin_transactions(engine: Engine) -> None:
    """Have SQLite's transactions begin where SQLAlchemy's do, so that all in them is rolled back, DDL and SAVEPOINT too.

    Python's sqlite3 begins them by itself, at the first INSERT, UPDATE or DELETE. The recipe is SQLAlchemy's. The execution
    option ``sqlite_begin`` says how, such as ``"BEGIN IMMEDIATE"``.
    """
    event.listen(engine, "connect", _leave_transactions_alone)
    event.listen(engine, "begin", _begin)


def begins_transactions(engine: Engine) -> bool:
    """Whether the engine's transactions begin by our BEGIN."""
    return event.contains(engine, "begin", _begin)


def _leave_transactions_alone(dbapi_connection: Any, record: object) -> None:
    dbapi_connection.isolation_level = None


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


def is_memory(url: URL) -> bool:
    """Whether a URL names SQLite's in-memory database, which is another one for each connection."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


class SharedMemory:
    """An in-memory database for all engines of a backend in this process, with a file's locks and transactions.

    It lasts as long as there is a connection to it.
    """

    def __init__(self) -> None:
        self._number = next(_numbers)

    @property
    def _database(self) -> str:
        return f"file:/polydatum-{os.getpid()}-{self._number}"

    def url(self, url: URL) -> URL:
        """Its URL, with the options of the given one."""
        return url.set(database=self._database, query={**url.query, "vfs": "memdb", "uri": "true"})

    def keeper(self) -> sqlite3.Connection:
        """A connection that makes it last, however many others are given up."""
        return sqlite3.connect(f"{self._database}?vfs=memdb", uri=True, check_same_thread=False)
