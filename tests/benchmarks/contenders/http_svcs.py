"""svcs over HTTP: its integrations."""

from collections.abc import AsyncIterator
from typing import Any

import fastapi
import flask
import svcs.fastapi
import svcs.flask
import svcs.starlette
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from svcs import Container, Registry

from tests.benchmarks.contenders import Contender
from tests.benchmarks.resources import Connection
from tests.benchmarks.serving import PATH, asgi, wsgi
from tests.benchmarks.typed_resources import ItemService, connection


def item_service(svcs_container: Container) -> ItemService:
    return ItemService(svcs_container.get(Connection))


def _register(registry: Registry) -> None:
    registry.register_factory(Connection, connection)
    registry.register_factory(ItemService, item_service)


def starlette_app() -> Starlette:
    async def lifespan(app: Starlette, registry: Registry) -> AsyncIterator[dict[str, object]]:
        _register(registry)
        yield {}

    async def view(request: Request) -> PlainTextResponse:
        items = await svcs.starlette.aget(request, ItemService)
        return PlainTextResponse(str(items.get_item(1)))

    return Starlette(
        routes=[Route(PATH, view)],
        lifespan=svcs.starlette.lifespan(lifespan),  # type: ignore[arg-type]
        middleware=[Middleware(svcs.starlette.SVCSMiddleware)],
    )


def fastapi_app() -> fastapi.FastAPI:
    async def lifespan(app: fastapi.FastAPI, registry: Registry) -> AsyncIterator[dict[str, object]]:
        _register(registry)
        yield {}

    app = fastapi.FastAPI(lifespan=svcs.fastapi.lifespan(lifespan))  # type: ignore[arg-type]

    @app.get(PATH)
    async def view(services: svcs.fastapi.DepContainer) -> Any:
        items = await services.aget(ItemService)
        return {"id": items.get_item(1)}

    return app


def flask_app() -> flask.Flask:
    app = svcs.flask.init_app(flask.Flask(__name__))
    _register(svcs.flask.get_registry(app))

    @app.get(PATH)
    def view() -> str:
        return str(svcs.flask.get(ItemService).get_item(1))

    return app


contender = Contender(
    name="svcs",
    async_={"http_starlette": asgi(starlette_app), "http_fastapi": asgi(fastapi_app)},
    sync={"http_flask": wsgi(flask_app)},
)
