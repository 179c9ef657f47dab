"""``request.dal`` for requests of Werkzeug."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from wsgi_polydatum.environment import Environ, request_dal

DalT = TypeVar("DalT")


class RequestMixin(Generic[DalT]):
    """Mixin for a request class that has an ``environ``: ``class Request(RequestMixin[ShopDAL], werkzeug.Request)``.

    It does not import Werkzeug, and also works for requests of WebOb, and so of Pyramid, which have an ``environ``,
    too.
    """

    environ: Environ

    if TYPE_CHECKING:

        @property
        def dal(self) -> DalT:
            """The DAL while the request's context is open.

            Raises:
                AdapterMissingError: if the request did not pass a PolydatumWSGI.
                ContextClosedError: if the context has ended.
            """
            raise NotImplementedError

    else:
        dal: Any = request_dal
