"""What is read from a WSGI environ and put into it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

from polydatum import Context
from polydatum.adapting import RequestDal, RequestFacts

Environ = dict[str, Any]

CONTEXT_KEY = "polydatum.context"
"""Where the environ of a request holds its Context."""

DAL_KEY = "polydatum.dal"
"""Where the environ of a request holds the DAL."""

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
        """``REMOTE_USER``, which the server sets when it has authenticated a user; a header is ``HTTP_...``."""
        return request.get("REMOTE_USER")

    def find_params(self, request: Environ) -> Iterable[tuple[str, object]]:
        """Query and path; a body is read once, and that is the application's business."""
        yield from parse_qsl(request.get("QUERY_STRING", ""), keep_blank_values=True)
        yield from (path_params_of(request) or {}).items()

    def find_header(self, request: Environ, name: str) -> str | None:
        """A header of the request; several of one name are joined by the server."""
        key = name.upper().replace("-", "_")
        value: str | None = request.get(key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}")
        return value

    def is_routed(self, request: Environ) -> bool:
        """Whether a router has left the path's parameters."""
        return path_params_of(request) is not None


def path_params_of(environ: Environ) -> Mapping[str, Any] | None:
    """What a router has found in the path, where it says so in the environ."""
    if "wsgiorg.routing_args" in environ:  # https://wsgi.readthedocs.io/en/latest/specifications/routing_args.html
        named: Mapping[str, Any] = environ["wsgiorg.routing_args"][1]
        return named
    return environ.get("route.url_args")  # of Bottle


def environ_of(request: Any) -> Environ:
    """The environ of a request, which may be given as itself."""
    return getattr(request, "environ", request)  # type: ignore[no-any-return]


def _find(request: Any) -> Context | None:
    try:  # `environ_of` spelled out: every DAL call of a view comes through here
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

    A body runs after the request's own context has ended: the answer's status is on its way, and nothing can take it
    back. What the body reads or writes is a unit of work of its own, which ends with the ``with`` block: when the body is
    read to its end, or when the server closes it because the client has left.

    Args:
        request: the environ of the request that is answered, or an object that has it as ``environ``.

    Raises:
        AdapterMissingError: if the request went through no PolydatumWSGI.

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
