"""Our own adapters over HTTP: those of this repository."""

from typing import Any

import fastapi
import flask
from django.http import HttpResponse
from flask import request as flask_request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_polydatum import PolydatumMiddleware
from flask_polydatum import FlaskPolydatum
from polydatum import DataAccessLayer, DataManager
from tests.benchmarks.contenders import OURS, Contender
from tests.benchmarks.contenders.django_app import answer, django_app
from tests.benchmarks.contenders.ours import ItemService
from tests.benchmarks.resources import connection
from tests.benchmarks.serving import PATH, asgi, wsgi


class ShopDAL(DataAccessLayer):
    items = ItemService()


def _manager() -> DataManager[ShopDAL, Any]:
    manager = DataManager(ShopDAL)
    manager.register_resources(connection=connection)
    return manager


def starlette_app() -> Starlette:
    async def view(request: Any) -> PlainTextResponse:
        return PlainTextResponse(str(request.dal.items.get_item(1)))

    return Starlette(routes=[Route(PATH, view)], middleware=[Middleware(PolydatumMiddleware, data_manager=_manager())])


def fastapi_app() -> fastapi.FastAPI:
    app = fastapi.FastAPI()
    app.add_middleware(PolydatumMiddleware, data_manager=_manager())

    @app.get(PATH)
    async def view(request: Request) -> Any:
        return {"id": request.dal.items.get_item(1)}  # type: ignore[attr-defined]

    return app


def flask_app() -> flask.Flask:
    app = flask.Flask(__name__)
    FlaskPolydatum(_manager()).init_app(app)

    @app.get(PATH)
    def view() -> str:
        return str(flask_request.dal.items.get_item(1))  # type: ignore[attr-defined]

    return app


def django() -> Any:
    def view(request: Any) -> HttpResponse:
        return answer(request.dal.items.get_item(1))

    return django_app(view, "django_polydatum.PolydatumMiddleware", POLYDATUM={"DATA_MANAGER": _manager()})


contender = Contender(
    name=OURS,
    async_={
        "http_starlette": asgi(starlette_app, closes_early=True),
        "http_fastapi": asgi(fastapi_app, closes_early=True),
    },
    sync={"http_flask": wsgi(flask_app, closes_early=True), "http_django": wsgi(django, closes_early=True)},
)
