"""What one context has done to an object store, and has yet to do: the rules of `BlobBackend`, without the store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

from polydatum.errors import ContextClosedError, ForkedResourceError, ReadOnlyError, shown
from polydatum.outcome import add_note
from polydatum.reporting import log_error

Keys = list[str]


class ForkedStoreError(ForkedResourceError):
    """obstore was used before this process was forked. Its threads are the parent's, so that it would wait for ever."""

    def __str__(self) -> str:
        return (
            f"resource {shown(self.name)} cannot be used in this process: obstore was used before it was forked, and does "
            "not work in the child; use blobs after the fork only, or start processes by 'spawn'"
        )


_process: int | None = None


def refuse_after_fork(name: str) -> None:
    """Refuse to use obstore in a child of the process that has used it before. It has one runtime for all its stores."""
    global _process
    if _process is None:
        _process = os.getpid()
    if _process != os.getpid():
        raise ForkedStoreError(name)


class Journal:
    """The uploads and deletions of one context.

    Attributes:
        name: the name of the resource.
        uploads: keys that were given to the context's code, which may have put them into rows.
        deletions: keys to delete after the commit.
        lost: keys of uploads that failed, or that nobody waited for; the object may be there, and no row knows it.
    """

    def __init__(self, name: str, *, read_only: bool) -> None:
        self.name = name
        self.uploads: Keys = []
        self.deletions: Keys = []
        self.lost: Keys = []
        self._read_only = read_only
        self._has_ended = False

    def admit(self, what: str) -> None:
        """Refuse a write that this context may not do."""
        if self._has_ended:
            raise self.closed()
        if self._read_only:
            raise ReadOnlyError(self.name, what)

    def closed(self) -> ContextClosedError:
        """For a write that comes, or succeeds, when the context has ended."""
        return ContextClosedError(f"resource {self.name!r}")

    def key_for_upload(self, key: str | None, suffix: str) -> str:
        """The key to upload under."""
        self.admit("put()")
        return token_hex(16) + suffix if key is None else key

    def upload_failed(self, key: str, *, is_ours: bool) -> None:
        """An upload raised; all the same the object may be there. Under a user's key it may be somebody else's."""
        if is_ours:
            self.lost.append(key)

    def uploaded(self, key: str) -> bool:
        """An upload succeeded; False: the context has ended in the meantime, and nothing undoes it but the caller."""
        self.uploads.append(key)
        return not self._has_ended

    def want_deleted(self, keys: Iterable[str]) -> None:
        """Delete after the commit."""
        self.deletions += keys

    def end(self) -> None:
        """From now on nothing is admitted."""
        self._has_ended = True

    def kept(self) -> Keys:
        """The context has committed; gives what is to be deleted now."""
        due, self.uploads, self.deletions = self.deletions, [], []
        return due

    def undone(self) -> Keys:
        """The context has rolled back; gives what is to be deleted now."""
        due, self.uploads, self.deletions = self.uploads, [], []
        return due

    def abandoned(self) -> None:
        """Nobody can tell whether the context has committed: rows may know the uploads, and what was to be deleted."""
        self.uploads, self.deletions = [], []

    def left_over(self) -> Keys:
        """Everything is over; gives what no row can know, as nobody got the key, or got it in time."""
        due, self.uploads, self.lost = self.lost + self.uploads, [], []
        return due

    def mark(self) -> tuple[int, int]:
        """A place to come back to."""
        return len(self.uploads), len(self.deletions)

    def undone_since(self, mark: tuple[int, int]) -> Keys:
        """What was done since has rolled back; gives what is to be deleted now."""
        uploads, deletions = mark
        due = self.uploads[uploads:]
        del self.uploads[uploads:], self.deletions[deletions:]
        return due

    def report(self, failures: dict[str, Exception]) -> None:
        """Log what could not be deleted."""
        for error in list(failures.values())[:1]:
            log_error("resource %r could not delete %s", self.name, ", ".join(failures), error=error)


def raise_first(failures: dict[str, Exception]) -> None:
    """Raise the first of some failures, with a note of all keys."""
    for error in failures.values():
        add_note(error, f"could not delete {', '.join(failures)}")
        raise error


def older(objects: Sequence[Any], age: timedelta) -> Keys:
    """The keys of those objects that are older than that."""
    limit = datetime.now(UTC) - age
    return [found["path"] for found in objects if found["last_modified"] < limit]
