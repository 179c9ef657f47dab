"""Shared by all stacks on Celery: each check as an eager task, with everything that Celery does around it."""

from __future__ import annotations

import json
from typing import Any

from celery import Celery

from tests.truth.checks import TASKS, in_order


def make_app() -> Celery:
    """An application with eager tasks."""
    app = Celery("bank", broker="memory://")
    app.conf.task_always_eager = True
    return app


def end(task: Any, check: str) -> None:
    """End a task after it has written."""
    if check == "crashed":
        raise RuntimeError("a bug")
    if check == "retried" and task.request.retries == 0:
        raise task.retry(countdown=0)


def run(pay: Any) -> None:
    """Run each check, and print how its task ended."""
    print(json.dumps({check.name: pay.apply([check.name]).state for check in in_order(TASKS)}))
