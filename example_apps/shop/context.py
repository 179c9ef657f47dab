"""The types of what a service finds in ``self._ctx``."""

from __future__ import annotations

import sqlite3

from polydatum import Context
from shop.confirmations import ConfirmationLog


class ShopContext(Context):
    """One unit of work in the shop, with its resources; `layer.make_data_manager` registers them."""

    db: sqlite3.Connection
    confirmations: ConfirmationLog
