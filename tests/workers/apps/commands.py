"""The workers that run commands over PostgreSQL, and tell the phases of each in a journal."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import celery
from celery import Celery
from celery.signals import task_postrun

from polydatum import Command, Context
from tests.servers.apps.gates import wait
from tests.servers.apps.journal import FOLDER, write
from tests.workers import layer
from tests.workers.deployments import Place

app = Celery("commands")
place = Place.read()
place.configure(app)
app.conf.worker_enable_remote_control = True
dm = layer.manager(app, os.environ["WORKERS_POSTGRES"], place.name, "worker")


def reached(command: Command[Any], phase: str, number: object = "-") -> None:
    """Tell a phase; then wait, or die, if that is what the command says. It dies once."""
    key = command.args[0]
    write(phase, key, str(number))
    if command.kwargs.get("stops") == phase:
        wait(key)
    if command.kwargs.get("dies") == phase:
        try:
            (FOLDER / f"{key}.died").touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


@dm.resource
def phase(context: Context) -> Iterator[Callable[..., None]]:
    yield partial(reached, context.meta.command)


@dm.context_middleware
def phases(context: Context) -> Iterator[None]:
    command = context.meta.get("command")
    if command is not None:
        context.on_commit(partial(reached, command, "committed"))
        context.on_rollback(partial(reached, command, "rolled-back"))
        request: Any = celery.current_task.request
        again = "redelivered" if request.delivery_info.get("redelivered") else "retried" if request.retries else "-"
        reached(command, "begun", again)
    yield


@task_postrun.connect
def answered(args: Any, state: str, **_: Any) -> None:
    """The result is stored, and the message not acknowledged yet."""
    if state == "SUCCESS":
        command = dm.dispatch.receive(args[0]).command
        if command.kwargs.get("stops") == "answered":
            reached(command, "answered")
