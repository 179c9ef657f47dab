"""What all stacks on Celery share: each check as a task that runs eagerly, with all that Celery does around it."""

from __future__ import annotations

import json
from typing import Any

from celery import Celery

from tests.truth.checks import TASKS, in_order


def make_app() -> Celery:
    """An application whose tasks run where they are sent."""
    app = Celery("bank", broker="memory://")
    app.conf.task_always_eager = True
    return app


def end(task: Any, check: str) -> None:
    """How a task ends that has written."""
    if check == "crashed":
        raise RuntimeError("a bug")
    if check == "retried" and task.request.retries == 0:
        raise task.retry(countdown=0)


def run(pay: Any) -> None:
    """Run each check, and print how its task ended."""
    print(json.dumps({check.name: pay.apply([check.name]).state for check in in_order(TASKS)}))
