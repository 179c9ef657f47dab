"""redis-py and its server, sync and async; writes that wait for the commit, and writes that do not."""

from __future__ import annotations

import os
import socket
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis
import redis.asyncio

from polydatum.backends.redis import AsyncRedisBackend, RedisBackend
from polydatum.testing import BackendHost
from tests.services import url_of

NAME = f"polydatum-{os.getpid()}"
PREFIX = f"{NAME}:"
NOTHING: dict[str, str] = {}
NO_CANCEL = {"cancel": "a thread cannot be cancelled"}
AT_ONCE = {
    "rollback": "what was sent at once stays",
    "isolation": "what was sent at once is seen at once",
    "savepoints": "what was sent at once stays",
}


class RedisHost(BackendHost):
    """The backend under test, and a client of the tests' own that looks from outside."""

    secret = "hush"
    commit = b"EXEC"
    backend_class: Any = RedisBackend
    client_class: Any = redis.Redis
    immediate = False
    absent: Any = NO_CANCEL

    def __init__(self) -> None:
        self.url = url_of("redis")
        self.port: int | None = None
        """Of a proxy in front of the server."""
        self.outside = redis.Redis.from_url(self.url, decode_responses=True, retry=None)

    def close(self) -> None:
        for key in self.outside.scan_iter(match=f"{PREFIX}*", count=1000):
            self.outside.delete(key)
        self.outside.close()

    def backend(self, **options: Any) -> Any:
        parts = urlsplit(self.url)
        login, _, place = parts.netloc.rpartition("@")
        login = login if parts.password else f"default:{self.secret}"  # a default user takes any
        place = place if self.port is None else f"127.0.0.1:{self.port}"
        url = urlunsplit(parts._replace(netloc=f"{login}@{place}", query="client_name=" + NAME))
        return self.backend_class(url, immediate=self.immediate, decode_responses=True, **options)

    def given(self) -> tuple[Any, Any]:
        client = self.client_class.from_url(self.url, decode_responses=True)
        return self.backend_class(client, immediate=self.immediate), client

    def dispose(self, client: Any) -> Any:
        return client.close()

    def unreachable(self) -> Any:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        return self.backend_class(f"redis://127.0.0.1:{port}/0", immediate=self.immediate)

    def write(self, value: Any, key: str, text: str) -> Any:
        value.after_commit.append(PREFIX + key, text)  # sent twice, it would show

    def read(self, value: Any, key: str) -> Any:
        return value.get(PREFIX + key)

    def look(self, key: str) -> str | None:
        return self.outside.get(PREFIX + key)  # type: ignore[return-value]

    def connections(self) -> tuple[int, int]:
        clients: Any = self.outside.client_list()
        found = [client for client in clients if client["name"] == NAME]
        return len(found), sum(client["multi"] != "-1" for client in found)


class AsyncRedisHost(RedisHost):
    is_async = True
    backend_class = AsyncRedisBackend
    client_class = redis.asyncio.Redis
    absent = NOTHING

    def dispose(self, client: Any) -> Any:
        return client.aclose()

    def slow(self, value: Any) -> Any:
        return value.xread({f"{PREFIX}stream": "$"}, block=60_000)


class ImmediateHost(RedisHost):
    immediate = True
    absent = NO_CANCEL | AT_ONCE

    def write(self, value: Any, key: str, text: str) -> Any:
        return value.set(PREFIX + key, text)


class AsyncImmediateHost(AsyncRedisHost):
    immediate = True
    absent = AT_ONCE

    def write(self, value: Any, key: str, text: str) -> Any:
        return value.set(PREFIX + key, text)


HOSTS = (RedisHost, AsyncRedisHost)
"""Effects."""
