"""MongoDB through PyMongo, sync and async: one transaction per context, in which every operation takes part."""

from __future__ import annotations

from typing import Any, Generic, TypeVar
from urllib.parse import unquote, urlsplit

from polydatum.clients import AsyncBackend, Backend
from polydatum.errors import CommitOutcomeUnknown, ConfigurationError, MissingClientError, RollbackOnlyError
from polydatum.transactions import AsyncTransaction, Transaction

from .sources import given_client, shown_url

try:
    import pymongo
    from pymongo import AsyncMongoClient, MongoClient
    from pymongo.asynchronous.collection import AsyncCollection
    from pymongo.asynchronous.database import AsyncDatabase
    from pymongo.collection import Collection
    from pymongo.database import Database
    from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError
except ImportError as error:
    raise MissingClientError("MongoBackend", "pymongo", "mongo") from error

from .mongo_operations import InTransaction, Work, takes_part

__all__ = [
    "AsyncContextCollection",
    "AsyncContextDatabase",
    "AsyncMongoBackend",
    "ContextCollection",
    "ContextDatabase",
    "MongoBackend",
]

ClientT = TypeVar("ClientT")

PATIENCE = 3.0
"""Timeout in seconds for a ping, and for aborting a transaction; if the abort gets lost, the server ends it anyway."""
UNKNOWN = "UnknownTransactionCommitResult"
ENDING = (OperationFailure, ConnectionFailure)


class _Clients(Generic[ClientT]):
    """Common to the sync and the async backend: a client, or how to create it, and a database."""

    _kind: type[Any]

    def __init__(self, source: str | ClientT, *, database: str | None = None, **options: Any) -> None:
        backend: Any = super()
        backend.__init__(given_client(self, source, options, self._kind))
        self._url = source if isinstance(source, str) else None
        self._options = options
        self._database = database or unquote(urlsplit(self._url or "").path.strip("/"))
        if not self._database:
            raise ConfigurationError(
                f"{type(self).__name__}: no database named: put it in the URL's path, or pass database="
            )

    def __repr__(self) -> str:
        source = "<given client>" if self._url is None else repr(shown_url(self._url))
        return f"{type(self).__name__}({source}, database={self._database!r})"


# --- Sync -------------------------------------------------------------------------------------------------------------


@takes_part(*ENDING)
class ContextCollection(InTransaction, Collection[dict[str, Any]]):
    """A `pymongo.collection.Collection` whose operations take part in the context's transaction."""


@takes_part(*ENDING)
class ContextDatabase(InTransaction, Database[dict[str, Any]]):
    """What services get: a `pymongo.database.Database` whose operations take part in the context's transaction.

    So do those of its collections. The server refuses operations that MongoDB does not support in a transaction, such
    as `drop`; those that only describe collections and indexes, and `watch`, run outside of it. PyMongo allows one
    operation at a time in a transaction.
    """

    def get_collection(self, *args: Any, **options: Any) -> Any:
        """A collection that takes part."""
        return self._joined(super().get_collection(*args, **options))


class _MongoTransaction(Transaction):
    def __init__(self, database: Database[Any], name: str, *, read_only: bool) -> None:
        self._name = name
        self._session = database.client.start_session()
        self._session.start_transaction()
        self._work = Work(name, self._session, read_only=read_only)
        super().__init__(_taking_part(ContextDatabase, database, self._work))

    def prepare(self) -> None:
        if self._work.wrote and self._work.failed:
            raise RollbackOnlyError(self._name, earlier=self._work.failed)

    def wrote(self) -> bool:
        return self._work.wrote

    def commit(self) -> None:
        if not self._work.wrote:
            self._abort()
            return
        try:
            self._session.commit_transaction()
        except PyMongoError as error:
            if error.has_error_label(UNKNOWN):
                raise CommitOutcomeUnknown(self._name) from error
            raise

    def rollback(self) -> None:
        self._abort()
        self._session.start_transaction()
        self._work.wrote = False
        self._work.failed = ""

    def close(self) -> None:
        self._abort()
        self._session.end_session()

    def _abort(self) -> None:
        if self._session.in_transaction:
            with pymongo.timeout(PATIENCE):
                self._session.abort_transaction()


class MongoBackend(_Clients[MongoClient[dict[str, Any]]], Backend[MongoClient[dict[str, Any]]]):
    """MongoDB, as an authority: one transaction per context, begun by its first operation.

    Services get a `ContextDatabase`. Transactions need a replica set or a sharded cluster. There are no savepoints, so
    ``ctx.nested()`` raises once something was written. In a context with ``read_only=True``, an operation that may
    write raises `ReadOnlyError`. A client that was used before a fork is refused in the child.

    Args:
        source: a URL, or a `pymongo.MongoClient` of your own, which is never closed.
        database: the name of the database; by default the one in the URL's path.
        options: passed on to `pymongo.MongoClient`, with a URL.

    Raises:
        ConfigurationError: if the source is something else, if no database is named, or if options are given along with
            a client.
        RollbackOnlyError: when the context closes, if a swallowed error has ended the transaction.
        CommitOutcomeUnknown: when the context closes, if the connection was lost during the commit and again on its
            retry.
        pymongo.errors.PyMongoError: any other error of PyMongo, unchanged.

    Example:
        >>> MongoBackend("mongodb://ann:secret@127.0.0.1:27017/shop")
        MongoBackend('mongodb://ann:***@127.0.0.1:27017/shop', database='shop')
    """

    _kind = MongoClient

    def connect(self) -> MongoClient[dict[str, Any]]:
        """Create the client, which connects on the first operation."""
        return MongoClient(self._url, connect=False, **self._options)

    def disconnect(self, client: MongoClient[dict[str, Any]]) -> None:
        """Close the client, its connections and its monitor."""
        client.close()

    def begin(self, context: Any, client: MongoClient[dict[str, Any]], name: str) -> Transaction:
        """An authority whose value is a `ContextDatabase`; sends nothing."""
        return _MongoTransaction(client[self._database], name, read_only=context.read_only)

    def ping(self, client: MongoClient[dict[str, Any]]) -> None:
        """Send the command ``ping``; waits at most 3 seconds for a server."""
        with pymongo.timeout(PATIENCE):
            client.admin.command("ping")


# --- Async ------------------------------------------------------------------------------------------------------------


@takes_part(*ENDING)
class AsyncContextCollection(InTransaction, AsyncCollection[dict[str, Any]]):
    """The async twin of `ContextCollection`."""


@takes_part(*ENDING)
class AsyncContextDatabase(InTransaction, AsyncDatabase[dict[str, Any]]):
    """The async twin of `ContextDatabase`."""

    def get_collection(self, *args: Any, **options: Any) -> Any:
        """A collection that takes part."""
        return self._joined(super().get_collection(*args, **options))


class _AsyncMongoTransaction(AsyncTransaction):
    def __init__(self, database: AsyncDatabase[Any], session: Any, name: str, *, read_only: bool) -> None:
        self._name = name
        self._session = session
        self._work = Work(name, session, read_only=read_only)
        super().__init__(_taking_part(AsyncContextDatabase, database, self._work))

    async def prepare(self) -> None:
        if self._work.wrote and self._work.failed:
            raise RollbackOnlyError(self._name, earlier=self._work.failed)

    async def wrote(self) -> bool:
        return self._work.wrote

    async def commit(self) -> None:
        if not self._work.wrote:
            await self._abort()
            return
        try:
            await self._session.commit_transaction()
        except PyMongoError as error:
            if error.has_error_label(UNKNOWN):
                raise CommitOutcomeUnknown(self._name) from error
            raise

    async def rollback(self) -> None:
        await self._abort()
        await self._session.start_transaction()
        self._work.wrote = False
        self._work.failed = ""

    async def close(self) -> None:
        await self._abort()
        await self._session.end_session()

    async def _abort(self) -> None:
        if self._session.in_transaction:
            with pymongo.timeout(PATIENCE):
                await self._session.abort_transaction()


class AsyncMongoBackend(_Clients[AsyncMongoClient[dict[str, Any]]], AsyncBackend[AsyncMongoClient[dict[str, Any]]]):
    """The async twin of `MongoBackend`, on asyncio: services await the resource and get an `AsyncContextDatabase`.

    Args:
        source: a URL, or a `pymongo.AsyncMongoClient` of your own, which is never closed.
        database: as for `MongoBackend`.
        options: passed on to `pymongo.AsyncMongoClient`, with a URL.

    Raises:
        ConfigurationError: as from `MongoBackend`.
    """

    _kind = AsyncMongoClient

    async def connect(self) -> AsyncMongoClient[dict[str, Any]]:
        """As `MongoBackend.connect`."""
        return AsyncMongoClient(self._url, connect=False, **self._options)

    async def disconnect(self, client: AsyncMongoClient[dict[str, Any]]) -> None:
        """As `MongoBackend.disconnect`."""
        await client.close()

    async def begin(self, context: Any, client: AsyncMongoClient[dict[str, Any]], name: str) -> AsyncTransaction:
        """As `MongoBackend.begin`."""
        session = client.start_session()
        await session.start_transaction()
        return _AsyncMongoTransaction(client[self._database], session, name, read_only=context.read_only)

    async def ping(self, client: AsyncMongoClient[dict[str, Any]]) -> None:
        """As `MongoBackend.ping`."""
        with pymongo.timeout(PATIENCE):
            await client.admin.command("ping")


# --- Both -------------------------------------------------------------------------------------------------------------


def _taking_part(database_class: Any, plain: Any, work: Work) -> Any:
    made = _copy(database_class, plain.client, plain)
    made._work = work
    return made


def _copy(joining: Any, parent: Any, plain: Any) -> Any:
    return joining(
        parent,
        plain.name,
        codec_options=plain.codec_options,
        read_preference=plain.read_preference,
        write_concern=plain.write_concern,
        read_concern=plain.read_concern,
    )


InTransaction._joining = {
    Collection: lambda plain: _copy(ContextCollection, plain.database, plain),
    Database: lambda plain: _copy(ContextDatabase, plain.client, plain),
    AsyncCollection: lambda plain: _copy(AsyncContextCollection, plain.database, plain),
    AsyncDatabase: lambda plain: _copy(AsyncContextDatabase, plain.client, plain),
}
