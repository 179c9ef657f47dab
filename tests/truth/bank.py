"""The bank of every stack: a SQLite file with a foreign key that is looked at when a transaction commits, and not before.

A payment to an account that is not there can thus be written and flushed; its commit is refused. That is how a deferred
constraint, a serialization failure or a full disk looks from the outside.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from sqlalchemy import Engine, ForeignKey, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

PATH = Path(os.environ.get("TRUTH_DATABASE", "bank.db"))
"""The file; `serving` names it to the process that it starts."""
ACCOUNTS = ("ann", "bob", "cid")
SCHEMA = """
    CREATE TABLE accounts (name VARCHAR PRIMARY KEY);
    CREATE TABLE payments (
        id INTEGER PRIMARY KEY,
        payee VARCHAR NOT NULL REFERENCES accounts (name) DEFERRABLE INITIALLY DEFERRED,
        "check" VARCHAR NOT NULL
    );
"""


class Conflict(Exception):
    """An error of the application, which a handler of the application answers with a 409."""


class Base(DeclarativeBase):
    """The tables."""


class Account(Base):
    __tablename__ = "accounts"
    name: Mapped[str] = mapped_column(primary_key=True)


class Payment(Base):
    __tablename__ = "payments"
    id: Mapped[int] = mapped_column(primary_key=True)
    payee: Mapped[str] = mapped_column(ForeignKey("accounts.name", deferrable=True, initially="DEFERRED"))
    check: Mapped[str]


def check_foreign_keys(engine: Engine) -> None:
    """Have SQLite look at foreign keys; it does so for each connection that asks for it."""
    event.listen(engine, "connect", lambda connection, record: connection.execute("PRAGMA foreign_keys = ON"))


engine = create_engine(f"sqlite:///{PATH}")
check_foreign_keys(engine)

Sessions = sessionmaker(engine, close_resets_only=False)
"""A session that was closed stays closed. By default it would begin a transaction anew, which nobody ends."""


def session_of_request() -> Iterator[Session]:
    """A session that commits when what uses it has ended, and rolls back if that has raised: SQLAlchemy's own block."""
    with Sessions.begin() as session:
        yield session


def payee(check: str) -> str:
    """Who is paid in a check: somebody without an account if the commit shall be refused."""
    return "nobody" if check == "refused" else ACCOUNTS[0]


def pay(session: Session, check: str) -> None:
    """What the view of each check does first: one row, written but not committed."""
    session.add(Payment(payee=payee(check), check=check))
    session.flush()


def names(session: Session) -> Iterator[str]:
    """A line for each account, read when it is asked for: the body that streams."""
    for name in session.scalars(select(Account.name).order_by(Account.name)):
        yield f"{name}\n"


def make(path: Path) -> None:
    """A new file, with the accounts."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(SCHEMA)
        connection.executemany("INSERT INTO accounts VALUES (?)", [(name,) for name in ACCOUNTS])


def kept(path: Path) -> dict[str, int]:
    """How many rows of each check are in the file."""
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute('SELECT "check", count(*) FROM payments GROUP BY "check"'))
