"""Commit, rollback and savepoints of one context's blobs: applies the journal to the store."""

from __future__ import annotations

import asyncio
from typing import Any

from polydatum.backends.blob_journal import Journal, Keys, raise_first
from polydatum.transactions import AsyncTransaction, Transaction


class BlobTransaction(Transaction):
    """Applies the journal to the store when the context ends."""

    kind = "effect"

    def __init__(self, value: Any, store: Any, journal: Journal) -> None:
        super().__init__(value)
        self._store = store
        self._journal = journal

    def commit(self) -> None:
        """Delete the objects scheduled for deletion.

        Raises:
            Exception: the store's first error, after every deletion was attempted.
        """
        self._journal.end()
        raise_first(delete_now(self._store, self._journal.kept()))

    def rollback(self) -> None:
        """Delete the uploads; failures are logged."""
        self._delete(self._journal.undone())

    def abandon(self) -> None:
        """Leave everything as it is."""
        self._journal.abandoned()

    def close(self) -> None:
        """Delete uploads that failed or finished too late, as their objects may exist nonetheless."""
        self._journal.end()
        self._delete(self._journal.left_over())

    def savepoint(self) -> _BlobSavepoint:
        """A savepoint: its rollback deletes the uploads made since, and drops the deletions scheduled since."""
        return _BlobSavepoint(self, self._journal)

    def _delete(self, keys: Keys) -> None:
        self._journal.report(delete_now(self._store, keys))


class _BlobSavepoint:
    def __init__(self, transaction: BlobTransaction, journal: Journal) -> None:
        self._transaction = transaction
        self._journal = journal
        self._mark = journal.mark()

    def release(self) -> None:
        pass

    def rollback(self) -> None:
        self._transaction._delete(self._journal.undone_since(self._mark))


class AsyncBlobTransaction(AsyncTransaction):
    """Applies the journal to the store when the context ends."""

    kind = "effect"

    def __init__(self, value: Any, store: Any, journal: Journal) -> None:
        super().__init__(value)
        self._store = store
        self._journal = journal

    async def commit(self) -> None:
        """Delete the objects scheduled for deletion.

        Raises:
            Exception: the store's first error, after every deletion was attempted.
        """
        self._journal.end()
        raise_first(await adelete_now(self._store, self._journal.kept()))

    async def rollback(self) -> None:
        """Delete the uploads; failures are logged."""
        await self._delete(self._journal.undone())

    async def abandon(self) -> None:
        """Leave everything as it is."""
        self._journal.abandoned()

    async def close(self) -> None:
        """Delete uploads that failed or finished too late, as their objects may exist nonetheless."""
        self._journal.end()
        if self.value.under_way:
            await asyncio.wait(self.value.under_way)
        await self._delete(self._journal.left_over())

    async def savepoint(self) -> _AsyncBlobSavepoint:
        """A savepoint: its rollback deletes the uploads made since, and drops the deletions scheduled since."""
        return _AsyncBlobSavepoint(self, self._journal)

    async def _delete(self, keys: Keys) -> None:
        self._journal.report(await adelete_now(self._store, keys))


class _AsyncBlobSavepoint:
    def __init__(self, transaction: AsyncBlobTransaction, journal: Journal) -> None:
        self._transaction = transaction
        self._journal = journal
        self._mark = journal.mark()

    async def release(self) -> None:
        pass

    async def rollback(self) -> None:
        await self._transaction._delete(self._journal.undone_since(self._mark))


def delete_now(store: Any, keys: Keys) -> dict[str, Exception]:
    """Delete objects; returns the keys that could not be deleted, with the error. A missing object is no failure.

    All in one request, so that an unresponsive store costs one timeout only.
    """
    try:
        if keys:
            store.delete(keys)
    except FileNotFoundError:  # some stores report a missing object, and skip the rest
        return _one_by_one(store, keys)
    except Exception as error:
        return dict.fromkeys(keys, error)
    return {}


def _one_by_one(store: Any, keys: Keys) -> dict[str, Exception]:
    failures: dict[str, Exception] = {}
    for key in keys:
        try:
            store.delete(key)
        except FileNotFoundError:
            pass
        except Exception as error:
            failures[key] = error
    return failures


async def adelete_now(store: Any, keys: Keys) -> dict[str, Exception]:
    """The async twin of `delete_now`."""
    try:
        if keys:
            await store.delete_async(keys)
    except FileNotFoundError:
        return await _aone_by_one(store, keys)
    except Exception as error:
        return dict.fromkeys(keys, error)
    return {}


async def _aone_by_one(store: Any, keys: Keys) -> dict[str, Exception]:
    failures: dict[str, Exception] = {}
    for key in keys:
        try:
            await store.delete_async(key)
        except FileNotFoundError:
            pass
        except Exception as error:
            failures[key] = error
    return failures
