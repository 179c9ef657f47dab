"""The pages as a route of Flask."""

from __future__ import annotations

from flask import Flask, Response, request
from werkzeug.routing import PathConverter

from conduit.pages import site
from conduit.services.layer import ConduitManager


class PagePath(PathConverter):
    regex = site.PATH


def add_pages(app: Flask, dm: ConduitManager) -> None:
    def show(path: str) -> Response:
        page = site.answer(dm, f"/{path}", request.args)
        return Response(page.body, page.status, dict(page.headers))

    app.url_map.converters["page"] = PagePath
    app.add_url_rule("/<page:path>", view_func=show)
