"""The WSGI middleware."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from polydatum import DataManager
from polydatum.adapting import RequestRules, RollbackRule, find_manager
from wsgi_polydatum.environment import CONTEXT_KEY, DAL_KEY, Environ, EnvironFacts
from wsgi_polydatum.exchange import Exchange, StartResponse, WSGIApp

CommitErrorHandler = Callable[[Environ, Exception], WSGIApp | None]
"""The type of ``on_commit_error``: is called with the environ and the error, and may return an application."""


class PolydatumWSGI:
    """Gives every request a Context of its own, which ends before the server's ``start_response`` is called.

    Wrap any WSGI application: ``app = PolydatumWSGI(app, dm)``. The DAL is ``environ["polydatum.dal"]``, the context
    ``environ["polydatum.context"]``; with `wsgi_polydatum.werkzeug`, Werkzeug's requests have the DAL as
    ``request.dal``. ``ctx.meta`` has ``request`` (the environ), ``user`` (``REMOTE_USER``), ``params`` and
    ``request_id``.

    What happens to a request:

    * **Answered below 400**: commits, then sends the answer.
    * **Answered with 400 or more**: rolls back, then sends the answer (``rollback_on`` and ``ctx.commit_on_error()``
      may decide otherwise).
    * **Vetoed** by ``ctx.set_rollback_only()``: rolls back, then sends the answer unchanged.
    * **The commit fails**: nothing of the answer is sent. The error is raised out of ``write()``, where the application
      can handle it like one of its own, or, once the application has returned, to the server. If the application then
      answers with a status of 500 or more, that answer is sent.
    * **No server would send the answer**, because of its status line, a header, or a list as its body:
      `UnsendableAnswerError` is raised out of ``start_response()`` or ``write()``, or when the application has returned.
    * **A ServiceError with 400 <= code < 500 escapes**: rolls back, and answers with that status and the error's text.
    * **Any other exception escapes**: rolls back and raises it again, even if a context middleware suppressed it.
    * **A context middleware fails to set up**: the application is not called; the error is raised.

    The body of an application is closed once, also when the commit fails. A generator body runs after the context has
    ended: see `stream_context`. A generator that calls ``start_response`` late is read until it does, at most to its
    first bytes. An open context of the same DataManager, of an outer PolydatumWSGI, is used as it is; inside one of
    another DataManager, the application gets a copy of the environ.

    Args:
        app: the WSGI application.
        data_manager: the DataManager or a dotted path to it.
        rollback_on: ``f(exc, status) -> bool``, or a dotted path to it, for requests and their streams, in place of the
            DataManager's.
        on_commit_error: ``f(environ, exc)``, or a dotted path to it, called when the commit of a request fails that had
            not failed before, and the application does not answer the failure itself. If it returns a WSGI application,
            such as a Werkzeug response, the client gets its answer, whose status has to be 400 or more. If it returns
            None, the error is handled as if there were no handler.
        teardown_timeout: seconds that one close may take, in place of the DataManager's.

    Raises:
        ManagerNotFoundError: if there is no DataManager, or it cannot be imported.
        InvalidManagerError: if it is not a DataManager.
        ConfigurationError: if another argument is invalid.

    Example:
        >>> from polydatum import DataManager
        >>> def application(environ, start_response):
        ...     start_response("200 OK", [])
        ...     return [environ["polydatum.context"].state.encode()]
        >>> app = PolydatumWSGI(application, DataManager())
        >>> app({"REQUEST_METHOD": "GET"}, lambda status, headers: print(status))
        200 OK
        [b'open']
    """

    def __init__(
        self,
        app: WSGIApp,
        data_manager: DataManager[Any, Any] | str | None = None,
        *,
        rollback_on: RollbackRule | str | None = None,
        on_commit_error: CommitErrorHandler | str | None = None,
        teardown_timeout: float | None = None,
    ) -> None:
        self.app = app
        self._manager = find_manager(("PolydatumWSGI(app, data_manager)", data_manager))
        given = {
            "rollback_on": rollback_on,
            "teardown_timeout": teardown_timeout,
            "on_commit_error": on_commit_error,
        }
        rules = RequestRules.find(lambda name: [(f"PolydatumWSGI({name}=...)", given[name])])
        self._new_context = rules.context_factory(self._manager)
        self._on_commit_error = rules.on_commit_error

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        outer = environ.get(CONTEXT_KEY)
        if outer is not None and outer.state == "open":
            if outer.data_manager is self._manager:
                return self.app(environ, start_response)
            environ = environ.copy()  # outer code keeps its own dal and context
        facts = EnvironFacts(environ)
        context = environ[CONTEXT_KEY] = self._new_context(facts)
        environ[DAL_KEY] = context.dal
        exchange = Exchange(context, environ, start_response)
        try:
            context.open()
            body = exchange.begin(self.app(environ, exchange.start_response))
        except BaseException as error:
            body = exchange.fail(error, self._on_commit_error)
        finally:
            context.leave()
        facts.end()
        return body
