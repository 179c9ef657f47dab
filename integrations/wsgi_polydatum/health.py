"""A health endpoint for WSGI applications."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from polydatum import DataManager
from polydatum.adapting import find_manager, health_answer
from wsgi_polydatum.environment import Environ
from wsgi_polydatum.exchange import StartResponse, WSGIApp


def health(data_manager: DataManager[Any, Any] | str) -> WSGIApp:
    """A WSGI application that asks every sync backend for a sign of life, and answers 200, or 503 if one gives none.

    The body is JSON, ``{"ok": true, "resources": {"db": true}}``. In Flask a view returns it:
    ``app.add_url_rule("/health", "health", lambda: health(dm))``. Each request is one exchange with each server: keep it from
    the public, or limit its rate.

    Args:
        data_manager: the DataManager or a dotted path to it.

    Raises:
        ManagerNotFoundError: if it cannot be imported.
        InvalidManagerError: if it is something else.
    """
    manager = find_manager(("health(data_manager)", data_manager))

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        answer = health_answer(manager.ping())
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", [*answer.headers.items()])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    return application
