"""dishka over HTTP: its integrations, with locks off, its fastest form."""

from typing import Any

import fastapi
import flask
from dishka import FromDishka, Provider, Scope, make_async_container, make_container
from dishka.integrations import fastapi as dishka_fastapi
from dishka.integrations import flask as dishka_flask
from dishka.integrations import starlette as dishka_starlette
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.benchmarks.contenders import Contender
from tests.benchmarks.serving import PATH, asgi, wsgi
from tests.benchmarks.typed_resources import ItemService, connection


def _provider() -> Provider:
    provider = Provider(scope=Scope.REQUEST)
    provider.provide(connection)
    provider.provide(ItemService)
    return provider


def starlette_app() -> Starlette:
    @dishka_starlette.inject
    async def view(request: Request, items: FromDishka[ItemService]) -> PlainTextResponse:
        return PlainTextResponse(str(items.get_item(1)))

    app = Starlette(routes=[Route(PATH, view)])
    dishka_starlette.setup_dishka(make_async_container(_provider(), lock_factory=None), app)
    return app


def fastapi_app() -> fastapi.FastAPI:
    app = fastapi.FastAPI()
    app.router.route_class = dishka_fastapi.DishkaRoute

    @app.get(PATH)
    async def view(items: FromDishka[ItemService]) -> Any:
        return {"id": items.get_item(1)}

    dishka_fastapi.setup_dishka(make_async_container(_provider(), lock_factory=None), app)
    return app


def flask_app() -> flask.Flask:
    app = flask.Flask(__name__)

    @app.get(PATH)
    @dishka_flask.inject
    def view(items: FromDishka[ItemService]) -> str:
        return str(items.get_item(1))

    dishka_flask.setup_dishka(make_container(_provider(), lock_factory=None), app)
    return app


contender = Contender(
    name="dishka",
    async_={"http_starlette": asgi(starlette_app), "http_fastapi": asgi(fastapi_app)},
    sync={"http_flask": wsgi(flask_app)},
)
