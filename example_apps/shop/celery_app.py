"""The shop's commands through Celery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery import Celery

from celery_polydatum import CeleryQueue, PolydatumTask
from shop.layer import ShopManager

FILES = "filesystem://"
"""Celery's broker in a folder, for a demo without a server."""


def make_celery_app(dm: ShopManager, folder: Path, broker: str) -> Celery[Any]:
    """Create the Celery app of a shop; from then on the shop's commands are sent to it."""
    app = Celery("shop", broker=broker, task_cls=PolydatumTask)
    app.conf.polydatum_data_manager = dm
    app.conf.task_default_queue = "polydatum-shop"
    app.conf.broker_connection_retry_on_startup = True
    if broker == FILES:
        queue, control = folder / "queue", folder / "control"
        for made in (queue, control):
            made.mkdir(exist_ok=True)
        app.conf.broker_transport_options = {
            "data_folder_in": str(queue),
            "data_folder_out": str(queue),
            "control_folder": str(control),
        }
    dm.register_command_queue(CeleryQueue(app, ignore_result=True))
    return app
