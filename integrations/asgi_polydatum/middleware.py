"""The ASGI middleware."""

from __future__ import annotations

import warnings
from collections.abc import MutableMapping
from typing import Any, NamedTuple

from asgi_polydatum.connection import (
    CONTEXT_KEY,
    FACTORY_KEY,
    ContextFactory,
    ScopeFacts,
    manager_in,
    put_dal_on_requests,
)
from asgi_polydatum.exchange import CommitErrorHandler, Exchange
from asgi_polydatum.frameworks import watch_quart
from asgi_polydatum.lifespan import drain, serve_lifespan
from asgi_polydatum.protocol import ASGIApp, Receive, Scope, Send
from polydatum import Context, DataAccessLayer, DataManager
from polydatum.adapting import RequestRules, RollbackRule

DRAIN_LIMIT = 5.0
"""Seconds after which a shutdown starts no further rollback, unless ``teardown_timeout`` is given."""


class Found(NamedTuple):
    """A DataManager, a factory for contexts that applies the middleware's rules, and the handler of failed commits."""

    manager: DataManager[Any, Any]
    new_context: ContextFactory
    on_commit_error: CommitErrorHandler | None


class PolydatumMiddleware:
    """Gives every HTTP request a Context of its own, which ends before the first byte of the answer.

    In Starlette and FastAPI add it before other middleware, which makes it the innermost:
    ``app.add_middleware(PolydatumMiddleware, data_manager=dm)``. Wrap any other ASGI application:
    ``app = PolydatumMiddleware(app, data_manager=dm)``.

    ``request.dal`` is the DAL for everything that runs inside the middleware until the answer starts. Without Starlette
    it is ``scope["state"]["dal"]``, unless the lifespan state has its own ``dal``, and the context is
    ``scope["polydatum.context"]``. ``ctx.meta`` has ``request``, ``user`` (``scope["user"]``), ``params`` and
    ``request_id``.

    What happens to a request:

    * **Answered below 400**: commits, then sends the answer.
    * **Answered with 400 or more**, by the view or by an error handler: rolls back, then sends the answer
      (``DataManager(rollback_on=...)`` and ``ctx.commit_on_error()`` may decide otherwise).
    * **Vetoed** by ``ctx.set_rollback_only()``: rolls back, then sends the answer unchanged.
    * **The commit fails**: the error is raised out of the application's ``send``. Nothing of its answer is sent, and
      from then on no answer below 500. Unless the application itself answers with a 500, the original error is raised
      again, for the 500 handler, the log and the server. ``scope["session"]`` is restored.
    * **No server would send the answer**, because of its status or a header: `UnsendableAnswerError` is raised out of
      ``send``.
    * **A ServiceError with 400 <= code < 500 escapes**: rolls back, and answers with that status and the error's text.
    * **Any other exception escapes**: rolls back and raises it again, even if a context middleware suppressed it.
    * **Cancelled, or no answer at all**: rolls back.
    * **A context middleware fails to set up**: the application is not called; the error is raised.

    A streamed body runs after the context has ended: see `stream_context`. WebSockets get no context: see
    `dal_context`. An open context of the same DataManager, of an outer PolydatumMiddleware, is used as it is. When the
    application shuts down, requests that are still running are rolled back before its own shutdown code runs. The last
    application of a process that uses the manager then closes the manager's resources of the application's scope. A
    mounted application is never told of start-up and shutdown.

    Args:
        app: the ASGI application.
        data_manager: the DataManager or a dotted path to it. By default the lifespan state ``"polydatum"`` is used, or
            ``app.state.data_manager``.
        rollback_on: ``f(exc, status) -> bool``, or a dotted path to it, for requests, their streams and WebSockets, in
            place of the DataManager's.
        on_commit_error: ``f(request, exc)``, or a dotted path to it, called when the commit of a request fails and the
            application had not failed before. It may be async. If it returns a response, such as Starlette's, the
            client gets that instead of a 500; its status has to be 400 or more, and the error is logged. If it returns
            None, the error is handled as if there were no handler. The request has no body.
        teardown_timeout: seconds that all async steps of one close may take together, in place of the DataManager's,
            which is 5.0 by default; also the seconds during which a shutdown starts further rollbacks.

    If there is no DataManager, or if an argument is invalid, the start-up of the application fails; without a lifespan,
    each request fails.
    """

    def __init__(
        self,
        app: ASGIApp,
        data_manager: DataManager[Any, Any] | str | None = None,
        *,
        rollback_on: RollbackRule | str | None = None,
        on_commit_error: CommitErrorHandler | str | None = None,
        teardown_timeout: float | None = None,
    ) -> None:
        self.app = app
        # Starlette builds its middleware when the lifespan starts. If this raised, the server would conclude that the
        # application does not support the lifespan; so the lifespan, or the first request, reports invalid arguments.
        self._given = data_manager
        self._found: Found | None = None
        self._arguments: dict[str, Any] = {
            "rollback_on": rollback_on,
            "teardown_timeout": teardown_timeout,
            "on_commit_error": on_commit_error,
        }
        self._has_warned = False
        self._live: set[Exchange] = set()
        put_dal_on_requests()
        watch_quart()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, a WebSocket or the lifespan."""
        outer = scope.get(CONTEXT_KEY)
        if scope["type"] != "http" or (outer is not None and self._is_served_by(outer, scope)):
            await self._pass_on(scope, receive, send)
            return
        found = self._found
        if found is None or self._given is None:
            found = self._find(scope)
        facts = ScopeFacts(scope)
        context = scope[CONTEXT_KEY] = found.new_context(facts)
        state = scope.get("state")
        if state is None:
            state = scope["state"] = {}
        if state.setdefault("dal", dal := context.dal) is not dal:
            self._replace_dal(state, dal)
        exchange = Exchange(context, scope, receive, send, found.on_commit_error)
        self._live.add(exchange)
        try:
            await context.aopen()
            await self.app(scope, receive, exchange.send)
        except BaseException as error:
            leaving = await exchange.fail(error)
            if leaving is error:
                del leaving
                raise
        else:
            leaving = None if exchange.has_started else await exchange.finish()
        finally:
            self._live.discard(exchange)
            context.leave()
            if outer is not None:
                scope[CONTEXT_KEY] = outer
                self._replace_dal(scope["state"], outer.dal)
        if leaving is not None:
            try:
                raise leaving
            finally:
                del leaving
        facts.end()

    def _find(self, scope: Scope) -> Found:
        """The DataManager for a scope; cached if given as an argument, otherwise each scope may have another."""
        found = self._found
        if found is None or self._given is None:
            manager = manager_in(scope, self._given, self.app)
            if found is None or found.manager is not manager:
                rules = RequestRules.find(
                    lambda name: [(f"PolydatumMiddleware(app, {name}=...)", self._arguments[name])]
                )
                found = self._found = Found(manager, rules.context_factory(manager), rules.on_commit_error)
        return found

    def _replace_dal(self, state: MutableMapping[str, Any], dal: Any) -> None:
        """Replace the DAL of an outer PolydatumMiddleware in the state; any other value stays."""
        if isinstance(state["dal"], DataAccessLayer):
            state["dal"] = dal
        elif not self._has_warned:
            self._has_warned = True
            warnings.warn(
                "the lifespan state has a 'dal' that is not Polydatum's; it is left unchanged; use "
                "scope['polydatum.context'].dal for the DAL of a request",
                stacklevel=2,
            )

    def _find_manager(self, scope: Scope) -> DataManager[Any, Any]:
        return self._find(scope).manager

    def _is_served_by(self, outer: Context, scope: Scope) -> bool:
        """Whether an outer PolydatumMiddleware has already opened the context that this one would open."""
        if outer.state != "open":
            return False
        return self._given is None or self._find_manager(scope) is outer.data_manager

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await serve_lifespan(self.app, scope, receive, send, self._find_manager, self._drain)
            return
        if scope["type"] == "websocket":
            scope[FACTORY_KEY] = self._find(scope).new_context
        await self.app(scope, receive, send)

    async def _drain(self) -> None:
        await drain(self._live, self._arguments["teardown_timeout"] or DRAIN_LIMIT)
