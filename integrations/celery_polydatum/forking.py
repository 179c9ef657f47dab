"""A forked child leaves the connections of its app to the parent, and makes its own.

Celery and kombu renew theirs after a fork by ``multiprocessing`` alone, not after ``os.fork``, and shut the parent's down then.
"""

from __future__ import annotations

import os
import threading
from typing import Any
from weakref import WeakSet

from celery import Celery
from kombu import pools

apps: WeakSet[Celery] = WeakSet()
"""Those that have a `PolydatumTask`."""
_of_the_parent: list[Any] = []
"""Kept for good: what is collected may take its leave of the server, for both."""


def _after_fork_in_child() -> None:
    for group in (pools.producers, pools.connections):
        for pool in group.values():
            pool.collect_resource = _of_the_parent.append  # in place of closing it
            pool.force_close_all()
        group.clear()
    for app in list(apps):
        _forget_connections(app)


def _forget_connections(app: Any) -> None:
    _of_the_parent.append((app._backend_cache, app._local))
    app._backend_cache = None
    app._local = threading.local()  # its backend, or the name of its queue of results
    app._pool = None
    made = vars(app)
    made.pop("control", None)  # it holds a pool
    if "amqp" in made:
        app.amqp._producer_pool = None


os.register_at_fork(after_in_child=_after_fork_in_child)
