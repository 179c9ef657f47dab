"""Items and their stock."""

from __future__ import annotations

from dataclasses import dataclass

from polydatum import NotFound, Service, ServiceError
from shop.context import ShopContext


class OutOfStock(ServiceError):
    """Not enough of an item is left: 409."""

    code = 409


@dataclass(frozen=True)
class Item:
    """Something the shop sells."""

    id: int
    name: str
    price_cents: int
    stock: int


class ItemService(Service[ShopContext]):
    """What the shop sells, and how much of it is in stock."""

    def list_items(self) -> list[Item]:
        """All items, ordered by id."""
        rows = self._ctx.db.execute("SELECT id, name, price_cents, stock FROM items ORDER BY id")
        return [Item(*row) for row in rows]

    def get_item(self, item_id: int) -> Item | None:
        """The item of an id, or None."""
        query = "SELECT id, name, price_cents, stock FROM items WHERE id = ?"
        row = self._ctx.db.execute(query, (item_id,)).fetchone()
        return None if row is None else Item(*row)

    def take_from_stock(self, item_id: int, quantity: int) -> Item:
        """Take some of an item out of the stock; returns the item as it was before.

        Raises:
            NotFound: if there is no such item.
            OutOfStock: if fewer are left.
        """
        item = self.get_item(item_id)
        if item is None:
            raise NotFound(f"there is no item {item_id}")
        taken = self._ctx.db.execute(
            "UPDATE items SET stock = stock - ? WHERE id = ? AND stock >= ?", (quantity, item_id, quantity)
        )
        if taken.rowcount == 0:
            raise OutOfStock(f"{quantity} of {item.name} wanted, {item.stock} left")
        return item
