"""Requests whose ``dal`` has the type of the user's DAL; checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import assert_type

import werkzeug

from asgi_polydatum.starlette import Request
from polydatum import DataAccessLayer, Service, bind
from wsgi_polydatum.werkzeug import RequestMixin


class ItemService(Service):
    def names(self) -> list[str]:
        return []


class ShopDAL(DataAccessLayer):
    items = ItemService()


async def starlette_view(request: Request[ShopDAL]) -> None:
    assert_type(request.dal, ShopDAL)
    assert_type(request.dal.items.names(), list[str])
    assert_type(request.url.path, str)


class WerkzeugRequest(RequestMixin[ShopDAL], werkzeug.Request):
    pass


def werkzeug_view(request: WerkzeugRequest) -> None:
    assert_type(request.dal.items.names(), list[str])


def bound(name: str) -> int:
    return len(name)


assert_type(bind(bound)("tea"), int)
