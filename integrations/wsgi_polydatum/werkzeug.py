"""``request.dal`` for requests of Werkzeug."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from wsgi_polydatum.environment import Environ, request_dal

DalT = TypeVar("DalT")


class RequestMixin(Generic[DalT]):
    """Mixed into a request class that has an ``environ``: ``class Request(RequestMixin[ShopDAL], werkzeug.Request)``.

    Imports nothing of Werkzeug: the requests of WebOb, and so of Pyramid, have an ``environ``, too.
    """

    environ: Environ

    if TYPE_CHECKING:

        @property
        def dal(self) -> DalT:
            """The DAL while the request's context is open.

            Raises:
                AdapterMissingError: if the request went through no PolydatumWSGI.
                ContextClosedError: if the context has ended.
            """
            raise NotImplementedError

    else:
        dal: Any = request_dal
