"""The type of ``self._ctx`` in the services."""

from __future__ import annotations

import sqlite3

from polydatum import Context
from shop.confirmations import ConfirmationLog


class ShopContext(Context):
    """One unit of work in the shop, with its resources; `layer.make_data_manager` registers them."""

    db: sqlite3.Connection
    confirmations: ConfirmationLog
