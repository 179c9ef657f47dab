"""The context around Flask's dispatch of a request.

``app.full_dispatch_request`` is wrapped, because its end is the last point where an error still becomes Flask's own 500,
before ``start_response``: ``after_request`` functions have run and the session is saved, the teardown functions, which run
after the answer, have not. Signatures are passed through as they are; they differ between versions of Flask.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any

import flask

from flask_polydatum.requests import CONTEXT, ERROR, STREAM_HINT, FlaskFacts, current_request
from polydatum import Context, DataManager, PolydatumError, ServiceError
from polydatum.adapting import StreamedBody, answer_for


class Dispatch:
    """What takes the place of two methods of an app, on the instance."""

    def __init__(self, app: flask.Flask, manager: DataManager[Any, Any]) -> None:
        # The app refers to this: a reference back would keep it from being freed with its last user.
        self._app_ref = weakref.ref(app)
        self._manager = manager
        self._dispatch = _unbound(app, "full_dispatch_request")
        self._handle = _unbound(app, "handle_user_exception")

    def install(self) -> None:
        """Put it around the methods of the app."""
        app = self._app
        app.full_dispatch_request = self._full_dispatch_request
        app.handle_user_exception = self._handle_user_exception

    @property
    def _app(self) -> Any:
        return self._app_ref()

    def _full_dispatch_request(self, *args: Any, **kwargs: Any) -> flask.Response:
        request = current_request()
        facts = FlaskFacts(request)
        context = self._manager.context(facts)
        setattr(request, CONTEXT, context)
        try:
            response = self._answer(context, request, args, kwargs)
        except BaseException:
            context.leave()
            raise
        if response.is_streamed and not response.direct_passthrough:
            body: Any = StreamedBody(response.response, context)
            response.response = body
        else:
            context.leave()
        facts.end()
        return response

    def _answer(self, context: Context, request: flask.Request, args: Any, kwargs: Any) -> flask.Response:
        try:
            context.open()
        except ServiceError as error:
            return self._error_response(error, args)
        try:
            response: flask.Response = self._dispatch(self._app, *args, **kwargs)
        except BaseException as error:
            try:
                context.close(error, keep_current=True, late_hint=STREAM_HINT)
            except ServiceError as replacement:
                return self._error_response(replacement, args)
            raise
        status = response.status_code
        # Which exception led to an answer tells rollback_on and the middleware why; whether to roll back, the status does.
        behind = vars(request).pop(ERROR, None)
        try:
            context.close(behind if status >= 400 else None, status=status, keep_current=True, late_hint=STREAM_HINT)
        except BaseException as failure:
            self._drop(response, request)
            if isinstance(failure, ServiceError):
                return self._error_response(failure, args)
            raise
        return response

    def _drop(self, response: flask.Response, request: flask.Request) -> None:
        """Nothing of an answer whose commit failed is kept: Flask would put its session into the answer to the failure."""
        with contextlib.suppress(Exception):  # the failure is what has to be told
            response.close()
        session = flask.session
        app = self._app
        if session.modified and not app.session_interface.is_null_session(session):
            before = app.session_interface.open_session(app, request)
            session.clear()
            session.update(before or {})
            session.modified = False

    def _error_response(self, error: ServiceError, args: Any) -> flask.Response:
        """Flask's answer to an error that the context itself raised, called while it is handled."""
        if answer_for(error) is None:
            raise error
        app = self._app
        response: flask.Response = app.finalize_request(*args, app.handle_user_exception(*args, error))
        return response

    def _handle_user_exception(self, *args: Any, **kwargs: Any) -> Any:
        error = kwargs["e"] if "e" in kwargs else args[-1]
        setattr(current_request(), ERROR, error)
        return self._handle(self._app, *args, **kwargs)


def _unbound(app: flask.Flask, name: str) -> Callable[..., Any]:
    """A method of an app, to be called with the app; what another extension has put in its place on the instance, too."""
    own = vars(app).get(name)
    if own is None:
        method: Callable[..., Any] = getattr(type(app), name)
        return method
    return lambda app, *args, **kwargs: own(*args, **kwargs)


def answer_service_error(error: ServiceError) -> Any:
    """The app's error handler for ServiceError: answers 400 to 499, and is not there for the others."""
    answer = answer_for(error, flask.request.headers.get("Accept"))
    if answer is not None:
        return flask.current_app.response_class(answer.body, answer.status, answer.headers)
    handlers = flask.current_app.error_handler_spec[None][None]
    for cls in PolydatumError.__mro__:
        if cls in handlers:
            return flask.current_app.ensure_sync(handlers[cls])(error)
    raise error
