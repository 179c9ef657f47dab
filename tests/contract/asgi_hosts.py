"""ASGI applications as hosts of the contract: bare, Starlette, FastAPI, Litestar, Quart."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

from polydatum.testing import Answer, Call, Handler, Host, Reply
from polydatum.testing.wire import over_asgi, over_asgi_together

FORMS = {"forms": "forms are not parsed synchronously in ASGI"}


class AsgiHost(Host):
    """What all of them have in common."""

    adapter = "asgi_polydatum"
    fix = "PolydatumMiddleware"

    def request(self, app: Any, call: Call) -> Answer:
        return over_asgi(app, call)

    def together(self, app: Any, calls: Sequence[Call]) -> list[Answer]:
        return over_asgi_together(app, calls)


class BareAsgiHost(AsgiHost):
    """An application without a framework: one coroutine function."""

    name = "asgi"
    absent: ClassVar = {
        "handlers": "there are no error handlers without a framework",
        "request": "without a framework there is no request to ask",
        **FORMS,
    }

    def application(self, call: Call) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope["path_params"] = {"id": scope["path"].rpartition("/")[2]}
            reply = call.view(BareRequest(scope))
            headers = [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            for chunk in [reply.body] if isinstance(reply.body, bytes) else reply.body:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

        return wrapped(app, call, BareResponse)


class BareResponse:
    """A reply as an application of its own."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in self.reply.headers.items()]
        await send({"type": "http.response.start", "status": self.reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.reply.body})


def wrapped(app: Any, call: Call, response: Any) -> Any:
    """An ASGI application in as many middleware as the call says."""
    from asgi_polydatum import PolydatumMiddleware

    for _ in range(call.installed if call.manager is not None else 0):
        app = PolydatumMiddleware(app, **options(call, response))
    return app


def options(call: Call, response: Any) -> dict[str, Any]:
    """The arguments of the middleware; ``response`` makes a reply into what answers a failed commit."""
    found: dict[str, Any] = {"data_manager": call.manager}
    handler = call.on_commit_error
    if handler is not None:
        found["on_commit_error"] = lambda request, error: response(handler(request, error))
    return found


class BareRequest:
    """All that such an application has of a request."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self.scope = scope

    @property
    def dal(self) -> Any:
        return self.scope["state"]["dal"]


class StarletteHost(AsgiHost):
    """Starlette, with an async endpoint or a sync one, which runs in a thread."""

    absent: ClassVar = FORMS
    abort_statuses = (404, 409, 422)

    def __init__(self, *, in_thread: bool) -> None:
        self.in_thread = in_thread
        self.name = "starlette-thread" if in_thread else "starlette"

    def abort(self, status: int) -> BaseException:
        from starlette.exceptions import HTTPException

        return HTTPException(status, "no")

    def application(self, call: Call) -> Any:
        from starlette.applications import Starlette
        from starlette.routing import Route

        app = Starlette(routes=[Route("/things/{id}", self.endpoint(call), methods=["GET", "POST", "HEAD"])])
        return self.finished(app, call)

    def endpoint(self, call: Call) -> Any:
        from starlette.requests import Request

        def sync_endpoint(request: Any) -> Any:
            return starlette_response(call.view(request))

        async def endpoint(request: Any) -> Any:
            return starlette_response(call.view(request))

        chosen: Any = sync_endpoint if self.in_thread else endpoint
        chosen.__annotations__ = {"request": Request}  # FastAPI reads it, and would not find a local name
        return chosen

    def finished(self, app: Any, call: Call) -> Any:
        from asgi_polydatum import PolydatumMiddleware

        for kind, handler in call.handlers.items():
            app.add_exception_handler(kind, starlette_handler(handler))
        for _ in range(call.installed if call.manager is not None else 0):
            app.add_middleware(PolydatumMiddleware, **options(call, starlette_response))
        return app


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

    def application(self, call: Call) -> Any:
        from fastapi import FastAPI

        app = FastAPI()
        app.api_route("/things/{id}", methods=["GET", "POST", "HEAD"], response_model=None)(self.endpoint(call))
        return self.finished(app, call)


class LitestarHost(AsgiHost):
    """Litestar, with an async handler."""

    name = "litestar"
    abort_statuses = (404, 409, 422)
    absent: ClassVar = FORMS

    def abort(self, status: int) -> BaseException:
        from litestar.exceptions import HTTPException

        return HTTPException(status_code=status, detail="no")

    def application(self, call: Call) -> Any:
        from litestar import HttpMethod, Litestar, Request, route
        from litestar.middleware import DefineMiddleware

        from asgi_polydatum import PolydatumMiddleware

        async def handler(request: Any) -> Any:
            return litestar_response(call.view(request))

        handler.__annotations__ = {"request": Request, "return": Any}
        methods = [HttpMethod.GET, HttpMethod.POST, HttpMethod.HEAD]
        middleware = DefineMiddleware(PolydatumMiddleware, **options(call, BareResponse))
        return Litestar(
            [route("/things/{id:int}", http_method=methods)(handler)],
            middleware=[middleware] * (call.installed if call.manager is not None else 0),
            exception_handlers={kind: litestar_handler(handler) for kind, handler in call.handlers.items()},
            openapi_config=None,
            logging_config=None,
            after_exception=[log_exception],  # its own logging goes through a queue, to another thread
        )


async def log_exception(error: Exception, scope: Any) -> None:
    logging.getLogger("litestar").error("exception", exc_info=error)


def litestar_handler(handler: Handler) -> Any:
    def handle(request: Any, error: Any) -> Any:
        return litestar_response(handler(request, error))

    return handle


def litestar_response(reply: Reply) -> Any:
    from litestar.response import Response, Stream

    if isinstance(reply.body, bytes):
        return Response(reply.body, status_code=reply.status, headers=reply.headers, media_type="text/plain")
    return Stream(reply.body, status_code=reply.status, headers=reply.headers)


class QuartHost(AsgiHost):
    """Quart, with an async view."""

    name = "quart"
    abort_statuses = (404, 409, 422)
    absent: ClassVar = {
        **FORMS,
        "causes": "Quart makes its own exceptions into answers before a middleware could see them",
        "exits": "Quart runs the view in a task of its own, where an exit ends the event loop",
    }

    def abort(self, status: int) -> BaseException:
        from werkzeug.exceptions import default_exceptions

        return default_exceptions[status]("no")

    def application(self, call: Call) -> Any:
        import quart

        app = quart.Quart("shop")

        async def view(id: int) -> Any:
            return quart_response(call.view(quart.request._get_current_object()))

        app.add_url_rule("/things/<int:id>", view_func=view, methods=["GET", "POST"])
        for kind, handler in call.handlers.items():
            app.register_error_handler(kind, quart_handler(handler))
        app.asgi_app = wrapped(app.asgi_app, call, BareResponse)
        return app


def quart_handler(handler: Handler) -> Any:
    import quart

    async def handle(error: Exception) -> Any:
        return quart_response(handler(quart.request._get_current_object(), error))

    return handle


def quart_response(reply: Reply) -> Any:
    import quart

    body: Any = reply.body
    if not isinstance(body, bytes):

        async def streamed() -> Any:
            for chunk in reply.body:
                yield chunk

        body = streamed()
    return quart.Response(body, reply.status, reply.headers)
