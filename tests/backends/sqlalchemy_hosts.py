"""SQLAlchemy's drivers and their databases, for the contract and the tests that are special to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import URL, Column, Engine, MetaData, String, Table, create_engine, insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from polydatum.backends.sqlalchemy import AsyncSQLAlchemyBackend, SQLAlchemyBackend
from polydatum.testing import BackendHost
from tests.backends.sql_servers import NAME, PLAIN, SECRET, MariaServer, PostgresServer, Server, SQLiteServer

ENTRIES = Table(NAME, MetaData(), Column("name", String(100), primary_key=True), Column("text", String(100)))


class Base(DeclarativeBase):
    """What is mapped."""

    metadata = ENTRIES.metadata


class Entry(Base):
    """The table, mapped."""

    __table__ = ENTRIES


class SQLAlchemyHost(BackendHost):
    """A driver with its server."""

    driver: str
    options: ClassVar = {}
    slow_statement: str
    commit = b"COMMIT"
    """What a request that commits begins with, about."""

    def __init__(self, server: Any, port: int | None = None) -> None:
        self.server: Any = server
        self.port = port

    @property
    def url(self) -> URL:
        """The server's, or that of a proxy before it."""
        server: Any = self.server
        return URL.create(
            self.driver, server.user, server.password or None, server.host, self.port or server.port, server.database
        )

    def make(self, source: Any, **options: Any) -> Any:
        return (AsyncSQLAlchemyBackend if self.is_async else SQLAlchemyBackend)(source, **options)

    def backend(self, **options: Any) -> Any:
        return self.make(self.url, **self.options, **options)

    def engine(self, **options: Any) -> Engine | AsyncEngine:
        """One that a user may have made."""
        return (create_async_engine if self.is_async else create_engine)(self.url, **self.options, **options)

    def given(self) -> tuple[Any, Any]:
        engine = self.engine()
        return self.make(engine), engine

    def dispose(self, client: Any) -> Any:
        return client.dispose()

    def unreachable(self) -> Any:
        return self.make(self.url.set(port=1), **self.options)

    def write(self, value: Any, key: str, text: str) -> Any:
        return value.execute(insert(ENTRIES).values(name=key, text=text))

    def read(self, value: Any, key: str) -> Any:
        return value.scalar(select(ENTRIES.c.text).where(ENTRIES.c.name == key))

    def look(self, key: str) -> str | None:
        return self.server.look(key)  # type: ignore[no-any-return]

    def slow(self, value: Any) -> Any:
        return value.execute(text(self.slow_statement))

    def connections(self) -> tuple[int, int]:
        return self.server.connections()  # type: ignore[no-any-return]


class PsycopgHost(SQLAlchemyHost):
    driver = "postgresql+psycopg"
    options: ClassVar = {"connect_args": {"application_name": NAME}}
    secret = SECRET
    slow_statement = "SELECT pg_sleep(60)"
    absent: ClassVar = {"cancel": "a sync call cannot be cancelled"}


class AsyncPsycopgHost(PsycopgHost):
    is_async = True
    absent: ClassVar = {}


class AsyncpgHost(AsyncPsycopgHost):
    driver = "postgresql+asyncpg"
    options: ClassVar = {"connect_args": {"server_settings": {"application_name": NAME}}}


class PyMySQLHost(SQLAlchemyHost):
    driver = "mysql+pymysql"
    options: ClassVar = {"connect_args": PLAIN}
    commit = b"\x03COMMIT"
    slow_statement = "SELECT SLEEP(60)"
    absent: ClassVar = {"cancel": "a sync call cannot be cancelled"}


class AsyncmyHost(PyMySQLHost):
    driver = "mariadb+asyncmy"
    options: ClassVar = {}
    is_async = True
    absent: ClassVar = {}


class SQLiteHost(SQLAlchemyHost):
    driver = "sqlite+pysqlite"
    slow_statement = (
        "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 500000)"
        " SELECT max(n) FROM number"
    )
    absent: ClassVar = {"cancel": "a sync call cannot be cancelled", "counts": "no server", "unreachable": "no server"}

    @property
    def url(self) -> URL:
        return URL.create(self.driver, database=str(self.server.path))


class AiosqliteHost(SQLiteHost):
    driver = "sqlite+aiosqlite"
    is_async = True
    absent: ClassVar = {"counts": "no server", "unreachable": "no server"}


POSTGRES = (PsycopgHost, AsyncPsycopgHost, AsyncpgHost)
MARIA = (PyMySQLHost, AsyncmyHost)
SQLITE = (SQLiteHost, AiosqliteHost)
HOSTS = POSTGRES + MARIA + SQLITE


def server_for(host: type[SQLAlchemyHost], folder: Path) -> Server:
    if host in POSTGRES:
        return PostgresServer()
    return MariaServer() if host in MARIA else SQLiteServer(folder)


def on(*hosts: type[SQLAlchemyHost]) -> Any:
    """Tests on these drivers only, which their fixture `host` makes."""
    return pytest.mark.parametrize("host", hosts, ids=lambda host: host.__name__, indirect=True)
