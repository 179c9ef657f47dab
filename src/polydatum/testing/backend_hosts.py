"""`BackendHost`: a backend with its real server, and independent access to the server for the contract."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from typing import Any


class BackendHost(ABC):
    """A backend with its server. If ``is_async``, methods may return awaitables, which the tests await.

    Attributes:
        is_async: whether the backend is an `AsyncBackend`.
        secret: a password in the backend's URL, which must never be shown; None: there is none.
        absent: the features that the client or its server lacks, each with the reason that skipped tests show:
            ``"rollback"``: writes can be undone; ``"isolation"``: uncommitted writes are invisible to others;
            ``"read_only"``; ``"savepoints"``; ``"counts"``: the server can count its connections; ``"cancel"``: a slow
            operation; ``"fork"``; ``"given"``: clients of the user's own; ``"unreachable"``: a server that can be down.
    """

    is_async = False
    secret: str | None = None
    absent: Mapping[str, str] = {}

    @abstractmethod
    def backend(self) -> Any:
        """A new backend that creates its own client."""

    def given(self) -> tuple[Any, Any]:
        """A new backend on a client of the user's own, and that client."""
        raise NotImplementedError

    def dispose(self, client: Any) -> Any:
        """Close a client from `given`."""
        raise NotImplementedError

    def unreachable(self) -> Any:
        """A new backend whose server does not answer, as nothing listens at its address."""
        raise NotImplementedError

    @abstractmethod
    def write(self, value: Any, key: str, text: str) -> Any:
        """Write a text under a new key, through the value that services get from the resource."""

    @abstractmethod
    def read(self, value: Any, key: str) -> Any:
        """The text under a key, through the value that services get; None if there is none."""

    @abstractmethod
    def look(self, key: str) -> str | None:
        """The committed text under a key, read without the backend."""

    def slow(self, value: Any) -> Any:
        """An awaitable operation that takes the server longer than any test."""
        raise NotImplementedError

    def connections(self) -> tuple[int, int]:
        """The backend's connections, and those in a transaction, as the server counts them."""
        raise NotImplementedError

    def run(self, scenario: Coroutine[Any, Any, Any]) -> None:
        """Run a test: an async backend's in a new event loop, a sync one's without any, as it never suspends."""
        if self.is_async:
            asyncio.run(scenario)
            return
        try:
            scenario.send(None)
        except StopIteration:
            return
        scenario.close()
        raise AssertionError("a sync backend suspended")
