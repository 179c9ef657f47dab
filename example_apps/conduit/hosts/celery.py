"""Conduit's commands, run by Celery: a worker is also a host."""

from __future__ import annotations

from typing import Any

from celery import Celery

from celery_polydatum import CeleryQueue, PolydatumTask
from conduit.services.layer import ConduitManager


def make_app(dm: ConduitManager, broker: str) -> Celery[Any]:
    """Create the Celery app; from then on, commands are sent to its workers."""
    app = Celery("conduit", broker=broker, task_cls=PolydatumTask)
    app.conf.polydatum_data_manager = dm
    app.conf.polydatum_load_user = dm.get_dal().users.load
    app.conf.task_default_queue = "polydatum-conduit"
    app.conf.broker_connection_retry_on_startup = True
    dm.register_command_queue(CeleryQueue(app, ignore_result=True))
    return app
