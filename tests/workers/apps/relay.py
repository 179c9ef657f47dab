"""A relay as a process of its own: sends what is in the outbox of the commands' application until it is told to stop."""

from __future__ import annotations

import os

from celery import Celery

from polydatum.backends.outbox_relay import Relay
from tests.workers import layer
from tests.workers.deployments import Place

place = Place.read()
app = Celery("relay")
place.configure(app)
dm = layer.manager(app, os.environ["WORKERS_POSTGRES"], place.name, "relay")

if __name__ == "__main__":
    Relay(dm, batch=20, interval=0.05).run()
    dm.close()
    app.pool.force_close_all()
