"""Starlette: a session in the endpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from conduit.hosts import starlette as host
from conduit.hosts.asgi import Json, answer_conduit_error, answer_http_error
from conduit.services import schemas as s
from conduit.services.errors import ConduitError
from tests.load.twins.wiring import Wiring


def make_app(wiring: Wiring) -> Starlette:
    def list_articles(request: Request) -> Response:
        with wiring.sessions() as db:
            viewer = wiring.viewer(db, request.headers.get("Authorization"))
            found = wiring.articles(db, viewer).search(s.ArticleFilter.of(request.query_params))
        return Json(found)

    def get_article(request: Request) -> Response:
        with wiring.sessions() as db:
            viewer = wiring.viewer(db, request.headers.get("Authorization"))
            found = wiring.articles(db, viewer).get(request.path_params["slug"])
        return Json({"article": found})

    def favorite(request: Request) -> Response:
        with wiring.sessions() as db:
            viewer = wiring.viewer(db, request.headers.get("Authorization"))
            found = wiring.articles(db, viewer).favorite(request.path_params["slug"])
            db.commit()
        return Json({"article": found})

    ours: dict[str, Callable[..., Any]] = {view.__name__: view for view in (list_articles, get_article, favorite)}
    routes = [
        Route(route.path, ours.get(route.name, route.endpoint), methods=list(route.methods or ()))
        for route in host.routes
    ]
    app = Starlette(routes=[Mount("/api", routes=routes)])
    app.add_exception_handler(ConduitError, answer_conduit_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, answer_http_error)  # type: ignore[arg-type]
    return app
