"""A database of their own for the tests of a module: SQLite, PostgreSQL or MariaDB."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pymysql

from tests.services import url_of

DATABASES = ["sqlite", "postgres", "mariadb"]
NAME = f"conduit_{os.getpid()}"


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty one, which is dropped at the end."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/conduit.db"
        return
    url = url_of(kind)
    _execute(kind, url, f"CREATE DATABASE {NAME}")
    try:
        yield urlsplit(url)._replace(path=f"/{NAME}").geturl()
    finally:
        _execute(kind, url, f"DROP DATABASE {NAME}")


def _execute(kind: str, url: str, statement: str) -> None:
    if kind == "postgres":
        with psycopg.connect(url, autocommit=True) as postgres:
            postgres.execute(statement.encode())
        return
    parts = urlsplit(url)
    with closing(pymysql.connect(host=parts.hostname, port=parts.port or 0, user=parts.username)) as maria:
        maria.cursor().execute(statement)
