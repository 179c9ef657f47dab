"""psycopg and its server, sync and async."""

from __future__ import annotations

from typing import Any, ClassVar

from psycopg_pool import AsyncConnectionPool, ConnectionPool

from polydatum.backends.psycopg import AsyncPsycopgBackend, PsycopgBackend
from polydatum.testing import BackendHost
from tests.backends.sql_servers import NAME, SECRET, PostgresServer


class PsycopgHost(BackendHost):
    """The sync pool."""

    secret = SECRET
    commit = b"COMMIT"
    absent: ClassVar = {"cancel": "a sync call cannot be cancelled"}

    def __init__(self, server: PostgresServer, port: int | None = None) -> None:
        self.server = server
        self.port = port

    def url(self, port: int | None = None) -> str:
        server = self.server
        return (
            f"postgresql://{server.user}:{server.password}@{server.host}:{port or self.port or server.port}"
            f"/{server.database}?application_name={NAME}"
        )

    def make(self, source: Any, **options: Any) -> Any:
        return (AsyncPsycopgBackend if self.is_async else PsycopgBackend)(source, **options)

    def backend(self, **options: Any) -> Any:
        return self.make(self.url(), **options)

    def pool(self, **options: Any) -> Any:
        """One that a user may have made, open."""
        return ConnectionPool(self.url(), open=True, **{"min_size": 0, "max_size": 4, **options})

    def given(self) -> tuple[Any, Any]:
        pool = self.pool()
        return self.make(pool), pool

    def dispose(self, client: Any) -> Any:
        return client.close()

    def unreachable(self) -> Any:
        return self.make(self.url(port=1), timeout=1)

    def write(self, value: Any, key: str, text: str) -> Any:
        return value.execute(f"INSERT INTO {NAME} VALUES (%s, %s)", (key, text))

    def read(self, value: Any, key: str) -> Any:
        row = value.execute(f"SELECT text FROM {NAME} WHERE name = %s", (key,)).fetchone()
        return row and row[0]

    def look(self, key: str) -> str | None:
        return self.server.look(key)

    def slow(self, value: Any) -> Any:
        return value.execute("SELECT pg_sleep(60)")

    def connections(self) -> tuple[int, int]:
        return self.server.connections()


class AsyncPsycopgHost(PsycopgHost):
    """The async pool."""

    is_async = True
    absent: ClassVar = {}

    def pool(self, **options: Any) -> Any:
        return AsyncConnectionPool(self.url(), open=False, **{"min_size": 0, "max_size": 4, **options})

    def given(self) -> tuple[Any, Any]:
        pool = self.pool()
        return _Opening(pool), pool

    async def read(self, value: Any, key: str) -> Any:
        row = await (await value.execute(f"SELECT text FROM {NAME} WHERE name = %s", (key,))).fetchone()
        return row and row[0]


class _Opening(AsyncPsycopgBackend):
    """Over a pool that the application opens at its start, which the contract knows nothing of."""

    async def begin(self, context: Any, client: Any, name: str) -> Any:
        await client.open()
        return await super().begin(context, client, name)


HOSTS = (PsycopgHost, AsyncPsycopgHost)
