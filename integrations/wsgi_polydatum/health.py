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
    """A WSGI application that asks every backend for a sign of life, and answers 200, or 503 if one gives none.

    The body is JSON, ``{"ok": true, "resources": {"db": true}}``. In Flask a view returns it:
    ``app.add_url_rule("/health", "health", lambda: health(dm))``. Each request is one exchange with each server: keep it from
    the public, or limit its rate. An async backend is asked over a client that is made for it; one over a client of your own
    cannot be, and counts as one that gave no answer.

    Args:
        data_manager: the DataManager or a dotted path to it.
        timeout: seconds that all of them together may take; less than the patience of whoever asks.

    Raises:
        ManagerNotFoundError: if it cannot be imported.
        InvalidManagerError: if it is something else.
    """
    manager = find_manager(("health(data_manager)", data_manager))

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        answer = health_answer(manager.ping(timeout=timeout))
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", [*answer.headers.items()])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    return application
