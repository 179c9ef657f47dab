"""wireup over HTTP: its integrations, for FastAPI with ``WireupRoute``, its fastest form."""

from typing import Any

import fastapi
import flask
import wireup.integration.fastapi
import wireup.integration.flask
import wireup.integration.starlette
from django.http import HttpRequest, HttpResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from wireup import Injected, create_async_container, create_sync_container, injectable
from wireup.integration.django import WireupSettings

from tests.benchmarks import typed_resources as typed
from tests.benchmarks.contenders import Contender
from tests.benchmarks.contenders.django_app import answer, django_app
from tests.benchmarks.serving import PATH, asgi, wsgi

connection = injectable(lifetime="scoped")(typed.connection)


@injectable(lifetime="scoped")
class ItemService(typed.ItemService):
    """The service, declared as wireup requires."""


THINGS = [connection, ItemService]


def starlette_app() -> Starlette:
    @wireup.integration.starlette.inject
    async def view(request: Request, items: Injected[ItemService]) -> PlainTextResponse:
        return PlainTextResponse(str(items.get_item(1)))

    app = Starlette(routes=[Route(PATH, view)])
    container = create_async_container(injectables=[*THINGS, wireup.integration.starlette])
    wireup.integration.starlette.setup(container, app)
    return app


def fastapi_app() -> fastapi.FastAPI:
    app = fastapi.FastAPI()
    app.router.route_class = wireup.integration.fastapi.WireupRoute

    @app.get(PATH)
    async def view(items: Injected[ItemService]) -> Any:
        return {"id": items.get_item(1)}

    container = create_async_container(injectables=[*THINGS, wireup.integration.fastapi])
    wireup.integration.fastapi.setup(container, app)
    return app


def flask_app() -> flask.Flask:
    app = flask.Flask(__name__)

    @app.get(PATH)
    def view(items: Injected[ItemService]) -> str:
        return str(items.get_item(1))

    wireup.integration.flask.setup(create_sync_container(injectables=THINGS), app)
    return app


def django() -> Any:
    def view(request: HttpRequest, items: Injected[ItemService]) -> HttpResponse:
        return answer(items.get_item(1))

    return django_app(
        view,
        "wireup.integration.django.wireup_middleware",
        installed=["wireup.integration.django"],
        WIREUP=WireupSettings(injectables=THINGS),  # type: ignore[arg-type]
    )


contender = Contender(
    name="wireup",
    async_={"http_starlette": asgi(starlette_app), "http_fastapi": asgi(fastapi_app)},
    sync={"http_flask": wsgi(flask_app), "http_django": wsgi(django)},
)
