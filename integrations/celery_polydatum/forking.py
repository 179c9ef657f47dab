"""A forked child leaves its app's connections to the parent, and opens its own.

Celery and kombu do so only after a fork by ``multiprocessing``, not after ``os.fork``, and then shut down the parent's
connections.
"""

from __future__ import annotations

import os
import threading
from typing import Any
from weakref import WeakSet

from celery import Celery
from kombu import pools

apps: WeakSet[Celery] = WeakSet()
"""The apps that have a `PolydatumTask`."""
_of_the_parent: list[Any] = []
"""Never freed: a finalizer might say goodbye to the server, and so end the connection for the parent, too."""


def _after_fork_in_child() -> None:
    for group in (pools.producers, pools.connections):
        for pool in group.values():
            pool.collect_resource = _of_the_parent.append  # instead of closing it
            pool.force_close_all()
        group.clear()
    for app in list(apps):
        _forget_connections(app)


def _forget_connections(app: Any) -> None:
    _of_the_parent.append((app._backend_cache, app._local))
    app._backend_cache = None
    app._local = threading.local()  # holds its backend, or the name of its result queue
    app._pool = None
    made = vars(app)
    made.pop("control", None)  # it holds a pool
    if "amqp" in made:
        app.amqp._producer_pool = None


os.register_at_fork(after_in_child=_after_fork_in_child)
