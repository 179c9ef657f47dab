"""The bare frameworks: the same answer from the same kind of view, without an adapter or a resource."""

from typing import Any

import fastapi
import flask
from django.http import HttpRequest, HttpResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.benchmarks.contenders import BARE, Contender
from tests.benchmarks.contenders.django_app import answer, django_app
from tests.benchmarks.serving import PATH, asgi, wsgi


def starlette_app() -> Starlette:
    async def view(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(1))

    return Starlette(routes=[Route(PATH, view)])


def fastapi_app() -> fastapi.FastAPI:
    app = fastapi.FastAPI()

    @app.get(PATH)
    async def view(request: Request) -> Any:
        return {"id": 1}

    return app


def flask_app() -> flask.Flask:
    app = flask.Flask(__name__)

    @app.get(PATH)
    def view() -> str:
        return str(1)

    return app


def django() -> Any:
    def view(request: HttpRequest) -> HttpResponse:
        return answer(1)

    return django_app(view)


contender = Contender(
    name=BARE,
    async_={"http_starlette": asgi(starlette_app), "http_fastapi": asgi(fastapi_app)},
    sync={"http_flask": wsgi(flask_app), "http_django": wsgi(django)},
)
