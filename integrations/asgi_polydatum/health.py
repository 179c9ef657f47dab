"""A health endpoint for ASGI applications."""

from __future__ import annotations

from typing import Any

from asgi_polydatum.protocol import ASGIApp, Receive, Scope, Send
from polydatum import DataManager
from polydatum.adapting import PING_TIMEOUT, find_manager, health_answer


def health(data_manager: DataManager[Any, Any] | str, *, timeout: float = PING_TIMEOUT) -> ASGIApp:
    """An ASGI application that pings every backend, and answers 200, or 503 if a ping fails.

    The body is JSON, ``{"ok": true, "resources": {"db": true}}``. Route it where no login is required, with
    ``Route("/health", health(dm))`` among the ``routes`` of a Starlette or FastAPI application; a ``Mount`` would
    redirect to ``/health/``. Each request costs one exchange with each server: do not expose it to the public, or limit
    its rate. Sync backends are pinged in a worker thread.

    Args:
        data_manager: the DataManager or a dotted path to it.
        timeout: seconds that all pings together may take; less than the timeout of the health check's caller.

    Raises:
        ManagerNotFoundError: if it cannot be imported.
        InvalidManagerError: if it is not a DataManager.
    """
    return _Health(find_manager(("health(data_manager)", data_manager)), timeout)


class _Health:
    """A class, because a Starlette ``Route`` would call a function with a request."""

    def __init__(self, manager: DataManager[Any, Any], timeout: float) -> None:
        self._manager = manager
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"a health endpoint serves HTTP, not {scope['type']}")
        answer = health_answer(await self._manager.aping(timeout=self._timeout))
        headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})
