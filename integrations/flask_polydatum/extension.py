"""The Flask extension."""

from __future__ import annotations

from typing import Any

import flask

from flask_polydatum.dispatching import Dispatch, answer_service_error
from flask_polydatum.requests import request_dal
from polydatum import ConfigurationError, DataManager, ServiceError
from polydatum.adapting import find_manager

EXTENSION = "polydatum"


class FlaskPolydatum:
    """Gives every request of a Flask app a Context of its own, which ends before the answer starts.

    ``request.dal`` is the DAL, in views, ``before_request`` and ``after_request`` functions, error handlers and templates.
    ``ctx.meta`` has ``request``, ``user`` (Flask-Login's, if it is used) and ``params``.

    What becomes of a request:

    * **Answered below 400**: commits, then the answer goes out.
    * **Answered with 400 or more**, by the view, by ``abort`` or by an error handler: rolls back, then the answer goes out
      (``DataManager(rollback_on=...)`` and ``ctx.commit_on_error()`` may decide otherwise).
    * **Vetoed** by ``ctx.set_rollback_only()``: rolls back, the answer goes out as it is.
    * **The commit fails**: the answer is dropped, and the session is again what the client has sent; Flask handles the
      error like one of the view that has no handler, with the 500 handler, in which it is ``original_exception``, or by
      raising it (``TESTING``).
    * **A ServiceError with 400 <= code < 500 is raised**: answered by the app's handler for it, else with that status and its
      text; rolls back. ``after_request`` functions run and the session is saved, as for every handled error.
    * **Any other exception escapes**: rolls back, and Flask handles it, also if a context middleware suppressed it.
    * **A context middleware fails to set up**: the view is not called; Flask handles the error.

    The context is open in ``before_request`` and ``after_request`` functions and error handlers, and has ended in the 500
    handler, in teardown functions and in a streamed body: see `stream_context`. An async view has the same context;
    async resources cannot be used in Flask, which runs such a view in an event loop of its own.

    Args:
        data_manager: the DataManager or a dotted path to it, for apps that bring none in their config.

    Example:
        >>> polydatum = FlaskPolydatum(DataManager())
        >>> app = flask.Flask("shop")
        >>> polydatum.init_app(app)
    """

    def __init__(self, data_manager: DataManager[Any, Any] | str | None = None) -> None:
        self._data_manager = data_manager
        request_dal.put_on(flask.Request)

    def init_app(self, app: flask.Flask) -> None:
        """Install it in an app, before the first request. A second time with the same DataManager changes nothing.

        Raises:
            ManagerNotFoundError: if neither the argument nor ``app.config["POLYDATUM_DATA_MANAGER"]`` names a DataManager.
            InvalidManagerError: if what they name is something else.
            ConfigurationError: if the app has been given another DataManager.
        """
        manager = find_manager(
            ("FlaskPolydatum(data_manager)", self._data_manager),
            ("app.config['POLYDATUM_DATA_MANAGER']", app.config.get("POLYDATUM_DATA_MANAGER")),
        )
        installed = app.extensions.get(EXTENSION)
        if installed is manager:
            return
        if installed is not None:
            raise ConfigurationError(
                f"flask_polydatum is installed in the app {app.name!r} with another DataManager; an app has one"
            )
        app.extensions[EXTENSION] = manager
        request_dal.put_on(app.request_class)
        Dispatch(app, manager).install()
        if ServiceError not in app.error_handler_spec[None][None]:
            app.register_error_handler(ServiceError, answer_service_error)


def init_app(app: flask.Flask, data_manager: DataManager[Any, Any] | str | None = None) -> None:
    """Install Polydatum in a Flask app: short for ``FlaskPolydatum(data_manager).init_app(app)``."""
    FlaskPolydatum(data_manager).init_app(app)
