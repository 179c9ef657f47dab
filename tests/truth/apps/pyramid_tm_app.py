"""pyramid_tm with zope.sqlalchemy, as Pyramid's starter project sets it up."""

from typing import Any

import zope.sqlalchemy
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response

from tests.truth import bank
from tests.truth.apps.web_pyramid import end, make_app, stream


def pay(request: Request) -> Response:
    bank.pay(request.dbsession, request.matchdict["check"])
    return end(request.matchdict["check"])


def names(request: Request) -> Response:
    return stream(bank.names(request.dbsession))


def dbsession(request: Request) -> Any:
    session = bank.Sessions()
    zope.sqlalchemy.register(session, transaction_manager=request.tm)
    return session


def make(**settings: Any) -> Any:
    config = Configurator(settings={"tm.manager_hook": "pyramid_tm.explicit_manager", **settings})
    config.include("pyramid_tm")
    config.add_request_method(dbsession, reify=True)
    return make_app(config, pay=pay, names=names)
