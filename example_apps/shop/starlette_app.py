"""The shop, served by Starlette."""

from __future__ import annotations

from dataclasses import asdict

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_polydatum import PolydatumMiddleware
from shop.layer import ShopDAL, ShopManager
from shop.orders import read_lines


class ShopRequest(Request):
    """A request, with the type of its DAL."""

    dal: ShopDAL


# SQLite blocks, so no call is made on the event loop: Starlette runs a plain `def` in a thread.


def list_items(request: ShopRequest) -> JSONResponse:
    return JSONResponse([asdict(item) for item in request.dal.items.list_items()])


def get_item(request: ShopRequest) -> JSONResponse:
    item = request.dal.items.get_item(request.path_params["item_id"])
    if item is None:
        raise HTTPException(404, "no such item")
    return JSONResponse(asdict(item))


def get_order(request: ShopRequest) -> JSONResponse:
    order = request.dal.orders.get_order(request.path_params["order_id"])
    if order is None:
        raise HTTPException(404, "no such order")
    return JSONResponse(asdict(order))


async def place_order(request: ShopRequest) -> JSONResponse:
    lines = read_lines(await request.body())
    order = await run_in_threadpool(request.dal.orders.place, lines)
    return JSONResponse(asdict(order), 201)


async def place_broken_order(request: ShopRequest) -> JSONResponse:
    lines = read_lines(await request.body())
    order = await run_in_threadpool(request.dal.orders.place_broken, lines)
    return JSONResponse(asdict(order), 201)


def make_app(dm: ShopManager) -> Starlette:
    app = Starlette(
        routes=[
            Route("/items", list_items),
            Route("/items/{item_id:int}", get_item),
            Route("/orders/{order_id:int}", get_order),
            Route("/orders", place_order, methods=["POST"]),
            Route("/orders/broken", place_broken_order, methods=["POST"]),
        ]
    )
    app.add_middleware(PolydatumMiddleware, data_manager=dm)
    return app
