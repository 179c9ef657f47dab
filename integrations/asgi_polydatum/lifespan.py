"""Start-up and shutdown of an ASGI application: the DataManager is there, and nothing is left open at the end."""

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
"""How many applications of this process have started with a manager, and have not shut down."""


async def serve_lifespan(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, find: FindManager, drain: Drain
) -> None:
    """Run the application's lifespan.

    * The DataManager is missing or wrong: ``lifespan.startup.failed`` with the reason, and the error is raised; what the
      application had started is ended again. It is looked for when the application has started, because its lifespan
      may be what makes the manager.
    * The application shall shut down: ``drain`` is called before it hears of it, and while all it needs is still there.
    * The application has shut down, the last one in this process to use the manager: the manager's resources of the
      application's scope are closed. If that fails, ``lifespan.shutdown.failed``, and the error is raised.
    * The application knows no lifespan, and returns or raises without having asked what it is about: all of the above
      happens without it.
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
    """What stands between the lifespan of an application and its server.

    Attributes:
        has_heard: whether the application has asked what the lifespan is about.
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
        """What the application gets for ``receive``."""
        self.has_heard = True
        message = await self._receive()
        if message["type"] == "lifespan.shutdown":
            await self._drain()
        return message

    async def send(self, message: Message) -> None:
        """What the application gets for ``send``."""
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
        """The lifespan is over: tell what is wrong with the manager, if nobody has."""
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
        """Whether the manager is in use no longer, in any application of this process."""
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
    """Roll back the requests that a server has given up waiting for, or never waited for.

    Each close has its own limit. No new one is begun ``limit`` seconds after the first.
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
