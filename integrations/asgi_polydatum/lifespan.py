"""Start-up and shutdown of an ASGI application: the DataManager is there, and nothing is left open at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Set
from typing import Any

from asgi_polydatum.exchange import Exchange
from asgi_polydatum.protocol import ASGIApp, Message, Receive, Scope, Send
from polydatum import ConfigurationError, DataManager

FindManager = Callable[[Scope], DataManager[Any, Any]]
Drain = Callable[[], Awaitable[None]]

logger = logging.getLogger("polydatum")


async def serve_lifespan(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, find: FindManager, drain: Drain
) -> None:
    """Run the application's lifespan.

    * The DataManager is missing or wrong: ``lifespan.startup.failed`` with the reason, and the error is raised; what the
      application had started is ended again. It is looked for when the application has started, because its lifespan
      may be what makes the manager.
    * The application shall shut down: ``drain`` is called before it hears of it, and while all it needs is still there.
    * The application has shut down: the manager's resources of the application's scope are closed. If that fails,
      ``lifespan.shutdown.failed``, and the error is raised.
    * The application knows no lifespan: as without the middleware, once the manager is found.
    """
    answered = False
    problem: ConfigurationError | None = None

    async def receive_drained() -> Message:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await drain()
        return message

    async def send_checked(message: Message) -> None:
        nonlocal answered, problem
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            try:
                find(scope)
            except ConfigurationError as error:
                problem = error
                raise
        elif kind == "lifespan.startup.failed" and problem is not None:
            message = {**message, "message": str(problem)}
        elif kind == "lifespan.shutdown.complete":
            await _close_resources(find(scope), send)
        answered = answered or kind.startswith("lifespan.startup.")
        await send(message)

    try:
        await app(scope, receive_drained, send_checked)
    finally:
        if not answered:
            try:
                find(scope)
            except ConfigurationError as error:
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                if problem is None:
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


async def _close_resources(manager: DataManager[Any, Any], send: Send) -> None:
    try:
        await manager.aclose()
    except Exception as error:
        await send({"type": "lifespan.shutdown.failed", "message": f"closing the DataManager's resources: {error!r}"})
        raise
