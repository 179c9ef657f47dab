"""Types for Starlette and FastAPI: a request whose ``dal`` is the user's, and the DAL as a dependency.

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
