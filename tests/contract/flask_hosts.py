"""Flask as a host of the contract."""

from __future__ import annotations

from typing import Any

from polydatum.testing import Answer, Call, Handler, Host, Reply
from polydatum.testing.wire import over_wsgi


class FlaskHost(Host):
    """Flask, with a sync view or an async one, which runs in an event loop of its own."""

    adapter = "flask_polydatum"
    fix = "init_app"
    abort_statuses = (404, 409, 422)

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async
        self.name = "flask-async" if is_async else "flask"

    def abort(self, status: int) -> BaseException:
        from werkzeug.exceptions import default_exceptions

        return default_exceptions[status]("no")

    def application(self, call: Call) -> Any:
        import flask

        from flask_polydatum import FlaskPolydatum

        app = flask.Flask("shop")

        def sync_view(id: int) -> Any:
            return flask_response(call.view(current_flask_request()))

        async def async_view(id: int) -> Any:
            return flask_response(call.view(current_flask_request()))

        app.add_url_rule(
            "/things/<int:id>",
            endpoint="thing",
            view_func=async_view if self.is_async else sync_view,
            methods=["GET", "POST"],
        )
        for kind, handler in call.handlers.items():
            app.register_error_handler(kind, flask_handler(handler))
        on_commit_error = None if call.on_commit_error is None else flask_commit_error(call.on_commit_error)
        for _ in range(call.installed if call.manager is not None else 0):
            FlaskPolydatum(call.manager, on_commit_error=on_commit_error).init_app(app)
        return app

    def request(self, app: Any, call: Call) -> Answer:
        return over_wsgi(app, call)


def flask_handler(handler: Handler) -> Any:
    def handle(error: Exception) -> Any:
        return flask_response(handler(current_flask_request(), error))

    return handle


def flask_commit_error(handler: Any) -> Any:
    return lambda request, error: flask_response(handler(request, error))


def current_flask_request() -> Any:
    import flask

    return flask.request._get_current_object()  # type: ignore[attr-defined]


def flask_response(reply: Reply) -> Any:
    import flask

    return flask.Response(reply.body, reply.status, reply.headers)
