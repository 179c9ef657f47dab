"""The bank of every stack: a SQLite file with a deferred foreign key, which is checked only when a transaction commits.

So a payment to a missing account can be written and flushed, but its commit is refused. From the outside, a
serialization failure or a full disk looks the same.
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
"""The file; `serving` passes it to the process that it starts."""
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
    """An application error, which one of the application's handlers answers with a 409."""


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
    """Make SQLite check foreign keys, which has to be switched on per connection."""
    event.listen(engine, "connect", lambda connection, record: connection.execute("PRAGMA foreign_keys = ON"))


engine = create_engine(f"sqlite:///{PATH}")
check_foreign_keys(engine)

Sessions = sessionmaker(engine, close_resets_only=False)
"""A closed session stays closed. By default, using it would begin a new transaction, which nobody ends."""


def session_of_request() -> Iterator[Session]:
    """A session that commits at the end of the block, or rolls back if the block raises: SQLAlchemy's own idiom."""
    with Sessions.begin() as session:
        yield session


def payee(check: str) -> str:
    """The payee in a check: one without an account if the commit is to be refused."""
    return "nobody" if check == "refused" else ACCOUNTS[0]


def pay(session: Session, check: str) -> None:
    """The first step of each view: writes a row, without a commit."""
    session.add(Payment(payee=payee(check), check=check))
    session.flush()


def names(session: Session) -> Iterator[str]:
    """A line for each account, read lazily: the streamed body."""
    for name in session.scalars(select(Account.name).order_by(Account.name)):
        yield f"{name}\n"


def make(path: Path) -> None:
    """Create the file, with the accounts."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(SCHEMA)
        connection.executemany("INSERT INTO accounts VALUES (?)", [(name,) for name in ACCOUNTS])


def kept(path: Path) -> dict[str, int]:
    """The number of committed rows by check."""
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute('SELECT "check", count(*) FROM payments GROUP BY "check"'))
