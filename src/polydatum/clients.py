"""Backends: resources over a client that lives as long as the process, such as an engine or a pool.

A `Backend` defines how its client is created, what a Context gets from it, and how to check that the server answers.
The client itself is a resource of the app scope: created on first touch, one per process (async ones: per event loop),
closed by `DataManager.close`, and created again in a forked child.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any, Generic, NamedTuple, TypeVar

from .app_scope import AppResource
from .errors import AsyncResourceError, ForkedResourceError
from .kinds import ASYNC_BACKEND
from .opening import UnderWay
from .resources import RegisteredResource

ClientT = TypeVar("ClientT")


class Ping(NamedTuple):
    """Whether the server behind a resource answered, how many seconds that took, and which error there was.

    The error is the name of an exception's class only: its message may contain what must not be shown. A
    ``TimeoutError`` may be Polydatum's own.
    """

    ok: bool
    seconds: float
    error: str | None = None


class _Given(Generic[ClientT]):
    """What both kinds of backend know about a client that the user made."""

    _given: ClientT | None = None  # also if a subclass does not call super().__init__()
    _process: int | None = None  # the one that used the given client last

    def __init__(self, client: ClientT | None = None) -> None:
        self._given = client

    def _is_inherited(self) -> bool:
        """Whether the given client was used in a process that this one was forked from."""
        return self._process not in (None, os.getpid())

    def _record_process(self) -> None:
        """Record that the given client is now used in this process."""
        self._process = os.getpid()


class Backend(_Given[ClientT]):
    """A resource over a client of the process. Register it as usual: ``dm.register_resources(db=MyBackend(...))``.

    Subclass it for a client that has no ready-made backend in `polydatum.backends`.

    Args:
        client: your own client, which is used as it is and never closed; if None, `connect` creates one.

    Example:
        >>> import contextlib, sqlite3
        >>> from polydatum import DataManager
        >>> class SQLite(Backend[sqlite3.Connection]):
        ...     def connect(self):
        ...         return sqlite3.connect(":memory:", check_same_thread=False)
        ...     def disconnect(self, client):
        ...         client.close()
        ...     def begin(self, context, client, name):
        ...         return contextlib.nullcontext(client)
        ...     def ping(self, client):
        ...         client.execute("SELECT 1")
        >>> dm = DataManager()
        >>> dm.register_resources(db=SQLite())
        >>> with dm.context() as ctx:
        ...     ctx.db.execute("SELECT 1 + 1").fetchone()
        (2,)
        >>> dm.ping()["db"].ok
        True
        >>> dm.close()
    """

    def connect(self) -> ClientT:
        """Create a client. Called once per process, on first touch; preferably without a round trip to the server."""
        raise NotImplementedError

    def disconnect(self, client: ClientT) -> None:
        """Close a client that `connect` created."""

    def renew(self, client: ClientT, name: str) -> None:
        """Prepare a given client for use in a forked child of the process that used it before.

        Raises:
            ForkedResourceError: if that is not possible; the default.
        """
        raise ForkedResourceError(name)

    def begin(self, context: Any, client: ClientT, name: str) -> Any:
        """What a context opens: a `Transaction` or a context manager. `begin` has to enforce ``context.read_only``.

        Args:
            context: the context, on its first touch of the resource.
            client: the client.
            name: the name that the resource is registered under, for messages.
        """
        raise NotImplementedError

    def ping(self, client: ClientT) -> None:
        """Check that the server answers, in one short exchange; raises what the client raises if it does not."""


class AsyncBackend(_Given[ClientT]):
    """The async twin of `Backend`: its client belongs to one event loop, and services await the resource."""

    def shared(self) -> AbstractContextManager[Any]:
        """What the event loops of a process share, if anything: entered before the first `connect` in any of them.

        It is exited when the manager is closed, so it outlasts loops that end before that, and their clients.
        """
        return nullcontext()

    async def connect(self) -> ClientT:
        """As `Backend.connect`; called once per event loop."""
        raise NotImplementedError

    async def disconnect(self, client: ClientT) -> None:
        """As `Backend.disconnect`."""

    async def renew(self, client: ClientT, name: str) -> None:
        """As `Backend.renew`."""
        raise ForkedResourceError(name)

    async def begin(self, context: Any, client: ClientT, name: str) -> Any:
        """As `Backend.begin`; returns an `AsyncTransaction` or an async context manager."""
        raise NotImplementedError

    async def ping(self, client: ClientT) -> None:
        """As `Backend.ping`."""


class BackedResource(RegisteredResource):
    """A backend under its name, and the client that it shares among all contexts of a manager."""

    __slots__ = ("asked", "backend", "client", "shared")

    def __init__(self, name: str, backend: Backend[Any] | AsyncBackend[Any], under_way: UnderWay) -> None:
        self.backend = backend
        self.asked: dict[Any, Any] = {}  # pings under way, by process or event loop
        if isinstance(backend, AsyncBackend):
            super().__init__(name, self._abegin, under_way, kind=ASYNC_BACKEND)
            self.client = AppResource(f"{name} client", self._aclient, under_way)
            self.shared = AppResource(f"{name} for all event loops", self._shared, under_way)
        else:
            super().__init__(name, self._begin, under_way)
            self.client = AppResource(f"{name} client", self._client, under_way)

    @property
    def registered(self) -> Any:
        """The backend."""
        return self.backend

    @property
    def of_the_application(self) -> list[AppResource]:
        """The app resources behind it, which outlive contexts."""
        return [self.client, self.shared] if self.kind.is_async else [self.client]

    def client_for(self, data_manager: Any) -> Any:
        """The client, created now if there is none; an awaitable of it if the backend is async."""
        return data_manager._app.touch(self.client, data_manager)

    def _begin(self, context: Any) -> Any:
        return self.backend.begin(context, self.client_for(context._data_manager), self.name)

    async def _abegin(self, context: Any) -> Any:
        return await self.backend.begin(context, await self.client_for(context._data_manager), self.name)

    def _client(self, data_manager: Any) -> Iterator[Any]:
        backend: Any = self.backend
        if backend._given is not None:
            if backend._is_inherited():
                backend.renew(backend._given, self.name)
            backend._record_process()
            yield backend._given
            return
        client = backend.connect()
        try:
            yield client
        finally:
            backend.disconnect(client)

    async def _aclient(self, data_manager: Any) -> AsyncIterator[Any]:
        backend: Any = self.backend
        if backend._given is not None:
            if backend._is_inherited():
                await backend.renew(backend._given, self.name)
            backend._record_process()
            yield backend._given
            return
        data_manager._app.touch(self.shared, data_manager)
        client = await backend.connect()
        try:
            yield client
        finally:
            await backend.disconnect(client)

    def _shared(self, data_manager: Any) -> Iterator[Any]:
        backend: Any = self.backend
        with backend.shared() as shared:
            yield shared

    def ping(self, data_manager: Any) -> Ping:
        """Check that the server answers.

        An async backend is asked in an event loop of its own, with a client created for this: others belong to their
        loops.
        """
        started = perf_counter()
        try:
            if self.kind.is_async:
                import asyncio

                asyncio.run(self._ask_alone())
            else:
                self.backend.ping(self.client_for(data_manager))
        except Exception as error:
            return Ping(False, perf_counter() - started, type(error).__name__)
        return Ping(True, perf_counter() - started)

    async def _ask_alone(self) -> None:
        backend: Any = self.backend
        if backend._given is not None:
            raise AsyncResourceError(self.name, "has a client of an event loop, where 'await dm.aping()' can ask it")
        client = await backend.connect()
        try:
            await backend.ping(client)
        finally:
            await backend.disconnect(client)

    async def aping(self, data_manager: Any) -> Ping:
        """The async twin of `ping`, for an async backend in the running event loop."""
        started = perf_counter()
        backend: Any = self.backend
        try:
            await backend.ping(await self.client_for(data_manager))
        except Exception as error:
            return Ping(False, perf_counter() - started, type(error).__name__)
        return Ping(True, perf_counter() - started)
