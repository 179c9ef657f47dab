"""Polydatum in Pyramid, set up as in any WSGI application."""

from collections.abc import Iterator

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response

from tests.truth.apps.polydatum_layer import dm
from tests.truth.apps.web_pyramid import end, make_app, stream
from wsgi_polydatum import PolydatumWSGI, stream_context


def pay(request: Request) -> Response:
    request.environ["polydatum.dal"].payments.pay(request.matchdict["check"])
    return end(request.matchdict["check"])


def names(request: Request) -> Response:
    def lines() -> Iterator[str]:
        with stream_context(request.environ) as ctx:
            yield from ctx.dal.payments.names()

    return stream(lines())


app = PolydatumWSGI(make_app(Configurator(), pay=pay, names=names), dm)
