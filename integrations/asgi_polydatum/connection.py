"""Access to the ASGI scope: its facts, its context, and ``request.dal``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import parse_qsl

from asgi_polydatum.frameworks import path_params_of, quart_request, request_classes, request_from
from asgi_polydatum.protocol import Scope
from polydatum import Context, DataManager
from polydatum.adapting import AdapterMissingError, RequestDal, RequestFacts, find_manager

CONTEXT_KEY = "polydatum.context"
"""The key of a request's Context in its scope."""

FACTORY_KEY = "polydatum.new_context"
"""The key, in a WebSocket's scope, of the factory for its messages' contexts, which applies the middleware's rules."""


class ScopeFacts(RequestFacts[Scope]):
    """``ctx.meta`` of an HTTP request."""

    __slots__ = ()

    def find_request(self, request: Scope) -> object:
        """The framework's own request object, without a body; without a framework, the scope, read-only."""
        return request_from(request)

    def find_user(self, request: Scope) -> object:
        """The user that an authentication middleware, inside or outside of ours, has put into the scope."""
        return request.get("user")

    def find_params(self, request: Scope) -> Iterable[tuple[str, object]]:
        """Query and path; the body of an ASGI request cannot be read synchronously."""
        yield from parse_qsl(request.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        yield from path_params_of(request).items()

    def find_header(self, request: Scope, name: str) -> str | None:
        """A header of the request; several of the same name are joined with commas (RFC 9110, 5.2)."""
        wanted = name.encode("latin-1")
        values = [value.decode("latin-1") for key, value in request.get("headers", ()) if key.lower() == wanted]
        return ", ".join(values) if values else None

    def is_routed(self, request: Scope) -> bool:
        """Whether a router has matched the path."""
        return "path_params" in request or quart_request(request) is not None


ContextFactory = Callable[[ScopeFacts], Context]


def manager_in(scope: Scope, given: object, app: object) -> DataManager[Any, Any]:
    """The DataManager for a scope: from the argument, the lifespan state, or the application.

    Raises:
        ManagerNotFoundError: if there is none.
        InvalidManagerError: if what was found is not a DataManager.
    """
    state = getattr(scope.get("app", app), "state", None)
    return find_manager(
        ("PolydatumMiddleware(app, data_manager=...)", given),
        ("lifespan state 'polydatum'", (scope.get("state") or {}).get("polydatum")),
        ("app.state.data_manager", getattr(state, "data_manager", None)),
    )


def stream_context(request: Any) -> Context:
    """A new context for the body of a streamed answer, with the ``meta`` of the request; use it with ``async with``.

    A body runs after the request's own context has ended, when the status has been sent and can no longer change. What
    the body reads or writes is a separate unit of work, which ends with the ``async with`` block: closed when the body
    has been read to its end, rolled back when the client disconnects and the server reports it.

    Args:
        request: the request that is answered, or its scope.

    Raises:
        AdapterMissingError: if the request did not pass a PolydatumMiddleware.

    Example::

        async def export(request):
            async def rows():
                async with stream_context(request) as ctx:
                    for row in ctx.dal.items.all():
                        yield row.as_csv()

            return StreamingResponse(rows())
    """
    return _request_dal.stream_context(request)


def dal_context(websocket: Any) -> AbstractAsyncContextManager[Any]:
    """A new context for one message of a WebSocket, with the ``meta`` of its handshake; ``async with`` yields the DAL.

    A WebSocket has no context of its own, since that would hold a database connection for hours. The ``async with``
    block is one unit of work: it commits at the end, and rolls back if an exception leaves it.

    Args:
        websocket: the WebSocket, or its scope.

    Raises:
        AdapterMissingError: if the WebSocket did not pass a PolydatumMiddleware.

    Example::

        async def chat(websocket):
            await websocket.accept()
            async for text in websocket.iter_text():
                async with dal_context(websocket) as dal:
                    dal.messages.add(text)
    """
    scope = scope_of(websocket)
    new_context: ContextFactory | None = scope.get(FACTORY_KEY)
    if new_context is None:
        raise AdapterMissingError("dal_context(websocket)", _FIX)
    return _DalBlock(new_context(ScopeFacts(scope)))


class _DalBlock(AbstractAsyncContextManager[Any]):
    """The block of a context that yields the DAL."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __aenter__(self) -> Any:
        await self._context.__aenter__()
        return self._context.dal

    async def __aexit__(self, *exc_info: Any) -> bool:
        return await self._context.__aexit__(*exc_info)


def scope_of(connection: Any) -> Scope:
    """The scope of a request or WebSocket; a scope is returned unchanged."""
    return getattr(connection, "scope", connection)  # type: ignore[no-any-return]


_FIX = (
    "PolydatumMiddleware did not see this request, or not yet; add it: "
    "app.add_middleware(PolydatumMiddleware, data_manager=dm), or app = PolydatumMiddleware(app, data_manager=dm), "
    "and outside of every middleware that uses request.dal, which in Starlette means after it"
)
_WEBSOCKET = (
    "a WebSocket has no context of its own, it would hold a connection for hours; "
    "open one for each message: async with asgi_polydatum.dal_context(websocket) as dal"
)
STREAM_HINT = (
    "the answer has started; in a streamed body or background task open a context of its own: "
    "async with asgi_polydatum.stream_context(request) as ctx"
)


def _context_of(connection: Any) -> Context | None:
    try:  # `scope_of` inlined: hot path of every DAL call in a view
        scope: Scope = connection.scope
    except AttributeError:
        scope = connection
    context: Context | None = scope.get(CONTEXT_KEY)
    if context is None and scope["type"] == "websocket":
        raise AdapterMissingError("websocket.dal", _WEBSOCKET)
    return context


def _keep(connection: Any, context: Context) -> None:
    scope_of(connection)[CONTEXT_KEY] = context


def _facts(connection: Any) -> ScopeFacts:
    return ScopeFacts(scope_of(connection))


_request_dal = RequestDal(_context_of, _keep, _facts, fix=_FIX, stream=STREAM_HINT)


def put_dal_on_requests() -> None:
    """Add ``dal`` to the request classes of the loaded frameworks."""
    for request_class in request_classes():
        _request_dal.put_on(request_class)
