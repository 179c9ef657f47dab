"""The SQLite file: its schema, its first items, and how to connect to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    price_cents INTEGER NOT NULL CHECK (price_cents >= 0),
    stock INTEGER NOT NULL CHECK (stock >= 0)
);
CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY
);
-- Deferred: SQLite looks for the item when the transaction commits. That is how a commit can be made to fail.
CREATE TABLE IF NOT EXISTS order_lines (
    order_id INTEGER NOT NULL REFERENCES orders (id),
    item_id INTEGER NOT NULL REFERENCES items (id) DEFERRABLE INITIALLY DEFERRED,
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    price_cents INTEGER NOT NULL CHECK (price_cents >= 0)
);
CREATE INDEX IF NOT EXISTS lines_of_order ON order_lines (order_id);
"""

FIRST_ITEMS = [
    (1, "teapot", 2400, 5),
    (2, "cup", 600, 24),
    (3, "green tea", 950, 3),
]


def create_database(path: Path) -> None:
    """Create the tables and the first items, unless the file already has them."""
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")  # readers and the writer do not wait for each other
        connection.executescript(SCHEMA)
        with connection:
            connection.executemany("INSERT OR IGNORE INTO items VALUES (?, ?, ?, ?)", FIRST_ITEMS)


def connect(path: Path) -> sqlite3.Connection:
    """A new connection. Its first write begins a transaction, after waiting for other writers to finish theirs."""
    connection = sqlite3.connect(
        path,
        isolation_level="IMMEDIATE",
        check_same_thread=False,  # a web framework may open it in one thread and close it in another
    )
    connection.execute("PRAGMA foreign_keys = ON")
    return connection
