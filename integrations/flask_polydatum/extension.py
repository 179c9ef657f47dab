"""The Flask extension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, cast

import flask
from werkzeug.local import LocalProxy

from flask_polydatum.cli import install_cli
from flask_polydatum.configuration import EXTENSION, CommitErrorHandler, Configuration
from flask_polydatum.current import current_dal, current_manager
from flask_polydatum.dispatching import Dispatch, answer_service_error
from flask_polydatum.requests import request_dal
from polydatum import ConfigurationError, DataAccessLayer, DataManager, DynamicDAL, ServiceError
from polydatum.adapting import RollbackRule

if TYPE_CHECKING:  # typing has no defaults before Python 3.13
    from typing_extensions import TypeVar

    DalT = TypeVar("DalT", bound=DataAccessLayer, default=DynamicDAL)
else:
    from typing import TypeVar

    DalT = TypeVar("DalT", bound=DataAccessLayer)


class FlaskPolydatum(Generic[DalT]):
    """Gives every request of a Flask app a Context of its own, which ends before the answer starts.

    ``request.dal`` is the DAL, in views, ``before_request`` and ``after_request`` functions, error handlers and templates.
    ``ctx.meta`` has ``request``, ``user`` (Flask-Login's, if it is used), ``params`` and ``request_id``.

    What happens to a request:

    * **Answered below 400**: commits, then sends the answer.
    * **Answered with 400 or more**, by the view, by ``abort`` or by an error handler: rolls back, then sends the answer
      (``rollback_on`` and ``ctx.commit_on_error()`` may decide otherwise).
    * **Vetoed** by ``ctx.set_rollback_only()``: rolls back, then sends the answer unchanged.
    * **The commit fails**: the answer is dropped, and the session is reset to what the client sent. ``on_commit_error``
      may answer. Otherwise Flask handles the error like an unhandled one of the view: with the 500 handler, where it is
      ``original_exception``, or by raising it (``TESTING``). An answer to it below 400 becomes a 500.
    * **No server would send the answer**, because of its status line, a header, or a list as its body: rolls back, and
      Flask handles an `UnsendableAnswerError` in the same way.
    * **A ServiceError with 400 <= code < 500 is raised**: rolls back; answered by the app's handler for it, or else
      with that status and the error's text. ``after_request`` functions run and the session is saved, as for every
      handled error.
    * **Any other exception escapes**: rolls back, and Flask handles it, even if a context middleware suppressed it.
    * **A context middleware fails to set up**: the view is not called; Flask handles the error.

    The context is open in ``before_request`` and ``after_request`` functions and error handlers. It has ended in the
    500 handler, in teardown functions and in a streamed body: see `stream_context`. An async view has the same context,
    but async resources cannot be used in Flask, which runs such a view in an event loop of its own.

    Every argument can be set in ``app.config`` instead, as ``POLYDATUM_`` and its name in capitals; the argument wins.

    Args:
        data_manager: the DataManager or a dotted path to it.
        rollback_on: ``f(exc, status) -> bool``, or a dotted path to it, in place of the DataManager's: for requests and
            their streams, for commands and `flask_polydatum.context`.
        teardown_timeout: seconds that closing one of these contexts may take, in place of the DataManager's.
        on_commit_error: ``f(request, exc)``, or a dotted path to it, called when the commit of a request fails that had
            not failed before. If it returns an answer with a status of 400 or more, the client gets that, after the
            ``after_request`` functions. If it returns None, Flask handles the commit's error as if there were no
            handler. If it raises, or returns anything else, that is logged, and Flask handles the commit's error, too.

    Attributes:
        dal: the DAL, typed as the user's class, wherever a context is current: in requests, in commands with
            ``@with_context``, in blocks of `flask_polydatum.context` or ``dm.context()``. It is a proxy, which any
            module can import. Elsewhere it raises `AdapterMissingError`; in a streamed body, `ContextClosedError`.

    Example:
        >>> polydatum = FlaskPolydatum(DataManager())
        >>> app = flask.Flask("shop")
        >>> polydatum.init_app(app)
    """

    dal: DalT

    def __init__(
        self,
        data_manager: DataManager[DalT, Any] | str | None = None,
        *,
        rollback_on: RollbackRule | str | None = None,
        teardown_timeout: float | None = None,
        on_commit_error: CommitErrorHandler | str | None = None,
    ) -> None:
        self._data_manager = data_manager
        self._arguments = {
            "data_manager": data_manager,
            "rollback_on": rollback_on,
            "teardown_timeout": teardown_timeout,
            "on_commit_error": on_commit_error,
        }
        self.dal = cast("DalT", LocalProxy(self._current_dal))
        request_dal.put_on(flask.Request)

    def init_app(self, app: flask.Flask) -> None:
        """Install Polydatum in an app, before the first request. A second call with the same settings has no effect.

        Raises:
            ManagerNotFoundError: if neither the argument nor ``app.config["POLYDATUM_DATA_MANAGER"]`` names a DataManager.
            InvalidManagerError: if what they name is not a DataManager.
            ConfigurationError: if another setting is invalid, or the app already has other settings.
        """
        configuration = Configuration.read(self._arguments, app.config)
        installed = app.extensions.setdefault(EXTENSION, configuration)
        if installed is not configuration:
            self._refuse_other(app, installed, configuration)
            return
        request_dal.put_on(app.request_class)
        Dispatch(app, configuration).install()
        if ServiceError not in app.error_handler_spec[None][None]:
            app.register_error_handler(ServiceError, answer_service_error)
        install_cli(app, configuration.data_manager)

    def _refuse_other(self, app: flask.Flask, installed: Configuration, wanted: Configuration) -> None:
        if installed.data_manager is not wanted.data_manager:
            raise ConfigurationError(
                f"flask_polydatum is installed in the app {app.name!r} with another DataManager; an app has one"
            )
        if installed != wanted:
            raise ConfigurationError(
                f"flask_polydatum is installed in the app {app.name!r} with other settings; call init_app with one set of them"
            )

    def _current_dal(self) -> Any:
        manager = self._data_manager
        if not isinstance(manager, DataManager):
            manager = current_manager("FlaskPolydatum.dal")
        return current_dal(manager, "FlaskPolydatum.dal")


def init_app(
    app: flask.Flask,
    data_manager: DataManager[Any, Any] | str | None = None,
    *,
    rollback_on: RollbackRule | str | None = None,
    teardown_timeout: float | None = None,
    on_commit_error: CommitErrorHandler | str | None = None,
) -> None:
    """Install Polydatum in a Flask app: short for ``FlaskPolydatum(data_manager, ...).init_app(app)``."""
    FlaskPolydatum(
        data_manager, rollback_on=rollback_on, teardown_timeout=teardown_timeout, on_commit_error=on_commit_error
    ).init_app(app)
