"""The database: SQLite, PostgreSQL or MariaDB, chosen by its URL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, event, make_url

from polydatum.backends.sqlalchemy import SQLAlchemyBackend

DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
"""The driver for URLs that name none."""

SERVER: dict[str, Any] = {"isolation_level": "READ COMMITTED"}  # MariaDB, too, then sees others' commits at once
FILE: dict[str, Any] = {
    # SQLite has one writer. Threads of this process take turns on the connection, processes wait for the lock.
    "pool_size": 1,
    "max_overflow": 0,
    "execution_options": {"sqlite_begin": "BEGIN IMMEDIATE"},
    "connect_args": {"timeout": 30},
}


class Database(SQLAlchemyBackend):
    """A session for each context that asks for one.

    Args:
        url: such as ``sqlite:///conduit.db``, ``postgresql://ann@127.0.0.1/conduit``, ``mariadb://ann@127.0.0.1/conduit``.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        parsed = parsed.set(drivername=DRIVERS.get(parsed.drivername, parsed.drivername))
        super().__init__(parsed, **(FILE if parsed.get_backend_name() == "sqlite" else SERVER))

    def connect(self) -> Engine:
        engine = super().connect()
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _prepare_sqlite)
        return engine


def _prepare_sqlite(connection: Any, record: object) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
