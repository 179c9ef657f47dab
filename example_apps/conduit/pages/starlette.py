"""The pages as a route of Starlette, and so of FastAPI."""

from __future__ import annotations

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from conduit.pages import site
from conduit.services.layer import ConduitManager


class PagePath(PathConvertor):
    regex = site.PATH


register_url_convertor("page", PagePath())


def page_route(dm: ConduitManager) -> Route:
    def show(request: Request) -> Response:
        page = site.answer(dm, f"/{request.path_params['path']}", request.query_params)
        return Response(page.body, page.status, page.headers)

    return Route("/{path:page}", show)
