"""What is read from an ASGI scope and put into it, and ``request.dal``."""

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
"""Where the scope of a request holds its Context."""

FACTORY_KEY = "polydatum.new_context"
"""Where the scope of a WebSocket holds what makes contexts for its messages, by the rules of the middleware."""


class ScopeFacts(RequestFacts[Scope]):
    """``ctx.meta`` of an HTTP request."""

    __slots__ = ()

    def find_request(self, request: Scope) -> object:
        """The framework's own kind of request, without a body; without a framework the scope, read-only."""
        return request_from(request)

    def find_user(self, request: Scope) -> object:
        """What an authentication middleware, inside or outside of ours, has put into the scope."""
        return request.get("user")

    def find_params(self, request: Scope) -> Iterable[tuple[str, object]]:
        """Query and path; the body of an ASGI request cannot be read synchronously."""
        yield from parse_qsl(request.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        yield from path_params_of(request).items()

    def find_header(self, request: Scope, name: str) -> str | None:
        """A header of the request, several of one name joined with commas (RFC 9110, 5.2)."""
        wanted = name.encode("latin-1")
        values = [value.decode("latin-1") for key, value in request.get("headers", ()) if key.lower() == wanted]
        return ", ".join(values) if values else None

    def is_routed(self, request: Scope) -> bool:
        """Whether a router has matched the path."""
        return "path_params" in request or quart_request(request) is not None


ContextFactory = Callable[[ScopeFacts], Context]


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
    return _request_dal.stream_context(request)


def dal_context(websocket: Any) -> AbstractAsyncContextManager[Any]:
    """A new context for one message of a WebSocket, with the ``meta`` of its handshake: gives the DAL.

    A WebSocket has no context of its own, which would hold a connection of the database for hours. What happens in the
    ``async with`` block is one unit of work: it commits at the end, and rolls back if an exception leaves it.

    Args:
        websocket: the WebSocket, or its scope.

    Raises:
        AdapterMissingError: if it went through no PolydatumMiddleware.

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
    """The block of a context, which gives the DAL."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __aenter__(self) -> Any:
        await self._context.__aenter__()
        return self._context.dal

    async def __aexit__(self, *exc_info: Any) -> bool:
        return await self._context.__aexit__(*exc_info)


def scope_of(connection: Any) -> Scope:
    """The scope of a request or WebSocket, which may be given as itself."""
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
    try:  # `scope_of` spelled out: every DAL call of a view comes through here
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
    """Give the requests of the frameworks that are loaded their ``dal``."""
    for request_class in request_classes():
        _request_dal.put_on(request_class)
