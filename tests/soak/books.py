"""The state of the database servers in a soak test: the rows, the balances, and the connections."""

from __future__ import annotations

import secrets
import time
from typing import Any

import psycopg
import redis

ACCOUNTS = 100
USERS = 200
OPENING = 1000
PATIENCE = 10.0
"""Seconds for a server to notice that a connection was closed."""


class Books:
    """The tables and keys of one run, created, read and dropped without Polydatum."""

    def __init__(self, postgres: str, redis_url: str, run: str) -> None:
        self.run = run
        self.canaries = [secrets.token_hex(8) for _ in range(USERS)]
        self._db = psycopg.connect(postgres, autocommit=True, application_name=f"{run}-books")
        self._cache: Any = redis.Redis.from_url(redis_url, decode_responses=True)

    def open(self) -> None:
        """Create everything from scratch."""
        self.drop()
        run: Any = self.run
        self._do(f"CREATE TABLE {run}_users (id int PRIMARY KEY, canary text)")
        self._do(f"CREATE TABLE {run}_accounts (id int PRIMARY KEY, balance bigint)")
        self._do(f"CREATE TABLE {run}_transfers (id int PRIMARY KEY, source int, target int, amount int)")
        with self._db.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {run}_users VALUES (%s, %s)", list(enumerate(self.canaries)))
            cursor.executemany(f"INSERT INTO {run}_accounts VALUES (%s, {OPENING})", [(n,) for n in range(ACCOUNTS)])
        self._cache.mset({f"{run}:{user}": canary for user, canary in enumerate(self.canaries)})
        self._cache.set(f"{run}:kept", 0)

    def drop(self) -> None:
        for table in ("users", "accounts", "transfers"):
            self._do(f"DROP TABLE IF EXISTS {self.run}_{table}")
        keys = list(self._cache.scan_iter(f"{self.run}:*", count=1000))
        if keys:
            self._cache.delete(*keys)

    def close(self) -> None:
        self.drop()
        self._db.close()
        self._cache.close()

    def transfers(self) -> set[int]:
        """The ids of all committed rows."""
        return {id for (id,) in self._do(f"SELECT id FROM {self.run}_transfers")}

    def counted(self) -> int:
        """How many contexts have counted themselves in Redis after their commit."""
        return int(self._cache.get(f"{self.run}:kept"))

    def sum_error(self) -> int:
        """The error in the sum of all money."""
        (total,) = self._do(f"SELECT sum(balance) FROM {self.run}_accounts")[0]
        return int(total) - ACCOUNTS * OPENING

    def wrong_accounts(self) -> int:
        """How many balances disagree with the rows of transfers."""
        return len(
            self._do(f"""
            SELECT a.id FROM {self.run}_accounts a WHERE balance <> {OPENING}
            + (SELECT coalesce(sum(amount), 0) FROM {self.run}_transfers WHERE target = a.id)
            - (SELECT coalesce(sum(amount), 0) FROM {self.run}_transfers WHERE source = a.id)
            """)
        )

    def terminate_one(self) -> list[int]:
        """Terminate the connection of a random running request; returns its process id, if there was one."""
        return [
            pid
            for pid, _ in self._do(
                "SELECT pid, pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity"
                " WHERE application_name = %s AND state <> 'idle' ORDER BY random() LIMIT 1) AS one",
                (self.run,),
            )
        ]

    def connections(self) -> tuple[int, int, int]:
        """The number of PostgreSQL's connections, of those that are not idle, and of Redis' connections."""
        states = [
            state
            for (state,) in self._do("SELECT state FROM pg_stat_activity WHERE application_name = %s", (self.run,))
        ]
        clients = [client for client in self._cache.client_list() if client["name"] == self.run]
        return len(states), sum(state != "idle" for state in states), len(clients)

    def connections_at_rest(self, limits: tuple[int, int, int]) -> tuple[int, int, int]:
        """The connections, once they are within limits, or after the timeout."""
        deadline = time.monotonic() + PATIENCE
        counts = self.connections()
        while time.monotonic() < deadline and any(count > limit for count, limit in zip(counts, limits, strict=True)):
            time.sleep(0.02)
            counts = self.connections()
        return counts

    def _do(self, sql: Any, params: Any = None) -> list[Any]:
        cursor = self._db.execute(sql, params)
        return cursor.fetchall() if cursor.description else []
