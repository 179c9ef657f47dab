"""What a relay is told of: the DataManager of those who send, in a process of its own."""

from __future__ import annotations

import os

from celery import Celery

from tests.workers import layer
from tests.workers.deployments import Place

place = Place.read()
app = Celery("relay")
place.configure(app)
dm = layer.manager(app, os.environ["WORKERS_POSTGRES"], place.name, "relay")
