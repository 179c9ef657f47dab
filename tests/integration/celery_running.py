"""Tasks that run in this process: eagerly, or as a worker runs them, with a broker and a result backend in memory."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from celery import Celery
from celery.app.trace import build_tracer
from celery.result import AsyncResult

from celery_polydatum import PolydatumTask
from polydatum import DataManager
from polydatum.testing.shop import Shop

here = DataManager()
"""To be found by a dotted path."""
_numbers = itertools.count(1)


class App(Celery):
    """An app whose tasks are its own: other apps of this process do not get them."""

    def task(self, *args: Any, **options: Any) -> Any:
        return super().task(*args, **{"shared": False, **options})


def celery_app(shop: Shop | None = None, **settings: Any) -> Celery:
    """An app whose tasks have the shop's DataManager, with a queue of its own."""
    app = App("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.Task = PolydatumTask
    app.conf.task_default_queue = f"shop-{next(_numbers)}"
    if shop is not None:
        app.conf.polydatum_data_manager = shop.dm
    app.conf.update(settings)
    return app


class Ended(NamedTuple):
    """What Celery says of a task that has run."""

    state: str
    result: Any


def apply(task: Any, *args: Any) -> Ended:
    """Run it eagerly."""
    result = task.apply(args)
    return Ended(result.state, result.result)


def work(task: Any, *args: Any, **request: Any) -> Ended:
    """Run it as a worker does that has got a message; the state is that of the result backend, PENDING if it has none."""
    task_id = request.setdefault("id", f"task-{next(_numbers)}")
    traced = build_tracer(task.name, task, app=task.app)(
        task_id, args, {}, {"delivery_info": {}, "hostname": "here", "retries": 0, **request}
    )
    assert traced is not None
    result: AsyncResult[Any] = AsyncResult(task_id, app=task.app)
    return Ended(result.state, result.result)


def sent(app: Celery) -> list[Any]:
    """The messages that wait in the queue of an app; they are taken out."""
    messages = []
    with app.connection_for_read() as connection:
        queue = app.amqp.queues[app.conf.task_default_queue](connection.default_channel)
        queue.declare()
        while (message := queue.get(no_ack=True)) is not None:
            messages.append(message)
    return messages
