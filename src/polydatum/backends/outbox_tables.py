"""The tables of outboxes and inboxes, and the SQL that lets several processes share them, for each database.

All statements go through a context's session, in its greenlet if it is async. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from time import time
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Session

from polydatum.errors import ConfigurationError, shown

DATABASES = ("postgresql", "mysql", "mariadb", "sqlite")

_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # the only type that SQLite autoincrements
_JSON = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")  # their TEXT is limited to 64 KiB
# The default collation of most MySQL servers ignores case, so that different ids could collide.
_ID = String(200).with_variant(mysql.VARCHAR(200, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")


def outbox_table(name: str, metadata: MetaData) -> Table:
    """The table of messages that wait to be sent. Each is due at some time, which a failed attempt postpones."""
    return Table(
        name,
        metadata,
        Column("number", _NUMBER, primary_key=True),
        Column("id", _ID, nullable=False),
        Column("path", String(200), nullable=False),
        Column("message", _JSON, nullable=False),
        Column("options", _JSON, nullable=False),
        Column("written", Double, nullable=False),
        Column("due", Double, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("error", String(100)),
        Index(_due_index(name), "due", "number"),
    )


def _due_index(name: str) -> str:
    return f"ix_{name}_due"


def inbox_table(name: str, metadata: MetaData) -> Table:
    """The table of the ids of messages that were handled."""
    return Table(
        name,
        metadata,
        Column("id", _ID, primary_key=True),
        Column("claimed", Double, nullable=False),
        Index(f"ix_{name}_claimed", "claimed"),
    )


# --- The outbox -------------------------------------------------------------------------------------------------------


def write(session: Session, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows."""
    session.execute(insert(table), rows)


def lock_due(session: Session, table: Table, limit: int, until: float) -> tuple[Sequence[Any], bool]:
    """The rows due at ``until``, oldest first, locked until the transaction ends; skips rows locked by others.

    Also returns whether all other writers have to wait until then.
    """
    row = table.c
    due = select(table).where(row.due <= until).order_by(row.due, row.number).limit(limit)
    locks_all = _database(session, table) == "sqlite"
    if locks_all:
        session.execute(update(table).where(row.number == -1).values(attempts=0))
    else:
        _see_what_is_committed(session, table)
        due = due.with_for_update(skip_locked=True)
        for database in ("mysql", "mariadb"):  # they would lock all due rows in order to sort them
            due = due.with_hint(table, f"FORCE INDEX ({_due_index(table.name)})", database)
    return session.execute(due).all(), locks_all


def forget(session: Session, table: Table, numbers: Sequence[int]) -> None:
    """Remove the rows that were sent.

    One by one: to find several, MariaDB may scan the whole table and wait for rows that another relay has locked.
    """
    session.execute(
        delete(table).where(table.c.number == bindparam("row_number")), [{"row_number": n} for n in numbers]
    )


def postpone(session: Session, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Record failed attempts: each item has ``row_number``, and the new ``due``, ``attempts`` and ``error``."""
    session.execute(update(table).where(table.c.number == bindparam("row_number")), rows)


def oldest(session: Session, table: Table, limit: int) -> Sequence[Any]:
    """The waiting messages, oldest first, without their contents."""
    row = table.c
    columns: Iterable[Any] = (row.id, row.path, row.written, row.due, row.attempts, row.error)
    return session.execute(select(*columns).order_by(row.number).limit(limit)).all()


# --- The inbox --------------------------------------------------------------------------------------------------------


def _on_conflict_do_nothing(dialect: Any) -> Callable[[Table], Any]:
    return lambda table: dialect.insert(table).on_conflict_do_nothing()


def _insert_ignore(table: Table) -> Any:
    return insert(table).prefix_with("IGNORE")


_INSERT_IF_NEW: dict[str, Callable[[Table], Any]] = {
    "postgresql": _on_conflict_do_nothing(postgresql),
    "mysql": _insert_ignore,
    "mariadb": _insert_ignore,
    "sqlite": _on_conflict_do_nothing(sqlite),
}


def claim(session: Session, table: Table, message_id: str) -> bool:
    """Insert an id, and return whether it was new. Waits for a transaction that is claiming the same one."""
    statement = _INSERT_IF_NEW[_database(session, table)](table).values(id=message_id, claimed=time())
    added: Any = session.execute(statement, execution_options={"preserve_rowcount": True})
    return bool(added.rowcount)


def prune(session: Session, table: Table, retention: float) -> int:
    """Remove ids claimed more than ``retention`` seconds ago; returns how many those were."""
    if _database(session, table) != "sqlite":
        _see_what_is_committed(session, table)
    removed: Any = session.execute(delete(table).where(table.c.claimed < time() - retention))
    return int(removed.rowcount)


# --- Both -------------------------------------------------------------------------------------------------------------


def _database(session: Session, table: Table) -> str:
    name = session.get_bind(clause=table).dialect.name
    if name not in DATABASES:
        raise ConfigurationError(f"outboxes and inboxes work with {', '.join(DATABASES)}, not with {shown(name)}")
    return name


def _see_what_is_committed(session: Session, table: Table) -> None:
    """Set READ COMMITTED, whatever the engine's default, unless the transaction has already begun.

    At a stricter level the commit may be refused after everything has been sent, and MariaDB would lock the gaps
    between rows, which blocks inserts meanwhile.
    """
    if isinstance(session.get_bind(clause=table), Engine) and not session.in_transaction():
        session.execute(text("SET TRANSACTION ISOLATION LEVEL READ COMMITTED"), bind_arguments={"clause": table})
