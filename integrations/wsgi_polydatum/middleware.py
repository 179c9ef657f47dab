"""The WSGI middleware."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from polydatum import DataManager
from polydatum.adapting import RequestRules, RollbackRule, find_manager
from wsgi_polydatum.environment import CONTEXT_KEY, DAL_KEY, Environ, EnvironFacts
from wsgi_polydatum.exchange import Exchange, StartResponse, WSGIApp

CommitErrorHandler = Callable[[Environ, Exception], WSGIApp | None]
"""What ``on_commit_error`` is: it is given the environ and the error, and may return an application that answers."""


class PolydatumWSGI:
    """Gives every request a Context of its own, which ends before ``start_response`` of the server is called.

    ``app = PolydatumWSGI(app, dm)`` around any WSGI application. The DAL is ``environ["polydatum.dal"]``, the context
    ``environ["polydatum.context"]``; requests of Werkzeug have it as ``request.dal`` with `wsgi_polydatum.werkzeug`.
    ``ctx.meta`` has ``request`` (the environ), ``user`` (``REMOTE_USER``), ``params`` and ``request_id``.

    What becomes of a request:

    * **Answered below 400**: commits, then the answer goes out.
    * **Answered with 400 or more**: rolls back, then the answer goes out (``rollback_on`` and ``ctx.commit_on_error()``
      may decide otherwise).
    * **Vetoed** by ``ctx.set_rollback_only()``: rolls back, the answer goes out as it is.
    * **The commit fails**: nothing of the answer goes out; the error is raised, for the server, where the application
      would meet an error of its own: out of ``write()``, or when it has returned. What it then answers itself with a status
      of 500 or more goes out.
    * **A ServiceError with 400 <= code < 500 escapes**: rolls back, and is answered with that status and its text.
    * **Any other exception escapes**: rolls back, and it is raised again, also if a context middleware suppressed it.
    * **A context middleware fails to set up**: the application is not called; the error is raised.

    The body of an application is closed once, also when the commit fails. A body that is a generator runs when the
    context has ended: see `stream_context`; one that calls ``start_response`` late is read until it does, at most to its
    first bytes. An open context of the same DataManager, of an outer PolydatumWSGI, is used as it is; inside one of another
    DataManager the application gets a copy of the environ.

    Args:
        app: the WSGI application.
        data_manager: the DataManager or a dotted path to it.
        rollback_on: ``f(exc, status) -> bool``, or a dotted path to it, for requests and their streams, in place of the
            DataManager's.
        on_commit_error: ``f(environ, exc)``, or a dotted path to it, called when the commit of a request fails that was not failing before, and
            the application does not answer that itself. A WSGI application that it returns, such as a response of
            Werkzeug's, is what the client gets; its status has to be 400 or more. None: as without it.
        teardown_timeout: in place of the DataManager's.

    Raises:
        ManagerNotFoundError: if there is no DataManager, or it cannot be imported.
        InvalidManagerError: if it is something else.
        ConfigurationError: if another argument is none of its kind.

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
            environ = environ.copy()  # who is outside of us keeps the dal and context of theirs
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
