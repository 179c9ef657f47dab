"""What a backend takes in place of a URL: the client of its own kind, and nothing else."""

from __future__ import annotations

import sys
from typing import Any

import httpx
import httpx2
import psycopg_pool
import pytest
import redis.asyncio
from obstore.store import LocalStore, MemoryStore

from polydatum import ConfigurationError
from polydatum.backends.blobs import AsyncBlobBackend, BlobBackend
from polydatum.backends.http import AsyncHttpBackend, HttpBackend
from polydatum.backends.mongo import AsyncMongoBackend, MongoBackend
from polydatum.backends.psycopg import AsyncPsycopgBackend, PsycopgBackend
from polydatum.backends.redis import AsyncRedisBackend, RedisBackend


class OwnStore(MemoryStore):
    """A user's subclass."""


@pytest.mark.parametrize(
    ("backend", "client"),
    [
        (HttpBackend, httpx2.Client()),
        (HttpBackend, httpx.Client()),
        (AsyncHttpBackend, httpx2.AsyncClient()),
        (AsyncHttpBackend, httpx.AsyncClient()),
        (PsycopgBackend, psycopg_pool.ConnectionPool("", open=False)),
        (PsycopgBackend, psycopg_pool.NullConnectionPool("", open=False)),
        (AsyncPsycopgBackend, psycopg_pool.AsyncConnectionPool("", open=False)),
        (RedisBackend, redis.Redis()),
        (AsyncRedisBackend, redis.asyncio.Redis()),
        *((kind, store) for kind in (BlobBackend, AsyncBlobBackend) for store in (LocalStore(), OwnStore())),
    ],
    ids=lambda thing: thing.__name__ if isinstance(thing, type) else type(thing).__name__,
)
def test_its_own(backend: Any, client: Any) -> None:
    assert backend(client)._given is client


@pytest.mark.parametrize(
    ("backend", "client", "said"),
    [
        (HttpBackend, httpx2.AsyncClient(), r" URL, httpx2\.Client or httpx\.Client, not a httpx2\.AsyncClient"),
        (AsyncHttpBackend, httpx.Client(), r"httpx2\.AsyncClient or httpx\.AsyncClient, not a httpx\.Client"),
        (PsycopgBackend, psycopg_pool.AsyncConnectionPool("", open=False), r"ConnectionPool, not a .*AsyncConnection"),
        (
            AsyncPsycopgBackend,
            psycopg_pool.ConnectionPool("", open=False),
            r"AsyncConnectionPool, not a .*\.Connection",
        ),
        (RedisBackend, redis.asyncio.Redis(), r" URL or redis\.client\.Redis, not a redis\.asyncio\.client\.Redis"),
        (AsyncRedisBackend, redis.Redis(), r" URL or redis\.asyncio\.client\.Redis, not a redis\.client\.Redis"),
        (MongoBackend, object(), r"MongoClient, not a object"),
        (AsyncMongoBackend, None, r"AsyncMongoClient, not a NoneType"),
        (BlobBackend, httpx.Client(), r"LocalStore.* or .*S3Store, not a httpx\.Client"),
        (AsyncBlobBackend, object(), r"S3Store, not a object"),
    ],
)
def test_another(backend: Any, client: Any, said: str) -> None:
    """Refused where it is given, not where it is used first."""
    with pytest.raises(ConfigurationError, match=f"^{backend.__name__} takes a.*{said}"):
        backend(client)


def test_another_client_of_a_kind_that_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """httpx is an alternative where it is installed."""
    monkeypatch.delitem(sys.modules, "httpx")
    with pytest.raises(ConfigurationError, match=r"takes a URL or httpx2\.Client, not a object"):
        HttpBackend(object())
