"""The shop, served by Flask."""

from __future__ import annotations

from typing import cast

import flask
from flask import Blueprint, Flask, Response, abort, jsonify

from flask_polydatum import FlaskPolydatum
from shop.layer import ShopDAL, ShopManager
from shop.orders import read_lines

shop = Blueprint("shop", __name__)


class ShopRequest(flask.Request):
    """A request, with the type of its DAL."""

    dal: ShopDAL


request = cast(ShopRequest, flask.request)


@shop.get("/items")
def list_items() -> Response:
    return jsonify(request.dal.items.list_items())


@shop.get("/items/<int:item_id>")
def get_item(item_id: int) -> Response:
    item = request.dal.items.get_item(item_id)
    if item is None:
        abort(404, "no such item")
    return jsonify(item)


@shop.get("/orders/<int:order_id>")
def get_order(order_id: int) -> Response:
    order = request.dal.orders.get_order(order_id)
    if order is None:
        abort(404, "no such order")
    return jsonify(order)


@shop.post("/orders")
def place_order() -> tuple[Response, int]:
    return jsonify(request.dal.orders.place(read_lines(request.get_data()))), 201


@shop.post("/orders/broken")
def place_broken_order() -> tuple[Response, int]:
    return jsonify(request.dal.orders.place_broken(read_lines(request.get_data()))), 201


def make_app(dm: ShopManager) -> Flask:
    app = Flask(__name__)
    app.register_blueprint(shop)
    FlaskPolydatum(dm).init_app(app)
    return app
