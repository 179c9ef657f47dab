"""Orders: reading them from a request, placing and finding them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from operator import index

from polydatum import Service, ServiceError, command
from shop.context import ShopContext

MOST_OF_ONE_ITEM = 1000
MISSING_ITEM = 404404


class InvalidOrder(ServiceError):
    """The order is invalid: 422."""

    code = 422


@dataclass(frozen=True)
class OrderLine:
    """An item and its quantity."""

    item_id: int
    quantity: int


@dataclass(frozen=True)
class Order:
    """A placed order, at the prices of that day."""

    id: int
    total_cents: int
    lines: list[OrderLine]


def read_lines(body: bytes) -> list[OrderLine]:
    """The lines of an order, as a client sends them: ``{"lines": [{"item_id": 1, "quantity": 2}]}``.

    Raises:
        InvalidOrder: if the body has another form.
    """
    try:
        return [OrderLine(index(line["item_id"]), index(line["quantity"])) for line in json.loads(body)["lines"]]
    except (ValueError, TypeError, KeyError):
        raise InvalidOrder('an order looks like {"lines": [{"item_id": 1, "quantity": 2}]}') from None


class OrderService(Service[ShopContext]):
    """The orders of the shop."""

    def get_order(self, order_id: int) -> Order | None:
        """The order of an id, or None."""
        query = "SELECT item_id, quantity, price_cents FROM order_lines WHERE order_id = ? ORDER BY rowid"
        rows = self._ctx.db.execute(query, (order_id,)).fetchall()
        if not rows:
            return None
        total_cents = sum(quantity * price_cents for _, quantity, price_cents in rows)
        return Order(order_id, total_cents, [OrderLine(item_id, quantity) for item_id, quantity, _ in rows])

    def place(self, lines: list[OrderLine]) -> Order:
        """Take every line out of the stock and store the order: all of it or, if anything raises, nothing.

        Nothing is undone here: an exception that leaves the request rolls its transaction back. For the same reason the
        confirmation is sent on commit: until then the order is not final, and the commit may still fail.

        Raises:
            InvalidOrder: if there are no lines, or a quantity is not between 1 and 1000.
            NotFound: if an item does not exist.
            OutOfStock: if fewer of an item are left than wanted.
        """
        if not lines:
            raise InvalidOrder("an order has at least one line")
        if not all(1 <= line.quantity <= MOST_OF_ONE_ITEM for line in lines):
            raise InvalidOrder(f"a quantity is between 1 and {MOST_OF_ONE_ITEM}")
        order_id = self._ctx.db.execute("INSERT INTO orders DEFAULT VALUES").lastrowid
        assert order_id is not None  # an INSERT of a row sets it
        total_cents = 0
        for line in lines:
            item = self._dal.items.take_from_stock(line.item_id, line.quantity)
            self._add_line(order_id, line, item.price_cents)
            total_cents += line.quantity * item.price_cents
        self._ctx.enqueue(command(self._dal.orders.confirm, order_id, total_cents))
        return Order(order_id, total_cents, lines)

    @command
    def confirm(self, order_id: int, total_cents: int) -> None:
        """Confirm a committed order; runs in a worker, if there is one."""
        self._ctx.confirmations.confirm(order_id, total_cents)

    def place_broken(self, lines: list[OrderLine]) -> Order:
        """Place an order and make its commit fail, on purpose: adds a gift line for an item that does not exist.

        Every statement succeeds, and so does this method: only COMMIT detects the missing item. A host that answered
        before the commit would answer "201 Created" for an order that does not exist.
        """
        order = self.place(lines)
        self._add_line(order.id, OrderLine(MISSING_ITEM, 1), price_cents=0)
        return order

    def _add_line(self, order_id: int, line: OrderLine, price_cents: int) -> None:
        self._ctx.db.execute(
            "INSERT INTO order_lines (order_id, item_id, quantity, price_cents) VALUES (?, ?, ?, ?)",
            (order_id, line.item_id, line.quantity, price_cents),
        )
