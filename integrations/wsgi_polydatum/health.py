"""A health endpoint for WSGI applications."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from polydatum import DataManager
from polydatum.adapting import PING_TIMEOUT, find_manager, health_answer
from wsgi_polydatum.environment import Environ
from wsgi_polydatum.exchange import StartResponse, WSGIApp


def health(data_manager: DataManager[Any, Any] | str, *, timeout: float = PING_TIMEOUT) -> WSGIApp:
    """A WSGI application that pings every backend, and answers 200, or 503 if a ping fails.

    The body is JSON, ``{"ok": true, "resources": {"db": true}}``. In Flask a view can return it:
    ``app.add_url_rule("/health", "health", lambda: health(dm))``. Each request is one exchange with each server: do not
    expose it to the public, or limit its rate. An async backend is pinged over a new client. An async backend with a
    client of your own cannot be pinged here and counts as failed.

    Args:
        data_manager: the DataManager or a dotted path to it.
        timeout: seconds that all pings together may take; less than the timeout of the health check's caller.

    Raises:
        ManagerNotFoundError: if it cannot be imported.
        InvalidManagerError: if it is not a DataManager.
    """
    manager = find_manager(("health(data_manager)", data_manager))

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        answer = health_answer(manager.ping(timeout=timeout))
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", [*answer.headers.items()])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    return application
