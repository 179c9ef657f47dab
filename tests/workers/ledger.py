"""What the workers of commands have left in PostgreSQL, in a schema of their own, and who is connected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.servers.books import Journal, eventually
from tests.services import url_of

TABLES = """
CREATE TABLE effects (key text NOT NULL, at_commit text NOT NULL);
CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE NEW.at_commit
        WHEN '' THEN NULL;
        WHEN 'conflicts' THEN RAISE EXCEPTION SQLSTATE '40001';
        WHEN 'refused' THEN RAISE EXCEPTION SQLSTATE '23514';
        WHEN 'waits' THEN PERFORM pg_advisory_xact_lock(hashtext(NEW.key));
    END CASE;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON effects DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION at_commit();
"""


class Ledger(Journal):
    """A schema, made anew, and the folder of the workers' journal. Not through Polydatum.

    Args:
        folder: an empty folder.
        name: of the schema, and of the workers' connections.
    """

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder)
        self.name = name
        self.url = url_of("postgres")
        self._connection = psycopg.connect(self.url, autocommit=True, options=f"-csearch_path={name}")
        self._ask(f"CREATE SCHEMA {name}")
        self._ask(TABLES)

    def drop(self) -> None:
        self._ask(f"DROP SCHEMA {self.name} CASCADE")
        self._connection.close()

    def effects(self, key: str) -> int:
        """How often the command of a key was done."""
        return self.all_effects()[key]

    def all_effects(self) -> Counter[str]:
        """How often each was done, by key."""
        return Counter(key for (key,) in self._ask("SELECT key FROM effects"))

    def connections(self, role: str = "worker") -> list[tuple[int, str]]:
        """Of the workers, or others: their process ids in the server, and their states."""
        name = f"{self.name}-{role}"
        return self._ask("SELECT pid, state FROM pg_stat_activity WHERE application_name = %s", name)

    def is_connected(self, backend: int) -> bool:
        return any(pid == backend for pid, _ in self.connections())

    def transactions(self, role: str = "worker") -> int:
        """How many of these connections are in the middle of something."""
        return sum(state != "idle" for _, state in self.connections(role))

    @contextmanager
    def commit_held(self, key: str) -> Iterator[None]:
        """Let the commit of a key that waits come to its end after the block only."""
        self._ask("SELECT pg_advisory_lock(hashtext(%s))", key)
        try:
            yield
        finally:
            self._ask("SELECT pg_advisory_unlock(hashtext(%s))", key)

    def wait_for_commit(self) -> None:
        """Wait until the COMMIT of a worker waits."""
        waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND wait_event = 'advisory' AND query = 'COMMIT'"
        eventually(lambda: bool(self._ask(waits, f"{self.name}-worker")), "a COMMIT waits")

    def _ask(self, sql: Any, *params: object) -> list[Any]:
        cursor = self._connection.execute(sql, params or None)
        return cursor.fetchall() if cursor.description else []
