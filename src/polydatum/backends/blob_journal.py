"""The record of one context's uploads and deletions: the rules of `BlobBackend`, without any access to the store."""

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
    """obstore was used before this process was forked. Its threads stayed in the parent, so calls would hang."""

    def __str__(self) -> str:
        return (
            f"resource {shown(self.name)} cannot be used in this process: obstore was used before it was forked, and does "
            "not work in the child; use blobs after the fork only, or start processes by 'spawn'"
        )


_process: int | None = None


def refuse_after_fork(name: str) -> None:
    """Raise if obstore was first used in a parent of this process: all its stores share one runtime."""
    global _process
    if _process is None:
        _process = os.getpid()
    if _process != os.getpid():
        raise ForkedStoreError(name)


class Journal:
    """The uploads and deletions of one context.

    Attributes:
        name: the name of the resource.
        uploads: keys that were returned to the caller, who may have stored them in rows.
        deletions: keys to delete after the commit.
        lost: keys of uploads that failed or were cancelled: the object may exist, but no row refers to it.
    """

    def __init__(self, name: str, *, read_only: bool) -> None:
        self.name = name
        self.uploads: Keys = []
        self.deletions: Keys = []
        self.lost: Keys = []
        self._read_only = read_only
        self._has_ended = False

    def admit(self, what: str) -> None:
        """Raise if this context may not write."""
        if self._has_ended:
            raise self.closed()
        if self._read_only:
            raise ReadOnlyError(self.name, what)

    def closed(self) -> ContextClosedError:
        """The error for a write that starts or completes after the context has ended."""
        return ContextClosedError(f"resource {self.name!r}")

    def key_for_upload(self, key: str | None, suffix: str) -> str:
        """The key to upload under."""
        self.admit("put()")
        return token_hex(16) + suffix if key is None else key

    def upload_failed(self, key: str, *, is_ours: bool) -> None:
        """Record a failed upload, whose object may exist nonetheless. Under a caller's key it may not be ours."""
        if is_ours:
            self.lost.append(key)

    def uploaded(self, key: str) -> bool:
        """Record an upload; False if the context has ended in the meantime, so that the caller has to delete it."""
        self.uploads.append(key)
        return not self._has_ended

    def want_deleted(self, keys: Iterable[str]) -> None:
        """Schedule deletions for after the commit."""
        self.deletions += keys

    def end(self) -> None:
        """Refuse every write from now on."""
        self._has_ended = True

    def kept(self) -> Keys:
        """Settle a commit; returns the keys to delete now."""
        due, self.uploads, self.deletions = self.deletions, [], []
        return due

    def undone(self) -> Keys:
        """Settle a rollback; returns the keys to delete now."""
        due, self.uploads, self.deletions = self.uploads, [], []
        return due

    def abandoned(self) -> None:
        """Settle an unknown outcome: rows may refer to the uploads and to the keys to delete, so all objects stay."""
        self.uploads, self.deletions = [], []

    def left_over(self) -> Keys:
        """The keys left to delete at the very end: no row can refer to them, since no caller got them in time."""
        due, self.uploads, self.lost = self.lost + self.uploads, [], []
        return due

    def mark(self) -> tuple[int, int]:
        """The current position, for `undone_since`."""
        return len(self.uploads), len(self.deletions)

    def undone_since(self, mark: tuple[int, int]) -> Keys:
        """Settle a rollback to a mark; returns the keys to delete now."""
        uploads, deletions = mark
        due = self.uploads[uploads:]
        del self.uploads[uploads:], self.deletions[deletions:]
        return due

    def report(self, failures: dict[str, Exception]) -> None:
        """Log the keys that could not be deleted."""
        for error in list(failures.values())[:1]:
            log_error("resource %r could not delete %s", self.name, ", ".join(failures), error=error)


def raise_first(failures: dict[str, Exception]) -> None:
    """Raise the first failure, if any, with a note that names all keys."""
    for error in failures.values():
        add_note(error, f"could not delete {', '.join(failures)}")
        raise error


def older(objects: Sequence[Any], age: timedelta) -> Keys:
    """The keys of the objects that are older than ``age``."""
    limit = datetime.now(UTC) - age
    return [found["path"] for found in objects if found["last_modified"] < limit]
