"""Backends: resources over a client that lives as long as the process, such as an engine or a pool.

A `Backend` says how its client is made, what a Context gets from it, and whether the server answers. The client itself is
a resource of the application's scope: made on first touch, one per process (async ones: per event loop), closed by
`DataManager.close`, made anew in a forked child.
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
    """Whether the server behind a resource answered, how many seconds that took, and what kept it from answering.

    That is the name of an exception's class: its message may hold what must not be shown. A ``TimeoutError`` may be our own.
    """

    ok: bool
    seconds: float
    error: str | None = None


class _Given(Generic[ClientT]):
    """What both kinds of backend know of a client that the user made."""

    _given: ClientT | None = None  # also where a subclass forgets to call us
    _process: int | None = None  # which used the given client last

    def __init__(self, client: ClientT | None = None) -> None:
        self._given = client

    def _is_inherited(self) -> bool:
        """Whether the given client was used in a process that this one was forked from."""
        return self._process not in (None, os.getpid())

    def _is_ours(self) -> None:
        """From now on the given client is used in this process."""
        self._process = os.getpid()


class Backend(_Given[ClientT]):
    """A resource over a client of the process. Register it like any other: ``dm.register_resources(db=MyBackend(...))``.

    Subclass it for a client that has no ready-made backend in `polydatum.backends`.

    Args:
        client: the user's own client, which is used as it is and never closed; None: one is made by `connect`.

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
        """Make a client. Called once per process, on first touch; better without a round trip to the server."""
        raise NotImplementedError

    def disconnect(self, client: ClientT) -> None:
        """Close a client that `connect` made."""

    def renew(self, client: ClientT, name: str) -> None:
        """Make a given client fit for use in a forked child of the process that used it before.

        Raises:
            ForkedResourceError: if it cannot be; the default.
        """
        raise ForkedResourceError(name)

    def begin(self, context: Any, client: ClientT, name: str) -> Any:
        """What a context opens: a `Transaction` or a context manager. ``context.read_only`` is for it to enforce.

        Args:
            context: the context, on its first touch of the resource.
            client: the client.
            name: the name that the resource is registered by, for messages.
        """
        raise NotImplementedError

    def ping(self, client: ClientT) -> None:
        """Ask the server for a sign of life, in one short exchange; raises what the client raises if there is none."""


class AsyncBackend(_Given[ClientT]):
    """The async twin of `Backend`: its client belongs to one event loop, and services await the resource."""

    def shared(self) -> AbstractContextManager[Any]:
        """What the event loops of a process share, if anything: entered before the first `connect` of them all.

        It is left when the manager is closed. So it outlasts loops that end before, and their clients.
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
        """As `Backend.begin`; gives an `AsyncTransaction` or an async context manager."""
        raise NotImplementedError

    async def ping(self, client: ClientT) -> None:
        """As `Backend.ping`."""


class BackedResource(RegisteredResource):
    """A backend by its name, and the client that it shares among all contexts of a manager."""

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
        """What outlives its contexts."""
        return [self.client, self.shared] if self.kind.is_async else [self.client]

    def client_for(self, data_manager: Any) -> Any:
        """The client, made now if there was none; an awaitable of it if the backend is async."""
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
            backend._is_ours()
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
            backend._is_ours()
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
        """Ask the server for a sign of life.

        An async backend is asked in an event loop of this call's own, over a client that is made for it: others belong to
        their loops.
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
