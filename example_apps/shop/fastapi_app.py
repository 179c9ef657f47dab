"""The shop, served by FastAPI."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, HTTPException, Request
from pydantic import BaseModel

from asgi_polydatum import PolydatumMiddleware
from shop.items import Item
from shop.layer import ShopDAL, ShopManager
from shop.orders import Order, OrderLine

router = APIRouter()


class ShopRequest(Request):
    """A request, with the type of its DAL."""

    dal: ShopDAL


class NewOrder(BaseModel):
    """What a client sends to place an order."""

    lines: list[OrderLine]


@router.get("/items")
def list_items(request: ShopRequest) -> list[Item]:
    return request.dal.items.list_items()


@router.get("/items/{item_id}")
def get_item(request: ShopRequest, item_id: int) -> Item:
    item = request.dal.items.get_item(item_id)
    if item is None:
        raise HTTPException(404, "no such item")
    return item


@router.get("/orders/{order_id}")
def get_order(request: ShopRequest, order_id: int) -> Order:
    order = request.dal.orders.get_order(order_id)
    if order is None:
        raise HTTPException(404, "no such order")
    return order


@router.post("/orders", status_code=201)
def place_order(request: ShopRequest, new: NewOrder) -> Order:
    return request.dal.orders.place(new.lines)


@router.post("/orders/broken", status_code=201)
def place_broken_order(request: ShopRequest, new: NewOrder) -> Order:
    return request.dal.orders.place_broken(new.lines)


def make_app(dm: ShopManager) -> FastAPI:
    app = FastAPI(title="Shop")
    app.include_router(router)
    app.add_middleware(PolydatumMiddleware, data_manager=dm)
    return app
