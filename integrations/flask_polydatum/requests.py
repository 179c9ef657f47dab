"""Access to Flask requests: their facts, their context, and ``request.dal``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import flask

from polydatum import Context, ContextError
from polydatum.adapting import RequestDal, RequestFacts

CONTEXT = "polydatum_context"
"""The attribute of a request that holds its Context. Not on ``flask.g``: nested requests of one app share that."""

_FIX = (
    "the request was not dispatched by Flask, or flask_polydatum is not installed in its app; call "
    "FlaskPolydatum(dm).init_app(app), or flask_polydatum.init_app(app, dm)"
)
STREAM_HINT = (
    "the answer has been decided; in a streamed body or background task open a context of its own: "
    "with flask_polydatum.stream_context(request) as ctx"
)
FAILED_HINT = (
    "the request has failed; the 500 handler, and the after_request functions that its answer goes through, run after "
    "the context has ended and cannot use the DAL: ask dm.get_active_context(), which is None there"
)


class FlaskFacts(RequestFacts[flask.Request]):
    """``ctx.meta`` of a Flask request."""

    __slots__ = ()

    def find_user(self, request: flask.Request) -> object:
        """Flask-Login's current user, loaded if necessary; None without Flask-Login.

        Raises:
            ContextError: if this is not the current request, as the current user would belong to another one.
        """
        flask_login: Any = sys.modules.get("flask_login")
        if flask_login is None:
            return None
        try:
            is_current = current_request() is request
        except RuntimeError:
            is_current = False  # there is no current request
        if not is_current:
            raise ContextError(
                "meta.user is Flask-Login's current user, and the request is not Flask's current one here; read it "
                "earlier, or wrap a streamed body in flask.stream_with_context"
            )
        if not hasattr(_current_app(), "login_manager"):
            return None
        return flask_login.current_user._get_current_object()

    def find_params(self, request: flask.Request) -> Iterable[tuple[str, object]]:
        """Query, form fields, path. Consumes the body of a form, as ``request.form`` does."""
        yield from request.args.items(multi=True)
        yield from request.form.items(multi=True)
        yield from (request.view_args or {}).items()

    def find_header(self, request: flask.Request, name: str) -> str | None:
        """A header of the request; the server joins several of the same name."""
        return request.headers.get(name)


current_request: Callable[[], flask.Request] = flask.request._get_current_object  # type: ignore[attr-defined]
"""The request behind Flask's proxy."""
_current_app: Callable[[], flask.Flask] = flask.current_app._get_current_object  # type: ignore[attr-defined]


def _unwrapped(request: Any) -> flask.Request:
    """The real request, also if ``flask.request`` was passed."""
    unwrap = getattr(request, "_get_current_object", None)
    real: flask.Request = request if unwrap is None else unwrap()
    return real


def context_of(request: Any) -> Context | None:
    """The context of a request, or None."""
    context: Context | None = getattr(request, CONTEXT, None)
    return context


def keep(request: flask.Request, context: Context) -> None:
    """Store the context on its request."""
    setattr(request, CONTEXT, context)


request_dal = RequestDal(CONTEXT, keep, lambda request: FlaskFacts(_unwrapped(request)), fix=_FIX, stream=STREAM_HINT)


def stream_context(request: flask.Request) -> Context:
    """A new context for the body of a streamed answer, with the ``meta`` of the request; use it with ``with``.

    A body runs after the request's own context has ended, when the status has been sent and can no longer change. What
    the body reads or writes is a separate unit of work, which ends with the ``with`` block: when the body has been read
    to its end, or when the server closes it because the client has disconnected.

    Args:
        request: the request that is answered; ``flask.request`` will do.

    Raises:
        AdapterMissingError: if flask_polydatum is not installed in the app of the request.

    Example::

        @app.get("/export")
        def export():
            request = flask.request._get_current_object()

            def rows():
                with stream_context(request) as ctx:
                    for row in ctx.dal.items.all():
                        yield row.as_csv()

            return Response(rows())
    """
    return request_dal.stream_context(request)
