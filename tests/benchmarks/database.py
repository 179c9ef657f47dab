"""The database of the row ``session``: SQLite in memory, and a statement that writes."""

from typing import Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.pool import StaticPool

from tests.benchmarks.resources import tally

UPDATE = text("UPDATE counters SET value = value + 1")


def counters() -> Engine:
    """A separate database, where each use of its connection is counted as an opening."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE counters (value INTEGER)"))
        connection.execute(text("INSERT INTO counters VALUES (0)"))
    event.listen(engine, "checkout", _opened)
    event.listen(engine, "checkin", _closed)
    return engine


def _opened(*args: Any) -> None:
    tally.opened += 1


def _closed(*args: Any) -> None:
    tally.closed += 1
