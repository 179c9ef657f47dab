"""What is read from an ASGI scope and put into it, and ``request.dal`` where Starlette is loaded.

Starlette is looked up in `sys.modules`, never imported: a bare ASGI application does not need it.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

from polydatum import Context, DataManager
from polydatum.adapting import AdapterMissingError, RequestDal, RequestFacts, find_manager

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

CONTEXT_KEY = "polydatum.context"
"""Where the scope of a request holds its Context."""


class ScopeFacts(RequestFacts[Scope]):
    """``ctx.meta`` of an HTTP request."""

    __slots__ = ()

    def find_request(self, request: Scope) -> object:
        """A Starlette ``Request`` without a body where Starlette is loaded, else the scope, read-only."""
        starlette = sys.modules.get("starlette.requests")
        return MappingProxyType(request) if starlette is None else starlette.Request(request)

    def find_user(self, request: Scope) -> object:
        """What an authentication middleware, inside or outside of ours, has put into the scope."""
        return request.get("user")

    def find_params(self, request: Scope) -> Iterable[tuple[str, object]]:
        """Query and path; the body of an ASGI request cannot be read synchronously."""
        yield from parse_qsl(request.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        yield from request.get("path_params", {}).items()

    def is_routed(self, request: Scope) -> bool:
        """Whether a router has matched the path."""
        return "path_params" in request


def manager_in(scope: Scope, given: object, app: object) -> DataManager[Any, Any]:
    """The DataManager for a scope: the argument's, the lifespan state's, or the application's.

    Raises:
        ManagerNotFoundError: if there is none.
        InvalidManagerError: if it is something else.
    """
    state = getattr(scope.get("app", app), "state", None)
    return find_manager(
        ("PolydatumMiddleware(app, data_manager=...)", given),
        ("lifespan state 'polydatum'", (scope.get("state") or {}).get("polydatum")),
        ("app.state.data_manager", getattr(state, "data_manager", None)),
    )


def stream_context(request: Any) -> Context:
    """A new context for the body of a streamed answer, with the ``meta`` of the request; use it with ``async with``.

    A body runs after the request's own context has ended: the answer's status is on its way, and nothing can take it
    back. What the body reads or writes is a unit of work of its own, which ends with the ``async with`` block: closed
    when the body is read to its end, rolled back when the client leaves and the server says so.

    Args:
        request: the request that is answered, or its scope.

    Raises:
        AdapterMissingError: if the request went through no PolydatumMiddleware.

    Example::

        async def export(request):
            async def rows():
                async with stream_context(request) as ctx:
                    for row in ctx.dal.items.all():
                        yield row.as_csv()

            return StreamingResponse(rows())
    """
    scope: Scope = getattr(request, "scope", request)
    context = scope.get(CONTEXT_KEY)
    if context is None:
        raise AdapterMissingError("stream_context(request)", _FIX)
    return context.data_manager.context(ScopeFacts(scope))  # type: ignore[no-any-return]


_FIX = (
    "PolydatumMiddleware did not see this request; add it: "
    "app.add_middleware(PolydatumMiddleware, data_manager=dm), or app = PolydatumMiddleware(app, data_manager=dm)"
)
_WEBSOCKET = (
    "a WebSocket has no context of its own, it would hold a connection for hours; "
    "open one for each message: async with dm.dal() as dal"
)
STREAM_HINT = (
    "the answer has started; in a streamed body or background task open a context of its own: "
    "async with asgi_polydatum.stream_context(request) as ctx"
)


def _context_of(connection: Any) -> Context | None:
    context: Context | None = connection.scope.get(CONTEXT_KEY)
    if context is None and connection.scope["type"] == "websocket":
        raise AdapterMissingError("websocket.dal", _WEBSOCKET)
    return context


_request_dal = RequestDal(_context_of, fix=_FIX, stream=STREAM_HINT)


def put_dal_on_requests() -> None:
    """Give Starlette's requests, if it is loaded, their ``dal``."""
    starlette = sys.modules.get("starlette.requests")
    if starlette is not None:
        _request_dal.put_on(starlette.HTTPConnection)
