"""Support for Starlette, FastAPI, Litestar and Quart.

They are looked up in `sys.modules`, never imported: an application that uses a framework has loaded it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from asgi_polydatum.protocol import Scope
from polydatum import PolydatumError

UNHANDLED_KEY = "polydatum.unhandled"
"""The key, in the scope, of the exception that Quart is turning into a 500."""

REQUEST_CLASSES = (
    ("starlette.requests", "HTTPConnection"),  # the base of requests and WebSockets, also FastAPI's
    ("litestar.connection", "ASGIConnection"),
    ("quart.wrappers.base", "BaseRequestWebsocket"),
)


def request_classes() -> Iterator[type]:
    """The request and WebSocket classes of the loaded frameworks."""
    for module, name in REQUEST_CLASSES:
        loaded = sys.modules.get(module)
        if loaded is not None:
            yield getattr(loaded, name)


def request_from(scope: Scope) -> object:
    """A request object of the framework that serves a scope, without a body; or else the scope, read-only."""
    if "litestar_app" in scope:
        return sys.modules["litestar"].Request(scope)
    quart = quart_request(scope)
    if quart is not None:
        return quart
    starlette = sys.modules.get("starlette.requests")
    if starlette is None:
        return MappingProxyType(scope)
    return starlette.Request(scope) if scope["type"] == "http" else starlette.HTTPConnection(scope)


def path_params_of(scope: Scope) -> Mapping[str, Any]:
    """The path parameters found by the framework's router."""
    quart = quart_request(scope)
    return (quart.view_args if quart is not None else scope.get("path_params")) or {}


def watch_quart() -> None:
    """Record Quart's unhandled exceptions in the scope, as Quart turns them into a 500 before they reach us."""
    quart = sys.modules.get("quart")
    if quart is not None:
        quart.got_request_exception.connect(_note_unhandled)


def _note_unhandled(app: Any, exception: Exception, **rest: Any) -> None:
    quart = sys.modules["quart"]
    if quart.has_request_context():  # otherwise it comes from a WebSocket
        quart.request.scope[UNHANDLED_KEY] = exception


def has_no_handler(scope: Scope, error: Exception) -> bool:
    """Whether a framework is turning a Polydatum error into a 500 because the application has no handler for it.

    Only for frameworks that do so inside the middleware; in the others the error reaches the middleware.
    """
    if "litestar_app" in scope:
        handlers = scope["route_handler"].resolve_exception_handlers()
        return not any(kind in handlers for kind in type(error).__mro__ if issubclass(kind, PolydatumError))
    return scope.get(UNHANDLED_KEY) is error


def has_500_handler(scope: Scope) -> bool:
    """Whether the Starlette application that serves a scope has a handler for unexpected errors.

    Starlette re-raises the error after such a handler has answered, as it does after its own 500.
    """
    handlers = getattr(scope.get("app"), "exception_handlers", {})
    return 500 in handlers or Exception in handlers


def quart_request(scope: Scope) -> Any:
    """Quart's current request, if it belongs to the scope; Quart stores nothing in the scope itself."""
    quart = sys.modules.get("quart")
    if quart is None or not quart.has_request_context():
        return None
    request = quart.request._get_current_object()
    return request if request.scope is scope else None
