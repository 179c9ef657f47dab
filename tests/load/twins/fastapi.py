"""FastAPI: the session and the viewer are dependencies, as its tutorial has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException

from conduit.hosts import fastapi as host
from conduit.hosts.asgi import Json, answer_conduit_error, answer_http_error
from conduit.services import schemas as s
from conduit.services.errors import ConduitError
from conduit.services.tables import UserRow
from tests.load.twins.wiring import Wiring

_wiring: Wiring


def get_db() -> Iterator[Session]:
    with _wiring.sessions() as db:
        yield db


Db = Annotated[Session, Depends(get_db)]


def get_viewer(db: Db, authorization: Annotated[str | None, Depends(host.token)]) -> UserRow | None:
    return _wiring.viewer(db, authorization)


Viewer = Annotated[UserRow | None, Depends(get_viewer)]


def list_articles(db: Db, viewer: Viewer, wanted: Annotated[s.ArticleFilter, Query()]) -> Json:
    return Json(_wiring.articles(db, viewer).search(wanted))


def get_article(db: Db, viewer: Viewer, slug: str) -> Json:
    return Json({"article": _wiring.articles(db, viewer).get(slug)})


def favorite(db: Db, viewer: Viewer, slug: str) -> Json:
    found = _wiring.articles(db, viewer).favorite(slug)
    db.commit()
    return Json({"article": found})


def make_app(wiring: Wiring) -> FastAPI:
    global _wiring
    _wiring = wiring
    ours: dict[str, Callable[..., Any]] = {view.__name__: view for view in (list_articles, get_article, favorite)}
    api = APIRouter()
    for route in host.api.routes:
        assert isinstance(route, APIRoute)
        api.add_api_route(
            route.path,
            ours.get(route.name, route.endpoint),
            methods=list(route.methods),
            response_model=route.response_model,
        )
    app = FastAPI(title="Conduit", generate_unique_id_function=lambda route: route.name)
    app.include_router(api)
    app.add_exception_handler(RequestValidationError, host.answer_invalid)  # type: ignore[arg-type]
    app.add_exception_handler(400, host.answer_unreadable)  # type: ignore[arg-type]
    app.add_exception_handler(ConduitError, answer_conduit_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, answer_http_error)  # type: ignore[arg-type]
    return app
