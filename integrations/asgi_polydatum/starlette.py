"""For Starlette and FastAPI: a request whose ``dal`` is the user's, the DAL as a dependency, and endpoints that block.

Importing this module imports Starlette; the rest of `asgi_polydatum` does not.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

import starlette.requests
from starlette.concurrency import run_in_threadpool
from starlette.endpoints import HTTPEndpoint
from starlette.requests import HTTPConnection

from asgi_polydatum.connection import scope_of
from asgi_polydatum.exchange import EXCHANGE_KEY, Exchange

P = ParamSpec("P")
ResponseT = TypeVar("ResponseT")

if TYPE_CHECKING:
    from typing import Generic

    DalT = TypeVar("DalT")

    class Request(starlette.requests.Request, Generic[DalT]):
        """A Starlette request, annotated with the class of its DAL: ``async def view(request: Request[ShopDAL])``.

        For annotations: what a view is given is an ordinary request of Starlette's, which has the same ``dal``.
        FastAPI takes the annotation for a request, too.
        """

        @property
        def dal(self) -> DalT:
            """The DAL while the request's context is open.

            Raises:
                AdapterMissingError: if the request went through no PolydatumMiddleware.
                ContextClosedError: if the context has ended.
            """
            raise NotImplementedError

else:

    class Request(starlette.requests.Request):
        """A Starlette request; ``Request[ShopDAL]`` is the same class, for type checkers its ``dal`` is a ShopDAL."""

        def __class_getitem__(cls, dal_class: Any) -> type[Self]:
            return cls  # a class, not a generic alias, which FastAPI would take for a parameter


async def get_dal(connection: HTTPConnection) -> Any:
    """The DAL of the current request, as a dependency of FastAPI: ``Annotated[ShopDAL, Depends(get_dal)]``.

    A coroutine function, because FastAPI calls any other in its thread pool.

    Raises:
        AdapterMissingError: if the request went through no PolydatumMiddleware, or is a WebSocket.
        ContextClosedError: if its context has ended.
    """
    return connection.dal  # type: ignore[attr-defined]


def sync_endpoint(endpoint: Callable[P, ResponseT]) -> Callable[P, Coroutine[Any, Any, ResponseT]]:
    """Run a blocking endpoint in the thread pool, and commit in its thread: for endpoints that are called often.

    A plain ``def`` is run there by Starlette itself, and is all that is needed. But what it has opened closes in a thread
    once more, before the answer starts, and a turn to a thread and back may cost more than the rest of the context. With
    this decorator the context commits in the endpoint's own thread as soon as that has returned a response below 400, if
    nothing but sync resources takes part. Whatever else happens is as without it.

    The endpoint has the last word then: a middleware between it and PolydatumMiddleware that makes its answer an error
    undoes nothing, and finds the context closed. An endpoint that returns no response, as FastAPI's may, saves nothing.

    Args:
        endpoint: a function, or a method of an `HTTPEndpoint`; one of its arguments is the request.

    Example::

        @sync_endpoint
        def get_item(request: Request[ShopDAL]) -> JSONResponse:
            return JSONResponse(request.dal.items.get(request.path_params["id"]))
    """

    @wraps(endpoint)
    async def in_thread(*args: P.args, **kwargs: P.kwargs) -> ResponseT:
        call = partial(endpoint, *args, **kwargs)
        exchange = _exchange_among([*args, *kwargs.values()])
        if exchange is None:
            return await run_in_threadpool(call)
        return await exchange.run_endpoint(call, run_in_threadpool)  # type: ignore[no-any-return]

    return in_thread


def _exchange_among(arguments: list[Any]) -> Exchange | None:
    for argument in arguments:
        if isinstance(argument, HTTPConnection | HTTPEndpoint):
            return scope_of(argument).get(EXCHANGE_KEY)
    return None
