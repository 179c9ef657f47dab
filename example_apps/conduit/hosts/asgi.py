"""Code shared by Starlette and FastAPI, which builds on Starlette."""

from __future__ import annotations

from functools import partial

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_polydatum import PolydatumMiddleware
from conduit.pages.starlette import page_route
from conduit.services.errors import ConduitError, as_response
from conduit.services.layer import ConduitDAL, ConduitManager
from polydatum import lazy


class Json(Response):
    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return to_json(content)


class Authentication:
    """A middleware that sets a lazy user: the services authenticate the request when they need to know."""

    def __init__(self, app: ASGIApp, dal: ConduitDAL) -> None:
        self._app = app
        self._dal = dal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            authorization = Headers(scope=scope).get("Authorization")
            scope["user"] = lazy(partial(self._dal.users.authenticate, authorization))
        await self._app(scope, receive, send)


def answer_conduit_error(request: Request, error: ConduitError) -> Response:
    return Json(error.response, error.code, error.headers)


def answer_http_error(request: Request, error: HTTPException) -> Response:
    return Json(as_response(body=error.detail), error.status_code, error.headers)


def install(app: Starlette, dm: ConduitManager) -> None:
    """Prepare an application for Conduit: a context and a user for each request, and the API's error responses."""
    app.add_exception_handler(ConduitError, answer_conduit_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, answer_http_error)  # type: ignore[arg-type]
    app.router.routes.append(page_route(dm))
    app.add_middleware(PolydatumMiddleware, data_manager=dm)
    app.add_middleware(Authentication, dal=dm.get_dal())
