"""The shop's data access layer: its services, its resources, and a log line for every call."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any

from polydatum import Call, DataAccessLayer, DataManager, LocalQueue, ValueResource
from shop.confirmations import ConfirmationLog
from shop.context import ShopContext
from shop.database import connect, create_database
from shop.items import ItemService
from shop.orders import OrderService

logger = logging.getLogger("shop")


class ShopDAL(DataAccessLayer):
    """The class of ``request.dal`` in every host."""

    items = ItemService()
    orders = OrderService()


ShopManager = DataManager[ShopDAL, ShopContext]


def make_data_manager(folder: Path) -> ShopManager:
    """The DataManager of a shop with its ``shop.db`` and ``confirmations.log`` in a folder."""
    database = folder / "shop.db"
    create_database(database)

    def db(context: ShopContext) -> Iterator[sqlite3.Connection]:
        # One connection per request that uses it; as a context manager it commits, or rolls back on an error.
        with closing(connect(database)) as connection, connection:
            yield connection

    dm = DataManager(ShopDAL, context_class=ShopContext)
    dm.register_resources(db=db, confirmations=ValueResource(ConfirmationLog(folder / "confirmations.log")))
    dm.register_method_middleware(log_call)
    dm.register_command_queue(LocalQueue(dm))  # in this process, unless `celery_app` sends commands to workers
    return dm


def log_call(call: Call) -> Generator[None, Any, Any]:
    """Method middleware: logs how long each DAL call took, and what it raised, if anything."""
    started = perf_counter()
    ended = "returned"
    try:
        return (yield)
    except Exception as error:
        ended = f"raised {type(error).__name__}"
        raise
    finally:
        logger.info("dal.%s %s after %.2f ms", call.path, ended, (perf_counter() - started) * 1000)
