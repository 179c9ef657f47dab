"""Blobs on obstore: S3, Google Cloud Storage, Azure, a folder or memory. Install ``polydatum[blobs]``.

An object store has no transactions. An upload is therefore sent at once, under a new and secret key, and deleted if the
context rolls back; a deletion waits until the authority has committed. So a database row never refers to a missing
object. The price is an orphan wherever an upload could not be deleted; `Blobs.sweep` finds them.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from polydatum.backends.blob_journal import Journal, Keys, older, refuse_after_fork
from polydatum.backends.blob_transactions import AsyncBlobTransaction, BlobTransaction, adelete_now, delete_now
from polydatum.backends.sources import given_client, shown_url
from polydatum.clients import AsyncBackend, Backend
from polydatum.errors import MissingClientError, ResourceError, shown
from polydatum.transactions import AsyncTransaction, Transaction

try:
    import obstore
    from obstore.store import AzureStore, GCSStore, HTTPStore, LocalStore, MemoryStore, S3Store, from_url
except ImportError as error:
    raise MissingClientError("BlobBackend", "obstore", "blobs") from error

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

Data = bytes | bytearray | memoryview | IO[bytes] | Path | Iterable[bytes]

STORES = (AzureStore, GCSStore, HTTPStore, LocalStore, MemoryStore, S3Store)
PING_PREFIX = "polydatum-ping"
"""Listed by `ping`, and expected to be empty: one exchange, which fails for a missing bucket or a wrong password."""
CHUNK = 1024 * 1024
BATCH = 1000


class UrlNotSupported(ResourceError):
    """The store cannot sign URLs that let others read an object: a folder, memory, plain HTTP."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"the store of resource {shown(self.name)} cannot sign URLs; only S3, Google Cloud Storage and Azure can"


class Blobs:
    """What services get from a `BlobBackend`: one context's view of the store. Store its keys in your rows.

    The store's errors are raised unchanged: `FileNotFoundError` for a missing key, otherwise those of
    `obstore.exceptions`.
    """

    def __init__(self, store: ObjectStore, journal: Journal) -> None:
        self._store = store
        self._journal = journal

    def put(self, data: Data, *, suffix: str = "", key: str | None = None, **options: Any) -> str:
        """Upload at once, under a new key, and return the key. If the context rolls back, the object is deleted.

        Existing objects are never overwritten. The data is sent in one part and held in memory meanwhile.

        Args:
            data: bytes, a file opened for reading bytes, a path, or an iterable of bytes.
            suffix: the end of the generated key, such as ``".png"``. The rest of the key cannot be guessed.
            key: a key of your own, instead of a generated one. If the upload fails, it is unknown whether the object
                exists; it is left alone, since it could be somebody else's.
            options: passed on to ``obstore.put``: ``attributes={"Content-Type": ...}``, ``tags``.

        Raises:
            ReadOnlyError: in a context opened with ``read_only=True``.
            ContextClosedError: if the context has ended; if it ended during the upload, the object has been deleted.
            obstore.exceptions.AlreadyExistsError: if there is already an object under your key.
        """
        name = self._journal.key_for_upload(key, suffix)
        try:
            self._store.put(name, data, mode="create", **options)
        except BaseException:
            self._journal.upload_failed(name, is_ours=key is None)
            raise
        if not self._journal.uploaded(name):
            self._journal.report(delete_now(self._store, [name]))
            raise self._journal.closed()
        return name

    def get(self, key: str) -> bytes:
        """A whole object. Objects that this context has scheduled for deletion can still be read."""
        return bytes(self._store.get(key).bytes())

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """A part of an object: fewer bytes than ``length`` if the object ends earlier."""
        return bytes(self._store.get_range(key, start=start, length=length))

    def stream(self, key: str, *, chunk_size: int = CHUNK) -> Iterator[bytes]:
        """The object in chunks of at least that size. A streamed response may go on reading after the context ended."""
        return iter(self._store.get(key).stream(chunk_size))

    def head(self, key: str) -> ObjectMeta:
        """An object's metadata: ``path``, ``size``, ``last_modified``, ``e_tag``, ``version``."""
        return self._store.head(key)

    def exists(self, key: str) -> bool:
        """Whether the object exists."""
        try:
            self._store.head(key)
        except FileNotFoundError:
            return False
        return True

    def list(self, prefix: str | None = None) -> Iterator[ObjectMeta]:
        """The metadata of all objects, or of those below a prefix of whole path segments.

        The prefix ``"a"`` covers ``"a/b"``, but not ``"ab"``.
        """
        for batch in self._store.list(prefix, chunk_size=BATCH):
            yield from batch

    def url(self, key: str, *, expires: float = 3600) -> str:
        """A URL with which anybody can read the object for ``expires`` seconds: S3, Google Cloud Storage and Azure.

        Raises:
            UrlNotSupported: if the store cannot sign URLs.
        """
        return obstore.sign(_signing(self._store, self._journal.name), "GET", key, timedelta(seconds=expires))

    def delete(self, key: str) -> None:
        """Delete an object once the context has committed. A missing key is no error.

        If the deletion fails then, the error is logged and kept in the outcome's errors, as with every effect.

        Raises:
            ReadOnlyError: in a context opened with ``read_only=True``.
            ContextClosedError: if the context has ended.
        """
        self._journal.admit("delete()")
        self._journal.want_deleted([key])

    def sweep(self, *, older_than: timedelta, keep: Callable[[Keys], Iterable[str]], prefix: str | None = None) -> Keys:
        """Delete orphans once the context has committed, and return their keys.

        Args:
            older_than: younger objects stay. Choose much more than the time a context may take from an upload to its
                commit, such as ``timedelta(days=1)``.
            keep: is called with up to 1000 keys and returns those that are in use: ``SELECT ... WHERE key = ANY(...)``.
            prefix: consider only the objects below it, as with `list`.

        Raises:
            ReadOnlyError: in a context opened with ``read_only=True``.
            ContextClosedError: if the context has ended.
        """
        self._journal.admit("sweep()")
        orphans: Keys = []
        for batch in self._store.list(prefix, chunk_size=BATCH):
            if old := older(batch, older_than):
                used = set(keep(old))
                orphans += [key for key in old if key not in used]
        self._journal.want_deleted(orphans)
        return orphans


class AsyncBlobs:
    """The async twin of `Blobs`, from an `AsyncBlobBackend`. Needs asyncio: obstore does not support trio."""

    def __init__(self, store: ObjectStore, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        self.under_way: set[asyncio.Future[Any]] = set()

    async def put(
        self, data: Data | AsyncIterable[bytes], *, suffix: str = "", key: str | None = None, **options: Any
    ) -> str:
        """As `Blobs.put`. A cancel ends it at once; the end of the context waits until the upload can be deleted."""
        name = self._journal.key_for_upload(key, suffix)
        # Shielded from cancels: the server may still carry out an abandoned request, after the deletion that follows.
        upload = asyncio.ensure_future(self._upload(name, data, options))
        self.under_way.add(upload)
        upload.add_done_callback(self.under_way.discard)
        try:
            await asyncio.shield(upload)
        except BaseException:
            self._journal.upload_failed(name, is_ours=key is None)
            raise
        if not self._journal.uploaded(name):
            self._journal.report(await adelete_now(self._store, [name]))
            raise self._journal.closed()
        return name

    async def _upload(self, name: str, data: Any, options: dict[str, Any]) -> None:
        await self._store.put_async(name, data, mode="create", **options)

    async def get(self, key: str) -> bytes:
        """As `Blobs.get`."""
        return bytes(await (await self._store.get_async(key)).bytes_async())

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """As `Blobs.get_range`."""
        return bytes(await self._store.get_range_async(key, start=start, length=length))

    async def stream(self, key: str, *, chunk_size: int = CHUNK) -> AsyncIterator[bytes]:
        """As `Blobs.stream`, for ``async for``."""
        async for chunk in (await self._store.get_async(key)).stream(chunk_size):
            yield chunk

    async def head(self, key: str) -> ObjectMeta:
        """As `Blobs.head`."""
        return await self._store.head_async(key)

    async def exists(self, key: str) -> bool:
        """As `Blobs.exists`."""
        try:
            await self._store.head_async(key)
        except FileNotFoundError:
            return False
        return True

    async def list(self, prefix: str | None = None) -> AsyncIterator[ObjectMeta]:
        """As `Blobs.list`, for ``async for``."""
        async for batch in self._store.list(prefix, chunk_size=BATCH):
            for found in batch:
                yield found

    async def url(self, key: str, *, expires: float = 3600) -> str:
        """As `Blobs.url`."""
        return await obstore.sign_async(
            _signing(self._store, self._journal.name), "GET", key, timedelta(seconds=expires)
        )

    async def delete(self, key: str) -> None:
        """As `Blobs.delete`."""
        self._journal.admit("delete()")
        self._journal.want_deleted([key])

    async def sweep(
        self,
        *,
        older_than: timedelta,
        keep: Callable[[Keys], Iterable[str] | Awaitable[Iterable[str]]],
        prefix: str | None = None,
    ) -> Keys:
        """As `Blobs.sweep`; ``keep`` may be async."""
        self._journal.admit("sweep()")
        orphans: Keys = []
        async for batch in self._store.list(prefix, chunk_size=BATCH):
            if old := older(batch, older_than):
                kept = keep(old)
                used = set(await kept if inspect.isawaitable(kept) else kept)
                orphans += [key for key in old if key not in used]
        self._journal.want_deleted(orphans)
        return orphans


def _signing(store: Any, name: str) -> AzureStore | GCSStore | S3Store:
    if not isinstance(store, AzureStore | GCSStore | S3Store):
        raise UrlNotSupported(name)
    return store


class BlobBackend(Backend["ObjectStore"]):
    """Blobs as a resource, on a store of obstore: ``dm.register_resources(blobs=BlobBackend("s3://shop/photos"))``.

    Services get a `Blobs`. It is an {term}`effect`: uploads are deleted if the context rolls back, and deletions run
    once the authority has committed. If the outcome of the authority's commit is unknown, uploads stay and nothing is
    deleted. A context opened with ``read_only=True`` can only read.

    obstore does not survive a fork: use it only after the fork.

    Args:
        source: a URL (``s3://bucket/prefix``, ``gs://...``, ``az://...``, ``file:///folder``), or a store of your own.
            ``memory:///`` is a store of this backend, shared by all event loops, that lasts as long as the process.
        options: passed on to ``obstore.store.from_url`` with a URL: ``region``, ``endpoint``, ``access_key_id``,
            ``client_options``, ``retry_config``, ``mkdir``, ...

    Raises:
        ConfigurationError: if the source is something else, or if options are given along with a store.
        ForkedStoreError: on use in a child of a process that has already used a store.

    Example:
        >>> from polydatum import DataManager
        >>> dm = DataManager()
        >>> dm.register_resources(blobs=BlobBackend("memory:///"))
        >>> with dm.context() as ctx:
        ...     key = ctx.blobs.put(b"a cup of tea", suffix=".txt")
        >>> with dm.context() as ctx:
        ...     ctx.blobs.get(key)
        b'a cup of tea'
        >>> with dm.context() as ctx:
        ...     lost = ctx.blobs.put(b"a cup of coffee")
        ...     ctx.set_rollback_only("tea is better")
        >>> with dm.context() as ctx:
        ...     ctx.blobs.exists(lost)
        False
    """

    def __init__(self, source: str | ObjectStore, **options: Any) -> None:
        super().__init__(given_client(self, source, options, *STORES))
        self._source = _Source(source, options)

    def connect(self) -> ObjectStore:
        """Create the store; nothing is sent."""
        return self._source.connect()

    def disconnect(self, client: ObjectStore) -> None:
        """Nothing: a store cannot be closed; its connections close when it is garbage-collected."""

    def begin(self, context: Any, client: ObjectStore, name: str) -> Transaction:
        """One context's `Blobs`; nothing is sent."""
        refuse_after_fork(name)
        journal = Journal(name, read_only=context.read_only)
        return BlobTransaction(Blobs(client, journal), client, journal)

    def ping(self, client: ObjectStore) -> None:
        """List an empty prefix."""
        refuse_after_fork("blobs")
        next(client.list(PING_PREFIX), None)

    def __repr__(self) -> str:
        return f"BlobBackend({self._source!r})"


class AsyncBlobBackend(AsyncBackend["ObjectStore"]):
    """The async twin of `BlobBackend`: services get an `AsyncBlobs`. Needs asyncio: obstore does not support trio."""

    def __init__(self, source: str | ObjectStore, **options: Any) -> None:
        super().__init__(given_client(self, source, options, *STORES))
        self._source = _Source(source, options)

    async def connect(self) -> ObjectStore:
        """As `BlobBackend.connect`."""
        return self._source.connect()

    async def disconnect(self, client: ObjectStore) -> None:
        """As `BlobBackend.disconnect`."""

    async def begin(self, context: Any, client: ObjectStore, name: str) -> AsyncTransaction:
        """As `BlobBackend.begin`."""
        refuse_after_fork(name)
        journal = Journal(name, read_only=context.read_only)
        return AsyncBlobTransaction(AsyncBlobs(client, journal), client, journal)

    async def ping(self, client: ObjectStore) -> None:
        """As `BlobBackend.ping`."""
        refuse_after_fork("blobs")
        await anext(client.list(PING_PREFIX), None)

    def __repr__(self) -> str:
        return f"AsyncBlobBackend({self._source!r})"


class _Source:
    """A store, or how to create one; its repr shows no secret."""

    def __init__(self, source: Any, options: dict[str, Any]) -> None:
        self._source = source
        self._options = options

    def connect(self) -> ObjectStore:
        store = from_url(self._source, **self._options)
        if isinstance(store, MemoryStore):  # one for all event loops, as it holds the only copy of the data
            return self.__dict__.setdefault("_memory", store)  # type: ignore[no-any-return]
        return store

    def __repr__(self) -> str:
        if isinstance(self._source, str):
            return repr(shown_url(self._source))
        return f"<{type(self._source).__name__}>"  # its own repr may show an account, or a URL with a password
