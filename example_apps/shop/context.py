"""The types of what a service finds in ``self._ctx``."""

from __future__ import annotations

import sqlite3

from example_apps.shop.confirmations import ConfirmationLog
from polydatum import Context


class ShopContext(Context):
    """One unit of work in the shop, with its resources; `layer.make_data_manager` registers them."""

    db: sqlite3.Connection
    confirmations: ConfirmationLog
