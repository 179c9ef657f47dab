"""What a test sees of a bank: its journal, its gates and its books."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tests.journals import whole_lines

DEADLINE = 15.0
ANN, BOB = 1000, 0


class Event(NamedTuple):
    """One line of the journal: what happened, in the request of which key, to which opening, in which process."""

    name: str
    key: str
    number: str
    pid: int


class Journal:
    """What happens in the processes that have a folder, and the gates there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open_gate(self, name: str) -> None:
        """Let the requests go on that wait at a gate."""
        (self.folder / f"{name}.gate").touch()

    def events(self, key: str | None = None) -> list[Event]:
        """What has happened, in this order; with a key, in the requests of that key."""
        lines = map(str.split, whole_lines(self.folder / "journal"))
        events = (Event(name, of, number, int(pid)) for name, of, number, pid in lines)
        return [event for event in events if key is None or event.key == key]

    def names(self, key: str) -> list[str]:
        """The names of what has happened in the requests of a key."""
        return [event.name for event in self.events(key)]

    def wait_for(self, name: str, key: str = "-", *, within: float = DEADLINE) -> float:
        """Wait until something has happened; gives the seconds that took."""
        return eventually(lambda: name in self.names(key), f"{name} of {key}", within=within)


class Books(Journal):
    """The folder of a bank, made anew."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        with closing(sqlite3.connect(folder / "bank.db")) as connection, connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE accounts (name TEXT PRIMARY KEY, balance INTEGER)")
            connection.execute(
                "CREATE TABLE transfers (key TEXT, payee TEXT REFERENCES accounts DEFERRABLE INITIALLY DEFERRED)"
            )
            connection.executemany("INSERT INTO accounts VALUES (?, ?)", [("ann", ANN), ("bob", BOB)])

    def still_open(self) -> list[str]:
        """The openings of resources that have not been closed."""
        events = self.events()
        closed = [event.number for event in events if event.name.endswith(".close")]
        assert len(closed) == len(set(closed)), "something was closed twice"
        return [
            f"{event.name} {event.key}"
            for event in events
            if event.name.endswith(".open") and event.number not in closed
        ]

    def is_kept(self, key: str) -> bool:
        """Whether the transfer of a request is in the books."""
        return key in self.kept()

    def kept(self) -> list[str]:
        """The keys of all transfers in the books."""
        return [key for (key,) in self._query("SELECT key FROM transfers")]

    def are_exact(self) -> bool:
        """Whether every transfer in the books moved 1 from ann to bob, and nothing else did."""
        transfers = len(self.kept())
        return dict(self._query("SELECT name, balance FROM accounts")) == {
            "ann": ANN - transfers,
            "bob": BOB + transfers,
        }

    def _query(self, sql: str) -> list[tuple[str, int]]:
        with closing(sqlite3.connect(self.folder / "bank.db", timeout=DEADLINE)) as connection:
            return connection.execute(sql).fetchall()


def eventually(happened: Callable[[], bool], what: str, *, within: float = DEADLINE) -> float:
    """Wait until something is so; gives the seconds that took."""
    started = time.monotonic()
    while not happened():
        assert time.monotonic() - started < within, f"{what}: not within {within} s"
        time.sleep(0.005)
    return time.monotonic() - started
