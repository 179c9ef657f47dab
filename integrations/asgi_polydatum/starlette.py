"""Types for Starlette and FastAPI: a request with a typed ``dal``, and the DAL as a dependency.

Importing this module imports Starlette; the rest of `asgi_polydatum` does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import starlette.requests
from starlette.requests import HTTPConnection

if TYPE_CHECKING:
    from typing import Generic, TypeVar

    DalT = TypeVar("DalT")

    class Request(starlette.requests.Request, Generic[DalT]):
        """A Starlette request, annotated with the class of its DAL: ``async def view(request: Request[ShopDAL])``.

        For annotations only: a view gets an ordinary Starlette request, which has the same ``dal``. FastAPI also
        accepts the annotation for a request.
        """

        @property
        def dal(self) -> DalT:
            """The DAL while the request's context is open.

            Raises:
                AdapterMissingError: if the request did not pass a PolydatumMiddleware.
                ContextClosedError: if the context has ended.
            """
            raise NotImplementedError

else:

    class Request(starlette.requests.Request):
        """A Starlette request; ``Request[ShopDAL]`` is the same class, whose ``dal`` type checkers see as a ShopDAL."""

        def __class_getitem__(cls, dal_class: Any) -> type[Self]:
            return cls  # a class, as FastAPI would treat a generic alias as a parameter


async def get_dal(connection: HTTPConnection) -> Any:
    """The DAL of the current request, as a FastAPI dependency: ``Annotated[ShopDAL, Depends(get_dal)]``.

    This is a coroutine function, because FastAPI runs plain functions in its thread pool.

    Raises:
        AdapterMissingError: if the request did not pass a PolydatumMiddleware, or is a WebSocket.
        ContextClosedError: if its context has ended.
    """
    return connection.dal  # type: ignore[attr-defined]
