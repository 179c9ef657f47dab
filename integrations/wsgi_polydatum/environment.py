"""Access to the WSGI environ: its facts, its context, and the DAL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

from polydatum import Context
from polydatum.adapting import RequestDal, RequestFacts

Environ = dict[str, Any]

CONTEXT_KEY = "polydatum.context"
"""The key of a request's Context in its environ."""

DAL_KEY = "polydatum.dal"
"""The key of the DAL in a request's environ."""

FIX = "PolydatumWSGI did not see this request; wrap the application: app = PolydatumWSGI(app, dm)"
STREAM_HINT = (
    "the answer has started; in a streamed body open a context of its own: "
    "with wsgi_polydatum.stream_context(environ) as ctx"
)


class EnvironFacts(RequestFacts[Environ]):
    """``ctx.meta`` of a WSGI request."""

    __slots__ = ()

    def find_request(self, request: Environ) -> object:
        """The environ, read-only."""
        return MappingProxyType(request)

    def find_user(self, request: Environ) -> object:
        """``REMOTE_USER``, set by a server that has authenticated the user; a header would be ``HTTP_...``."""
        return request.get("REMOTE_USER")

    def find_params(self, request: Environ) -> Iterable[tuple[str, object]]:
        """Query and path; the body can be read only once, by the application."""
        yield from parse_qsl(request.get("QUERY_STRING", ""), keep_blank_values=True)
        yield from (path_params_of(request) or {}).items()

    def find_header(self, request: Environ, name: str) -> str | None:
        """A header of the request; the server joins several of the same name."""
        key = name.upper().replace("-", "_")
        value: str | None = request.get(key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}")
        return value

    def is_routed(self, request: Environ) -> bool:
        """Whether a router has stored the path parameters."""
        return path_params_of(request) is not None


def path_params_of(environ: Environ) -> Mapping[str, Any] | None:
    """The path parameters, if a router has stored them in the environ."""
    if "wsgiorg.routing_args" in environ:  # https://wsgi.readthedocs.io/en/latest/specifications/routing_args.html
        named: Mapping[str, Any] = environ["wsgiorg.routing_args"][1]
        return named
    return environ.get("route.url_args")  # Bottle's


def environ_of(request: Any) -> Environ:
    """The environ of a request; an environ is returned unchanged."""
    return getattr(request, "environ", request)  # type: ignore[no-any-return]


def _find(request: Any) -> Context | None:
    try:  # `environ_of` inlined: hot path of every DAL call in a view
        environ: Environ = request.environ
    except AttributeError:
        environ = request
    return environ.get(CONTEXT_KEY)


def _keep(request: Any, context: Context) -> None:
    environ_of(request)[CONTEXT_KEY] = context


def _facts(request: Any) -> EnvironFacts:
    return EnvironFacts(environ_of(request))


request_dal = RequestDal(_find, _keep, _facts, fix=FIX, stream=STREAM_HINT)


def stream_context(request: Any) -> Context:
    """A new context for the body of a streamed answer, with the ``meta`` of the request; use it with ``with``.

    A body runs after the request's own context has ended, when the status has been sent and can no longer change. What
    the body reads or writes is a separate unit of work, which ends with the ``with`` block: when the body has been read
    to its end, or when the server closes it because the client has disconnected.

    Args:
        request: the environ of the request that is answered, or an object with the attribute ``environ``.

    Raises:
        AdapterMissingError: if the request did not pass a PolydatumWSGI.

    Example::

        def application(environ, start_response):
            def rows():
                with stream_context(environ) as ctx:
                    for row in ctx.dal.items.all():
                        yield row.as_csv().encode()

            start_response("200 OK", [("Content-Type", "text/csv")])
            return rows()
    """
    return request_dal.stream_context(request)
