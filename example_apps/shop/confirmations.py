"""Confirmations of orders. Here they go to a file; a real shop would send mail."""

from __future__ import annotations

from pathlib import Path


class ConfirmationLog:
    """A file with one line per confirmed order. It has no transactions: what was written stays."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def confirm(self, order_id: int, total_cents: int) -> None:
        """Add the line of an order."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"order {order_id} confirmed, {total_cents / 100:.2f} to pay\n")
