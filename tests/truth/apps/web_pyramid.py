"""Shared by all stacks on Pyramid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPConflict
from pyramid.request import Request
from pyramid.response import Response

from tests.truth.bank import Conflict


def make_app(config: Configurator, *, pay: Any, names: Any) -> Any:
    """An application with these views, which answers `Conflict` with a 409."""
    config.add_route("pay", "/pay/{check}")
    config.add_route("names", "/names")
    config.add_view(pay, route_name="pay")
    config.add_view(names, route_name="names")
    config.add_exception_view(conflict, context=Conflict)
    return config.make_wsgi_app()


def conflict(error: Conflict, request: Request) -> Response:
    """The view of `Conflict`."""
    return Response("conflict", status=409)


def end(check: str) -> Response:
    """End a view after it has written."""
    match check:
        case "raised":
            raise HTTPConflict
        case "handled":
            raise Conflict
        case "returned":
            return HTTPConflict()
        case "crashed":
            raise RuntimeError("a bug")
    return Response("paid", status=201)


def stream(lines: Iterator[str]) -> Response:
    """A streamed body."""
    return Response(app_iter=(line.encode() for line in lines), content_type="text/plain")
