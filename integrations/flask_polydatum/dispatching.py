"""The context around Flask's dispatch of a request.

``app.full_dispatch_request`` is wrapped, because its end is the last point at which an error still becomes Flask's own
500, before ``start_response``. The ``after_request`` functions have run and the session is in a cookie of the answer;
the teardown functions, which run after the answer, have not. A session that is saved to a store would already be
written by then, so such an app gets an ``after_request`` function that ends the context. It is called last, right
before Flask saves the session.

Arguments are passed on unchanged, as signatures differ between versions of Flask.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import flask
from flask.sessions import SecureCookieSessionInterface
from werkzeug.exceptions import HTTPException, default_exceptions

from flask_polydatum import failing
from flask_polydatum.configuration import Configuration
from flask_polydatum.requests import CONTEXT, FAILED_HINT, STREAM_HINT, FlaskFacts, context_of, current_request
from polydatum import Context, PolydatumError, ServiceError
from polydatum.adapting import StreamedBody, UnsendableAnswerError, answer_for, check_head, check_pieces

ERROR = "polydatum_error"
"""The attribute of a request that holds the exception which an error handler turned into the answer."""

FAILING = "polydatum_failing"
"""The attribute, set when the commit of a request fails: whether the request had already failed before."""


class Dispatch:
    """Replaces three methods of an app, on the instance."""

    def __init__(self, app: flask.Flask, configuration: Configuration) -> None:
        # Weak, as the app refers to this object: a cycle would delay freeing the app.
        self._app_ref = weakref.ref(app)
        self._new_context = configuration.new_context
        self._on_commit_error = configuration.rules.on_commit_error
        self._sessions: Any = None  # the session interface that `_watch_sessions` has seen
        self._dispatch = _unbound(app, "full_dispatch_request")
        self._handle_user = _unbound(app, "handle_user_exception")
        self._handle = _unbound(app, "handle_exception")

    def install(self) -> None:
        """Wrap the methods of the app."""
        app = self._app
        app.full_dispatch_request = self._full_dispatch_request
        app.handle_user_exception = self._handle_user_exception
        app.handle_exception = self._handle_exception

    @property
    def _app(self) -> Any:
        return self._app_ref()

    def _full_dispatch_request(self, *args: Any, **kwargs: Any) -> flask.Response:
        app: Any = self._app_ref()
        # At the first request, and after an extension has replaced the interface.
        if app.session_interface is not self._sessions:
            self._watch_sessions(app)
        request = current_request()
        facts = FlaskFacts(request)
        context = self._new_context(facts)
        setattr(request, CONTEXT, context)  # `keep`, inlined
        try:
            response = self._answer(app, context, request, args, kwargs)
            body: Any = response.response
            # Fast path: most bodies are lists, which are not streamed.
            if not isinstance(body, list) and response.is_streamed and not response.direct_passthrough:
                response.response = StreamedBody(body, context)
        finally:
            context.leave()
        facts.end()  # not after an exception: the 500 handler may still read ctx.meta
        return response

    def _answer(self, app: Any, context: Context, request: flask.Request, args: Any, kwargs: Any) -> flask.Response:
        try:
            context.open()
        except ServiceError as error:
            return self._error_response(error, request, args)
        try:
            response: flask.Response = self._dispatch(app, *args, **kwargs)
            self._close(context, request, response)
        except BaseException as error:
            if hasattr(request, FAILING):
                replaced = self._failure_response(error, request, args)
                if replaced is None:
                    raise
                return failing.as_failure(replaced)
            try:
                context.close(error, keep_current=True, late_hint=FAILED_HINT)
            except ServiceError as replacement:
                return self._error_response(replacement, request, args)
            raise
        return response

    def _close(self, context: Context, request: flask.Request, response: flask.Response) -> None:
        status = response.status_code
        was_handled = hasattr(request, ERROR)
        if context.state == "open":
            try:
                _check_sendable(request, response)
            except UnsendableAnswerError as error:
                context.close(error, status=500, keep_current=True, late_hint=FAILED_HINT)
                failing.drop(self._app, request, response)
                raise
        try:
            # The cause is not kept in a variable: its traceback refers to this frame, which would make a cycle.
            context.close(
                _cause(request, status) if was_handled else None,
                status=status,
                keep_current=True,
                late_hint=STREAM_HINT,
            )
        except BaseException:
            context.close(keep_current=True, late_hint=FAILED_HINT)  # already closed; only replaces the hint
            failing.drop(self._app, request, response)
            setattr(request, FAILING, was_handled and status >= 400)
            raise

    def _watch_sessions(self, app: flask.Flask) -> None:
        self._sessions = app.session_interface
        functions = app.after_request_funcs.setdefault(None, [])
        if not isinstance(self._sessions, SecureCookieSessionInterface) and self._close_before_saving not in functions:
            functions.insert(0, self._close_before_saving)  # called last: Flask runs them in reverse

    def _close_before_saving(self, response: flask.Response) -> flask.Response:
        request = current_request()
        context = context_of(request)
        if context is not None and context.state == "open":
            self._close(context, request, response)
        return response

    def _failure_response(self, failure: BaseException, request: flask.Request, args: Any) -> flask.Response | None:
        """The answer to a failed commit, or None if Flask has to answer."""
        app = self._app
        was_failing = getattr(request, FAILING)
        delattr(request, FAILING)
        if self._on_commit_error is not None and not was_failing and isinstance(failure, Exception):
            response = failing.asked(app, self._on_commit_error, request, failure)
            if response is not None:
                finalized: flask.Response = app.finalize_request(*args, response, from_error_handler=True)
                return finalized
        return self._error_response(failure, request, args) if isinstance(failure, ServiceError) else None

    def _error_response(self, error: ServiceError, request: flask.Request, args: Any) -> flask.Response:
        """Flask's answer to an error that the context itself raised; called while the error is being handled."""
        if answer_for(error) is None:
            raise error
        app = self._app
        response: flask.Response = app.finalize_request(*args, app.handle_user_exception(*args, error))
        _cause(request, response.status_code)
        return response

    def _handle_user_exception(self, *args: Any, **kwargs: Any) -> Any:
        answer = self._handle_user(self._app, *args, **kwargs)
        setattr(current_request(), ERROR, kwargs["e"] if "e" in kwargs else args[-1])
        return answer

    def _handle_exception(self, *args: Any, **kwargs: Any) -> flask.Response:
        response: flask.Response = self._handle(self._app, *args, **kwargs)
        context = context_of(current_request())
        outcome = context.outcome if context is not None else None
        if outcome is not None and outcome.http_status is not None:  # the commit failed after there was an answer
            failing.as_failure(response)
        return response


def _check_sendable(request: flask.Request, response: flask.Response) -> None:
    status: str = response.status
    encoded = None
    try:
        check_head(status, response.headers)
    except UnsendableAnswerError:
        encoded = response.get_wsgi_headers(request.environ)  # Werkzeug encodes a Location when it sends it
    if encoded is not None:
        check_head(status, encoded)
    body: Any = response.response
    if isinstance(body, (list, tuple)):
        check_pieces(body, (bytes, str))


def _cause(request: flask.Request, status: int) -> BaseException | None:
    """Remove from the request the exception that an error handler answered; None if the answer is below 400.

    The status decides whether to roll back; the exception only tells ``rollback_on`` and the middleware the reason.
    """
    error: BaseException | None = getattr(request, ERROR, None)
    if error is not None:
        delattr(request, ERROR)
    return error if status >= 400 else None


def _unbound(app: flask.Flask, name: str) -> Callable[..., Any]:
    """A method of an app as a function of the app, also if another extension has replaced it on the instance."""
    own = vars(app).get(name)
    if own is None:
        method: Callable[..., Any] = getattr(type(app), name)
        return method
    return lambda app, *args, **kwargs: own(*args, **kwargs)


def answer_service_error(error: ServiceError) -> Any:
    """The app's error handler for ServiceError: answers codes 400 to 499, and handles no others.

    If the app has a handler for the status, that handler answers, as for ``abort(404, "item 7")``.
    """
    app = flask.current_app
    answer = answer_for(error, flask.request.headers.get("Accept"))
    if answer is not None:
        exception = default_exceptions.get(answer.status, HTTPException)(description=str(error) or None)
        for name in (*flask.request.blueprints, None):
            handler = app.error_handler_spec[name][answer.status].get(type(exception))
            if handler is not None:
                return app.ensure_sync(handler)(exception)
        return app.response_class(answer.body, answer.status, answer.headers)
    handlers = app.error_handler_spec[None][None]
    for cls in PolydatumError.__mro__:
        if cls in handlers:
            return app.ensure_sync(handlers[cls])(error)
    raise error
