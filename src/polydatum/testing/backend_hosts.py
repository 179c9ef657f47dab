"""A backend over a real server, and the means to look at it from outside: what the contract needs to know."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from typing import Any


class BackendHost(ABC):
    """A backend with its server. Methods that may be async return what the tests then await, if ``is_async``.

    Attributes:
        is_async: whether the backend is an `AsyncBackend`.
        secret: a password that the backend's URL holds, which nothing may show; None: there is none.
        absent: what the client or its server does not have, with the reason, which the skipped tests tell:
            ``"rollback"``: what was written cannot be undone; ``"isolation"``: nobody else sees what is not committed;
            ``"read_only"``; ``"savepoints"``; ``"counts"``: the server tells its connections; ``"cancel"``: an operation
            that takes long; ``"fork"``; ``"given"``: clients of the user's own; ``"unreachable"``: a server that may be
            down.
    """

    is_async = False
    secret: str | None = None
    absent: Mapping[str, str] = {}

    @abstractmethod
    def backend(self) -> Any:
        """A new backend that makes its own client."""

    def given(self) -> tuple[Any, Any]:
        """A new backend over a client of the user's own, and that client."""
        raise NotImplementedError

    def dispose(self, client: Any) -> Any:
        """Close a client that was given."""
        raise NotImplementedError

    def unreachable(self) -> Any:
        """A new backend whose server does not answer: nothing listens there."""
        raise NotImplementedError

    @abstractmethod
    def write(self, value: Any, key: str, text: str) -> Any:
        """Write a text under a key that has none, through what services get from the resource."""

    @abstractmethod
    def read(self, value: Any, key: str) -> Any:
        """The text under a key, through what services get; None if there is none."""

    @abstractmethod
    def look(self, key: str) -> str | None:
        """The committed text under a key, by other means than the backend."""

    def slow(self, value: Any) -> Any:
        """An operation that the server takes longer for than any test, as an awaitable."""
        raise NotImplementedError

    def connections(self) -> tuple[int, int]:
        """How many connections the backend holds, and how many are in a transaction, by the server's own count."""
        raise NotImplementedError

    def run(self, scenario: Coroutine[Any, Any, Any]) -> None:
        """Run a test: in a new event loop, or, if nothing in it ever suspends, without one."""
        if self.is_async:
            asyncio.run(scenario)
            return
        try:
            scenario.send(None)
        except StopIteration:
            return
        scenario.close()
        raise AssertionError("a sync backend suspended")
