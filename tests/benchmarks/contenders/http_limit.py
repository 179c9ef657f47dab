"""The limit over HTTP: hand-written adapters for one application, which close before the answer starts.

They open eagerly and ignore the status; as in ``limit``, an exception is thrown into the generator.
"""

from collections.abc import Callable
from typing import Any

import fastapi
import flask
from django.http import HttpRequest, HttpResponse
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.benchmarks.contenders import LIMIT, Contender
from tests.benchmarks.contenders.django_app import answer, django_app
from tests.benchmarks.contenders.limit import HandContext, current, items
from tests.benchmarks.resources import connection
from tests.benchmarks.serving import PATH, asgi, wsgi


class AsgiAdapter:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        context = HandContext(scope)
        opened = connection(context)
        context.connection = next(opened)
        closed = False

        async def send_closed(message: Any) -> None:
            nonlocal closed
            if not closed:
                closed = True
                next(opened, None)
            await send(message)

        token = current.set(context)
        try:
            await self.app(scope, receive, send_closed)
        except BaseException as error:
            if not closed:
                opened.throw(error)  # type: ignore[attr-defined]
            raise
        finally:
            current.reset(token)


def starlette_app() -> Starlette:
    async def view(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(items.get_item(1)))

    return Starlette(routes=[Route(PATH, view)], middleware=[Middleware(AsgiAdapter)])


def fastapi_app() -> fastapi.FastAPI:
    app = fastapi.FastAPI(middleware=[Middleware(AsgiAdapter)])

    @app.get(PATH)
    async def view(request: Request) -> Any:
        return {"id": items.get_item(1)}

    return app


def flask_app() -> flask.Flask:
    app = flask.Flask(__name__)
    dispatch = app.full_dispatch_request

    def full_dispatch_request() -> flask.Response:
        context = HandContext(None)
        opened = connection(context)
        context.connection = next(opened)
        token = current.set(context)
        try:
            response = dispatch()
        except BaseException as error:
            opened.throw(error)  # type: ignore[attr-defined]
            raise
        else:
            next(opened, None)
        finally:
            current.reset(token)
        return response

    app.full_dispatch_request = full_dispatch_request  # type: ignore[method-assign]

    @app.get(PATH)
    def view() -> str:
        return str(items.get_item(1))

    return app


def django_adapter(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def serve(request: HttpRequest) -> HttpResponse:
        context = HandContext(None)
        opened = connection(context)
        context.connection = next(opened)
        token = current.set(context)
        try:
            response = get_response(request)
        except BaseException as error:
            opened.throw(error)  # type: ignore[attr-defined]
            raise
        else:
            next(opened, None)
        finally:
            current.reset(token)
        return response

    return serve


def django() -> Any:
    def view(request: HttpRequest) -> HttpResponse:
        return answer(items.get_item(1))

    return django_app(view, f"{__name__}.django_adapter")


contender = Contender(
    name=LIMIT,
    async_={
        "http_starlette": asgi(starlette_app, closes_early=True),
        "http_fastapi": asgi(fastapi_app, closes_early=True),
    },
    sync={"http_flask": wsgi(flask_app, closes_early=True), "http_django": wsgi(django, closes_early=True)},
)
