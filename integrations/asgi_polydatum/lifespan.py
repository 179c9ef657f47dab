"""Start-up and shutdown of an ASGI application: checks the DataManager, and leaves nothing open at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Set
from typing import Any
from weakref import WeakKeyDictionary

from asgi_polydatum.exchange import Exchange
from asgi_polydatum.protocol import ASGIApp, Message, Receive, Scope, Send
from polydatum import ConfigurationError, DataManager

FindManager = Callable[[Scope], DataManager[Any, Any]]
Drain = Callable[[], Awaitable[None]]

logger = logging.getLogger("polydatum")


_serving: WeakKeyDictionary[DataManager[Any, Any], int] = WeakKeyDictionary()
"""The number of applications of this process that have started with a manager and not shut down yet."""


async def serve_lifespan(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, find: FindManager, drain: Drain
) -> None:
    """Run the application's lifespan.

    * The DataManager is missing or invalid: sends ``lifespan.startup.failed`` with the reason and raises the error, so
      that the application can end what it has started. This is checked after the application has started, because its
      lifespan may create the manager.
    * The server requests a shutdown: ``drain`` is called before the application is told, while everything that requests
      need is still open.
    * The application has shut down, as the last one in this process to use the manager: closes the manager's resources
      of the application's scope. If that fails, sends ``lifespan.shutdown.failed`` and raises the error.
    * The application does not support the lifespan, and returns or raises without receiving its first message: all of
      the above happens without it.
    """
    lifespan = Lifespan(scope, receive, send, find, drain)
    try:
        try:
            await app(scope, lifespan.receive, lifespan.send)
        except Exception as error:
            if lifespan.has_heard:
                raise
            logger.info("the application knows no lifespan; it is served without", exc_info=error)
        if not lifespan.has_heard:
            await lifespan.serve()
    finally:
        await lifespan.end()


class Lifespan:
    """Sits between an application's lifespan and the server.

    Attributes:
        has_heard: whether the application has called ``receive`` or ``send``, that is, supports the lifespan.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, find: FindManager, drain: Drain) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._find = find
        self._drain = drain
        self._served: DataManager[Any, Any] | None = None
        self._problem: ConfigurationError | None = None
        self._has_answered = False
        self.has_heard = False

    async def receive(self) -> Message:
        """The application's ``receive``."""
        self.has_heard = True
        message = await self._receive()
        if message["type"] == "lifespan.shutdown":
            await self._drain()
        return message

    async def send(self, message: Message) -> None:
        """The application's ``send``."""
        self.has_heard = True
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._begin()
        elif kind == "lifespan.startup.failed" and self._problem is not None:
            message = {**message, "message": str(self._problem)}
        elif kind == "lifespan.shutdown.complete":
            await self._close_resources()
        self._has_answered = self._has_answered or kind.startswith("lifespan.startup.")
        await self._send(message)

    async def serve(self) -> None:
        """Start up and shut down in place of the application."""
        await self.receive()
        await self.send({"type": "lifespan.startup.complete"})
        await self.receive()
        await self.send({"type": "lifespan.shutdown.complete"})

    async def end(self) -> None:
        """End the lifespan; report a missing or invalid manager, if the start-up was not answered."""
        self._release()
        if not self._has_answered:
            try:
                self._find(self._scope)
            except ConfigurationError as error:
                await self._send({"type": "lifespan.startup.failed", "message": str(error)})
                if self._problem is None:
                    raise

    def _begin(self) -> None:
        try:
            manager = self._find(self._scope)
        except ConfigurationError as error:
            self._problem = error
            raise
        self._served = manager
        _serving[manager] = _serving.get(manager, 0) + 1

    def _release(self) -> bool:
        """Release the manager; returns whether no application of this process uses it any more."""
        manager = self._served
        if manager is None:
            return False
        self._served = None
        _serving[manager] -= 1
        return not _serving[manager]

    async def _close_resources(self) -> None:
        manager = self._served
        if manager is not None and self._release():
            try:
                await manager.aclose()
            except Exception as error:
                problem = f"closing the DataManager's resources: {error!r}"
                await self._send({"type": "lifespan.shutdown.failed", "message": problem})
                raise


async def drain(live: Set[Exchange], limit: float) -> None:
    """Roll back the requests that the server no longer waits for, or never waited for.

    Each close has its own limit. After ``limit`` seconds no further close is begun.
    """
    deadline = time.monotonic() + limit
    for exchange in list(live):
        if time.monotonic() > deadline:
            logger.error("the shutdown left %d requests open: rolling back took more than %s s", len(live), limit)
            return
        try:
            await exchange.abort()
        except Exception:
            logger.exception("a request could not be rolled back at the shutdown")
