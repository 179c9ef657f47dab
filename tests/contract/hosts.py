"""How a view is called in each framework: all that an adapter has to say to be held to the contract."""

from __future__ import annotations

import asyncio
import io
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib import metadata
from typing import Any

from polydatum import DataManager

View = Callable[[Any], "Reply"]
Handler = Callable[[Any, Exception], "Reply"]


@dataclass
class Reply:
    """What a view returns, in no framework's words."""

    status: int = 200
    body: bytes | Iterable[bytes] = b"done"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """One call of a view."""

    view: View
    manager: DataManager[Any, Any] | None
    log: list[str] = field(default_factory=list)
    method: str = "GET"
    path: str = "/things/7"
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    handlers: Mapping[type[Exception], Handler] = field(default_factory=dict)
    installed: int = 1


@dataclass
class Answer:
    """What went over the wire, and what the developers are told."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    raised: BaseException | None = None
    logged: list[BaseException] = field(default_factory=list)

    @property
    def reported(self) -> list[BaseException]:
        """The exceptions that reached a log, or the server, which logs them."""
        return [*self.logged, *([self.raised] if self.raised is not None else [])]

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name.lower())


class Host(ABC):
    """A framework with the adapter installed."""

    name: str
    abort_statuses: tuple[int, ...] = ()
    """The statuses that a view can raise with the framework's own exceptions."""
    has_handlers = True
    parses_forms = False
    lets_exits_through = True
    """Whether a SystemExit reaches the server; it ends the event loop if the framework runs the view in another task."""
    adapter: str
    """The package that has to be named when it is missing."""

    def abort(self, status: int) -> BaseException:
        raise NotImplementedError

    @abstractmethod
    def serve(self, call: Call) -> Answer:
        """Call the view."""

    def call(self, call: Call) -> Answer:
        with logged_exceptions() as logged:
            answer = self.serve(call)
        answer.logged = logged
        return answer


@contextmanager
def logged_exceptions() -> Iterator[list[BaseException]]:
    found: list[BaseException] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1] is not None:
                found.append(record.exc_info[1])

    collector = Collector()
    logging.getLogger().addHandler(collector)
    try:
        yield found
    finally:
        logging.getLogger().removeHandler(collector)


# --- The wire ---------------------------------------------------------------------------------------------------------


def over_wsgi(app: Any, call: Call) -> Answer:
    """What a WSGI server does, without a socket."""
    answer = Answer()

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        answer.status = int(status.split()[0])
        answer.headers = [(name.lower(), value) for name, value in headers]
        call.log.append(f"start {answer.status}")

    environ = {
        "REQUEST_METHOD": call.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": call.path,
        "QUERY_STRING": call.query,
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": call.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(call.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(call.body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in call.headers.items()},
    }
    try:
        body = app(environ, start_response)
        try:
            for chunk in body:
                answer.body += chunk
        finally:
            if hasattr(body, "close"):
                body.close()
    except BaseException as error:
        answer.raised = error
    return _as_server(answer)


def over_asgi(app: Any, call: Call) -> Answer:
    """What an ASGI server does, without a socket."""
    return asyncio.run(over_asgi_async(app, call))


async def over_asgi_async(app: Any, call: Call) -> Answer:
    answer = Answer()
    requests = [{"type": "http.request", "body": call.body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if requests:
            return requests.pop()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert answer.status == 0, "the answer was started twice"
            answer.status = message["status"]
            answer.headers = [(name.decode().lower(), value.decode()) for name, value in message["headers"]]
            call.log.append(f"start {answer.status}")
        elif message["type"] == "http.response.body":
            assert answer.status, "a body without a start"
            answer.body += message.get("body", b"")

    try:
        await app(scope_of(call), receive, send)
    except BaseException as error:
        answer.raised = error
    return _as_server(answer)


def scope_of(call: Call) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": call.method,
        "scheme": "http",
        "path": call.path,
        "raw_path": call.path.encode(),
        "query_string": call.query.encode(),
        "root_path": "",
        "headers": [(b"host", b"testserver")]
        + [(name.lower().encode(), value.encode()) for name, value in call.headers.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
        "state": {},
    }


def _as_server(answer: Answer) -> Answer:
    """A server answers 500 if the application raised before it started an answer."""
    if answer.raised is not None and answer.status == 0:
        answer.status = 500
    return answer


# --- ASGI -------------------------------------------------------------------------------------------------------------


class BareAsgiHost(Host):
    """An application without a framework: one coroutine function."""

    name = "asgi"
    adapter = "asgi_polydatum"
    has_handlers = False

    def serve(self, call: Call) -> Answer:
        from asgi_polydatum import PolydatumMiddleware

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope["path_params"] = {"id": scope["path"].rpartition("/")[2]}
            reply = call.view(BareRequest(scope))
            headers = [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            for chunk in [reply.body] if isinstance(reply.body, bytes) else reply.body:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

        wrapped: Any = app
        for _ in range(call.installed if call.manager is not None else 0):
            wrapped = PolydatumMiddleware(wrapped, data_manager=call.manager)
        return over_asgi(wrapped, call)


class BareRequest:
    """All that such an application has of a request."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self.scope = scope

    @property
    def dal(self) -> Any:
        return self.scope["state"]["dal"]


class StarletteHost(Host):
    """Starlette, with an async endpoint or a sync one, which runs in a thread."""

    adapter = "asgi_polydatum"
    abort_statuses = (404, 409, 422)

    def __init__(self, *, in_thread: bool) -> None:
        self.in_thread = in_thread
        self.name = "starlette-thread" if in_thread else "starlette"

    def abort(self, status: int) -> BaseException:
        from starlette.exceptions import HTTPException

        return HTTPException(status, "no")

    def serve(self, call: Call) -> Answer:
        from starlette.applications import Starlette
        from starlette.routing import Route

        app = Starlette(routes=[Route("/things/{id}", self.endpoint(call), methods=["GET", "POST", "HEAD"])])
        return self.serve_app(app, call)

    def endpoint(self, call: Call) -> Any:
        from starlette.requests import Request

        def sync_endpoint(request: Any) -> Any:
            return starlette_response(call.view(request))

        async def endpoint(request: Any) -> Any:
            return starlette_response(call.view(request))

        chosen: Any = sync_endpoint if self.in_thread else endpoint
        chosen.__annotations__ = {"request": Request}  # FastAPI reads it, and would not find a local name
        return chosen

    def serve_app(self, app: Any, call: Call) -> Answer:
        from asgi_polydatum import PolydatumMiddleware

        for kind, handler in call.handlers.items():
            app.add_exception_handler(kind, starlette_handler(handler))
        for _ in range(call.installed if call.manager is not None else 0):
            app.add_middleware(PolydatumMiddleware, data_manager=call.manager)
        return over_asgi(app, call)


def starlette_handler(handler: Handler) -> Any:
    async def handle(request: Any, error: Exception) -> Any:
        return starlette_response(handler(request, error))

    return handle


def starlette_response(reply: Reply) -> Any:
    from starlette.responses import Response, StreamingResponse

    if isinstance(reply.body, bytes):
        return Response(reply.body, reply.status, reply.headers)
    return StreamingResponse(reply.body, reply.status, reply.headers)


class FastApiHost(StarletteHost):
    """FastAPI, with both kinds of endpoints."""

    def __init__(self, *, in_thread: bool) -> None:
        super().__init__(in_thread=in_thread)
        self.name = "fastapi-thread" if in_thread else "fastapi"

    def abort(self, status: int) -> BaseException:
        from fastapi import HTTPException

        return HTTPException(status, "no")

    def serve(self, call: Call) -> Answer:
        from fastapi import FastAPI

        app = FastAPI()
        app.api_route("/things/{id}", methods=["GET", "POST", "HEAD"], response_model=None)(self.endpoint(call))
        return self.serve_app(app, call)


# --- Flask ------------------------------------------------------------------------------------------------------------


class FlaskHost(Host):
    """Flask, with a sync view or an async one, which runs in an event loop of its own."""

    adapter = "flask_polydatum"
    abort_statuses = (404, 409, 422)
    parses_forms = True

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async
        self.name = "flask-async" if is_async else "flask"

    def abort(self, status: int) -> BaseException:
        from werkzeug.exceptions import default_exceptions

        return default_exceptions[status]("no")

    def serve(self, call: Call) -> Answer:
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
        for _ in range(call.installed if call.manager is not None else 0):
            FlaskPolydatum(call.manager).init_app(app)
        return over_wsgi(app, call)


def flask_handler(handler: Handler) -> Any:
    def handle(error: Exception) -> Any:
        return flask_response(handler(current_flask_request(), error))

    return handle


def current_flask_request() -> Any:
    import flask

    return flask.request._get_current_object()  # type: ignore[attr-defined]


def flask_response(reply: Reply) -> Any:
    import flask

    return flask.Response(reply.body, reply.status, reply.headers)


# --- Django -----------------------------------------------------------------------------------------------------------


class DjangoHost(Host):
    """Django under WSGI or ASGI, with a sync or an async view."""

    adapter = "django_polydatum"
    abort_statuses = (400, 403, 404)
    parses_forms = True

    def __init__(self, *, over: str, is_async: bool) -> None:
        self.over = over
        self.is_async = is_async
        self.name = f"django-{over}-{'async' if is_async else 'sync'}"
        self.lets_exits_through = over == "wsgi" or metadata.version("django") >= "6"

    def abort(self, status: int) -> BaseException:
        from django.core.exceptions import PermissionDenied, SuspiciousOperation
        from django.http import Http404

        return {400: SuspiciousOperation, 403: PermissionDenied, 404: Http404}[status]("no")

    def serve(self, call: Call) -> Answer:
        from django.core.handlers.asgi import ASGIHandler
        from django.core.handlers.wsgi import WSGIHandler
        from django.test import override_settings
        from django.urls import path

        def sync_view(request: Any, id: int) -> Any:
            return django_response(call.view(request), is_async=self.over == "asgi")

        async def async_view(request: Any, id: int) -> Any:
            return django_response(call.view(request), is_async=self.over == "asgi")

        view = async_view if self.is_async else sync_view
        urls = type("urls", (), {"urlpatterns": [path("things/<int:id>", view)]})
        middleware = ["django_polydatum.PolydatumMiddleware"] * (call.installed if call.manager is not None else 0)
        if call.handlers:
            HandlersMiddleware.handlers = call.handlers
            middleware.append("tests.contract.hosts.HandlersMiddleware")
        with override_settings(ROOT_URLCONF=urls, MIDDLEWARE=middleware, POLYDATUM={"DATA_MANAGER": call.manager}):
            return over_asgi(ASGIHandler(), call) if self.over == "asgi" else over_wsgi(WSGIHandler(), call)


class HandlersMiddleware:
    """What Django has for error handlers: a middleware with `process_exception`."""

    sync_capable = True
    async_capable = False
    handlers: Mapping[type[Exception], Handler] = {}

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        return self.get_response(request)

    def process_exception(self, request: Any, error: Exception) -> Any:
        for kind, handler in self.handlers.items():
            if isinstance(error, kind):
                return django_response(handler(request, error), is_async=False)
        return None


def django_response(reply: Reply, *, is_async: bool) -> Any:
    from django.http import HttpResponse, StreamingHttpResponse

    if isinstance(reply.body, bytes):
        return HttpResponse(reply.body, status=reply.status, headers=reply.headers)
    body = _awaited(reply.body) if is_async else reply.body
    return StreamingHttpResponse(body, status=reply.status, headers=reply.headers)


async def _awaited(body: Iterable[bytes]) -> Any:
    for chunk in body:
        yield chunk


# A status that a view returns when it redirects, has nothing to say, or nothing new.
GOOD_STATUSES = (HTTPStatus.NO_CONTENT, 301, 302, 303, 304)
