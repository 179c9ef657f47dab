"""PostgreSQL, MariaDB and SQLite, with a table of their own for each test process, looked at from outside."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pymysql

from tests.forking import fork
from tests.services import url_of

NAME = f"polydatum_{os.getpid()}"
"""Of the table, the application and the MariaDB database of this process."""
SECRET = "s3cret-canary"
PLAIN = {"ssl_disabled": True}
"""For PyMySQL, which otherwise reads the certificates of all authorities for each connection, which takes longer than most tests do."""


class Server:
    """A database with a table ``NAME`` of keys and texts, over a connection of its own for each question."""

    placeholder = "%s"

    def ask(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Execute one statement and commit; gives the rows, if there are any."""
        raise NotImplementedError

    def make_table(self) -> None:
        self.ask(f"CREATE TABLE {NAME} (name VARCHAR(100) PRIMARY KEY, text VARCHAR(100) NOT NULL)")

    def drop_table(self) -> None:
        self.ask(f"DROP TABLE {NAME}")

    def look(self, key: str) -> str | None:
        rows = self.ask(f"SELECT text FROM {NAME} WHERE name = {self.placeholder}", key)
        return rows[0][0] if rows else None

    def connections(self) -> tuple[int, int]:
        raise NotImplementedError


class PostgresServer(Server):
    """PostgreSQL; connections are known by their ``application_name``."""

    def __init__(self) -> None:
        self.url = url_of("postgres")
        parts = urlsplit(self.url)
        assert parts.hostname
        assert parts.port
        self.host, self.port = parts.hostname, parts.port
        self.user, self.database = parts.username, parts.path.removeprefix("/")
        self.password = parts.password or SECRET  # with trust authentication any will do

    def ask(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement, arguments or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def connections(self) -> tuple[int, int]:
        rows = self.ask("SELECT state FROM pg_stat_activity WHERE application_name = %s", NAME)
        return len(rows), sum(state.startswith("idle in transaction") for (state,) in rows if state)


class MariaServer(Server):
    """MariaDB; connections are known by their database."""

    def __init__(self) -> None:
        self.url = url_of("mariadb")
        parts = urlsplit(self.url)
        assert parts.hostname
        assert parts.port
        self.host, self.port = parts.hostname, parts.port
        self.user, self.password = parts.username or "", parts.password or ""
        self.database = NAME

    def ask(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        connection = pymysql.connect(
            host=self.host, port=self.port, user=self.user, password=self.password, autocommit=True, **PLAIN
        )
        with closing(connection), connection.cursor() as cursor:
            cursor.execute(statement.replace(f" {NAME} ", f" {NAME}.{NAME} "), arguments)
            return list(cursor.fetchall())

    def make_table(self) -> None:
        self.ask(f"CREATE DATABASE {NAME}")
        super().make_table()

    def drop_table(self) -> None:
        self.ask(f"DROP DATABASE {NAME}")

    def connections(self) -> tuple[int, int]:
        rows = self.ask(
            "SELECT trx_id FROM information_schema.processlist LEFT JOIN information_schema.innodb_trx"
            " ON trx_mysql_thread_id = id WHERE db = %s",
            NAME,
        )
        return len(rows), sum(transaction is not None for (transaction,) in rows)


class SQLiteServer(Server):
    """A file of SQLite."""

    placeholder = "?"

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shop.db"

    def ask(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(statement, arguments).fetchall()


@contextmanager
def table_on(server: Server) -> Iterator[Server]:
    server.make_table()
    try:
        yield server
    finally:
        server.drop_table()


def in_child(host: Any, check: Callable[[], None]) -> int:
    """Run a check in a forked child; gives its exit code."""

    def work() -> None:
        if host.is_async:
            asyncio.events._set_running_loop(None)  # the parent's, which does not run there
        check()

    return fork(work)()
