"""Access to Django requests: their facts, their context, and ``request.dal``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.http import HttpRequest

from polydatum import Context
from polydatum.adapting import RequestDal, RequestFacts

CONTEXT = "polydatum_context"
"""The attribute of a request that holds its Context."""

ERROR = "polydatum_error"
"""The attribute of a request that holds the exception raised by its view."""

_FIX = (
    "PolydatumMiddleware did not see this request; add 'django_polydatum.PolydatumMiddleware' to MIDDLEWARE, "
    "after AuthenticationMiddleware and before middleware that uses request.dal"
)
STREAM_HINT = (
    "the answer has been decided; in a streamed body or background task open a context of its own: "
    "with django_polydatum.stream_context(request) as ctx"
)
FAILED_HINT = (
    "the request has failed; ON_COMMIT_ERROR, handler500 and receivers of got_request_exception run after the context has "
    "ended: open a new one there, with dm.context()"
)


class DjangoFacts(RequestFacts[HttpRequest]):
    """``ctx.meta`` of a Django request."""

    __slots__ = ()

    def find_user(self, request: HttpRequest) -> object:
        """``request.user``, which Django loads on first access; async code awaits ``meta.request.auser()``."""
        return getattr(request, "user", None)

    def find_params(self, request: HttpRequest) -> Iterable[tuple[str, object]]:
        """The query, the form fields of a POST, and the values captured by the URL pattern."""
        for fields in (request.GET, request.POST):
            for key, values in fields.lists():
                for value in values:
                    yield str(key), value
        match: Any = request.resolver_match
        if match is not None:
            yield from match.captured_kwargs.items()

    def find_header(self, request: HttpRequest, name: str) -> str | None:
        """A header of the request; the server joins several of the same name."""
        return request.headers.get(name)

    def is_routed(self, request: HttpRequest) -> bool:
        """Whether the URL has been resolved."""
        return request.resolver_match is not None


def context_of(request: Any) -> Context | None:
    """The context of a request, or None."""
    context: Context | None = request.__dict__.get(CONTEXT)
    return context


def keep(request: HttpRequest, context: Context) -> None:
    """Store the context on its request."""
    setattr(request, CONTEXT, context)


_request_dal = RequestDal(CONTEXT, keep, DjangoFacts, fix=_FIX, stream=STREAM_HINT)


def put_dal_on_requests() -> None:
    """Add ``dal`` to Django's requests."""
    _request_dal.put_on(HttpRequest)


def stream_context(request: HttpRequest) -> Context:
    """A new context for the body of a streamed answer, with the ``meta`` of the request; ``with`` and ``async with``.

    A body runs after the request's own context has ended, when the status has been sent and can no longer change. What
    the body reads or writes is a separate unit of work, which ends with the block: when the body has been read to its
    end, or when the server closes it because the client has disconnected.

    Args:
        request: the request that is answered.

    Raises:
        AdapterMissingError: if the request did not pass PolydatumMiddleware.

    Example::

        def export(request):
            def rows():
                with stream_context(request) as ctx:
                    for row in ctx.dal.items.all():
                        yield row.as_csv()

            return StreamingHttpResponse(rows())
    """
    real: Any = getattr(request, "_request", request)  # the Django REST framework wraps Django's
    return _request_dal.stream_context(real)
