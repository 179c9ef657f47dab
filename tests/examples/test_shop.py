"""The demo shop keeps its promises in every host: one scenario, from a first look to a commit that fails."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import django.test
import pytest
from django.core.handlers.asgi import ASGIHandler
from starlette.testclient import TestClient

from shop import django_app, fastapi_app, flask_app, starlette_app
from shop.layer import ShopManager, make_data_manager
from tests.contract.django_settings import configure

HOSTS = ["starlette", "fastapi", "flask", "django", "django-wsgi"]

TEAPOT, CUP, TEA = 1, 2, 3
FIRST_STOCK = {TEAPOT: 5, CUP: 24, TEA: 3}


class Answer(NamedTuple):
    """What a client sees."""

    status: int
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


class Client(Protocol):
    """The test client of a host."""

    def __call__(self, method: str, path: str, body: str = "") -> Answer: ...


class Shop:
    """A shop, seen from outside: its answers, and the file of confirmations."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.request = client
        self.folder = folder

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def order(self, lines: dict[int, int], path: str = "/orders") -> Answer:
        wanted = [{"item_id": item_id, "quantity": quantity} for item_id, quantity in lines.items()]
        return self.request("POST", path, json.dumps({"lines": wanted}))

    def stock(self) -> dict[int, int]:
        return {item["id"]: item["stock"] for item in self.get("/items").json()}

    def confirmations(self) -> list[str]:
        log = self.folder / "confirmations.log"
        return log.read_text().splitlines() if log.exists() else []


def asgi_client(app: Any) -> Client:
    client = TestClient(app, "http://localhost", raise_server_exceptions=False)

    def request(method: str, path: str, body: str = "") -> Answer:
        headers = {"Content-Type": "application/json"}
        answer = client.request(method, path, content=body, headers=headers)
        return Answer(answer.status_code, answer.text)

    return request


def flask_client(app: Any) -> Client:
    client = app.test_client()

    def request(method: str, path: str, body: str = "") -> Answer:
        answer = client.open(path, method=method, data=body, content_type="application/json")
        return Answer(answer.status_code, answer.text)

    return request


def django_client() -> Client:
    client = django.test.Client(raise_request_exception=False)

    def request(method: str, path: str, body: str = "") -> Answer:
        answer = client.generic(method, path, body, "application/json")
        return Answer(answer.status_code, answer.content.decode())

    return request


@contextlib.contextmanager
def client_of(host: str, dm: ShopManager) -> Iterator[Client]:
    if host == "starlette":
        yield asgi_client(starlette_app.make_app(dm))
    elif host == "fastapi":
        yield asgi_client(fastapi_app.make_app(dm))
    elif host == "flask":
        yield flask_client(flask_app.make_app(dm))
    else:
        configure()  # once per process; that is why `django_app.make_app` is left to `test_shop_serve`
        with django.test.override_settings(**django_app.settings_for(dm)):
            yield django_client() if host == "django-wsgi" else asgi_client(ASGIHandler())


@pytest.fixture(params=HOSTS)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    with client_of(request.param, make_data_manager(tmp_path)) as client:
        yield Shop(client, tmp_path)


def test_the_whole_scenario(shop: Shop) -> None:
    assert [item["name"] for item in shop.get("/items").json()] == ["teapot", "cup", "green tea"]
    assert shop.get("/items/3").json() == {"id": 3, "name": "green tea", "price_cents": 950, "stock": 3}
    assert shop.get("/items/99").status == 404

    # An order is placed, found again and confirmed.
    placed = shop.order({TEAPOT: 2, CUP: 2})
    assert placed.status == 201
    assert placed.json() == {
        "id": 1,
        "total_cents": 6000,
        "lines": [{"item_id": TEAPOT, "quantity": 2}, {"item_id": CUP, "quantity": 2}],
    }
    assert shop.get("/orders/1").json() == placed.json()
    kept = {TEAPOT: 3, CUP: 22, TEA: 3}
    assert shop.stock() == kept
    assert shop.confirmations() == ["order 1 confirmed, 60.00 to pay"]

    # The first line is fine, the second is not: half an order is no order.
    short = shop.order({CUP: 1, TEA: 9})
    assert (short.status, short.json()) == (409, {"detail": "9 of green tea wanted, 3 left"})
    unknown = shop.order({CUP: 1, 99: 1})
    assert (unknown.status, unknown.json()) == (404, {"detail": "there is no item 99"})

    # Every statement succeeds and the view returns 201, but the commit fails: the answer is 500.
    assert shop.order({CUP: 1}, "/orders/broken").status == 500

    # None of these three left anything behind.
    assert shop.stock() == kept
    assert shop.get("/orders/2").status == 404
    assert shop.confirmations() == ["order 1 confirmed, 60.00 to pay"]

    # The next order gets through: no lock is held, no connection is spoilt.
    assert shop.order({TEA: 3}).json()["id"] == 2
    assert shop.confirmations()[1:] == ["order 2 confirmed, 28.50 to pay"]


@pytest.mark.parametrize(
    "body",
    [
        "tea, please",
        "{}",
        '{"lines": 1}',
        '{"lines": []}',
        '{"lines": [{"item_id": 1}]}',
        '{"lines": [{"item_id": 1, "quantity": 0}]}',
        '{"lines": [{"item_id": 1, "quantity": -1}]}',
        '{"lines": [{"item_id": 1, "quantity": 1.5}]}',
        '{"lines": [{"item_id": "teapot", "quantity": 1}]}',
        '{"lines": [{"item_id": 1, "quantity": 1}, {"item_id": 1, "quantity": 1001}]}',
    ],
)
def test_an_order_that_makes_no_sense_is_answered_422_and_changes_nothing(shop: Shop, body: str) -> None:
    assert shop.request("POST", "/orders", body).status == 422
    assert shop.stock() == FIRST_STOCK
    assert shop.confirmations() == []


def test_one_item_in_two_lines_is_taken_twice(shop: Shop) -> None:
    line = '{"item_id": 3, "quantity": 2}'
    assert shop.request("POST", "/orders", f'{{"lines": [{line}, {line}]}}').status == 409
    assert shop.stock() == FIRST_STOCK


def test_every_dal_call_leaves_a_line_in_the_log(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="shop")
    shop.get("/items/1")
    shop.order({TEA: 9})
    logged = [record.getMessage() for record in caplog.records if record.name == "shop"]
    assert [line.partition(" after ")[0] for line in logged] == [
        "dal.items.get_item returned",
        "dal.items.take_from_stock raised OutOfStock",
        "dal.orders.place raised OutOfStock",
    ]


def test_a_shop_that_is_opened_again_has_kept_its_orders(tmp_path: Path) -> None:
    with make_data_manager(tmp_path).dal() as dal:
        item = dal.items.take_from_stock(TEAPOT, 1)
        assert item.stock == FIRST_STOCK[TEAPOT]
    with make_data_manager(tmp_path).dal() as dal:
        item_again = dal.items.get_item(TEAPOT)
        assert item_again is not None
        assert item_again.stock == FIRST_STOCK[TEAPOT] - 1


def test_the_data_manager_finds_nothing_wrong_with_the_shop(tmp_path: Path) -> None:
    assert make_data_manager(tmp_path).check() == []
