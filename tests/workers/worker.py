"""A ``celery worker`` as a process of its own, and those who send to it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import celery
import kombu
import redis
from celery import Celery
from celery.result import AsyncResult

import celery_polydatum  # noqa: F401 - adds the id of the user to what is sent by name
from polydatum import DataManager
from tests.servers.books import Books, eventually
from tests.services import url_of
from tests.workers.deployments import Deployment, Place

ROOT = Path(__file__).parents[2]
START = 30.0
STOP = 15.0
COMPLAINTS = ("Exception ignored", "never awaited", "Warning:", "--- Logging error ---")
CELERYS = ("site-packages/celery/", "ResourceWarning: unclosed <socket object")
"""What Celery is warned of itself: of running as root, of what redis-py has deprecated, and that its greenlets leave their
connections to Redis to the collector; tasks here open no sockets."""


def new_place(deployment: Deployment) -> Place:
    """A queue of its own; in Redis it is in the database 9, which no other test uses."""
    results = url_of("redis").rpartition("/")[0] + "/9"
    broker = results if deployment.broker == "redis" else url_of(deployment.broker)
    return Place(broker, results, f"polydatum-{uuid.uuid4().hex}")


class Worker:
    """A worker that runs, with a queue and books of its own.

    Args:
        deployment: what to run.
        folder: an empty folder, for the books and for what the worker prints.
        more: more variables of its environment.
    """

    def __init__(self, deployment: Deployment, folder: Path, **more: str) -> None:
        self.deployment = deployment
        self.books = Books(folder)
        self.place = new_place(deployment)
        self._printed = folder / "printed"
        with self._printed.open("wb") as printed:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "tests.workers.apps.bank", *deployment.command],
                cwd=ROOT,
                env={
                    **os.environ,
                    **self.place.environment,
                    **more,
                    "BANK_FOLDER": str(folder),
                    "PYTHONPATH": os.pathsep.join(str(ROOT / path) for path in ("src", "integrations", "")),
                    "PYTHONUNBUFFERED": "1",
                    "PYTHONWARNINGS": "default",
                },
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def printed(self) -> str:
        """All that it has printed and logged."""
        return self._printed.read_text(errors="replace")

    def wait_until_ready(self) -> None:
        def is_ready() -> bool:
            assert self.process.poll() is None, f"{self.deployment} ended at once:\n{self.printed}"
            return " ready." in self.printed

        eventually(is_ready, f"{self.deployment} is ready", within=START)

    def transfers(self, key: str) -> int:
        """How many transfers of a key were kept, seen through a connection of its own."""
        with closing(sqlite3.connect(self.books.folder / "bank.db")) as connection:
            (count,) = connection.execute("SELECT count(*) FROM transfers WHERE key = ?", (key,)).fetchone()
        return int(count)

    def terminate(self) -> None:
        """Ask for a warm shutdown, and return once it has begun."""
        self.process.send_signal(signal.SIGTERM)
        eventually(lambda: "Warm shutdown" in self.printed, f"{self.deployment} hears of SIGTERM")

    def wait_until_gone(self) -> int:
        """Wait until it has ended with all its processes; gives its exit code."""
        try:
            code = self.process.wait(STOP)
            eventually(lambda: not self._has_processes(), f"the last process of {self.deployment} ends")
        finally:
            if self._has_processes():
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        return code

    def stop(self) -> None:
        """Stop it if it runs, and see that it has left nothing behind and not complained of anything."""
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
            self.wait_until_gone()
        finally:
            self._delete_queue()
        complaints = [
            line
            for line in self.printed.splitlines()
            if any(complaint in line for complaint in COMPLAINTS)
            and not any(of_celery in line for of_celery in CELERYS)
        ]
        assert not complaints, f"{self.deployment} complained of {complaints}:\n{self.printed}"

    def _has_processes(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _delete_queue(self) -> None:
        place = self.place
        if self.deployment.broker == "rabbitmq":
            with kombu.Connection(place.broker) as connection:
                connection.default_channel.queue_delete(place.name)
                connection.default_channel.exchange_delete(place.name)
        with redis.Redis.from_url(place.results) as client:
            for key in client.scan_iter(f"{place.name}:*", count=1000):
                client.delete(key)


class Sender:
    """Sends tasks to a worker by their names, as an application does that does not have their code."""

    def __init__(self, worker: Worker) -> None:
        self.manager: DataManager[Any, Any] = DataManager()
        self.app = Celery("sender", set_as_current=False)
        worker.place.configure(self.app)
        self.app.conf.update(polydatum_data_manager=self.manager, polydatum_load_user=str)

    def send(self, task: str, *args: Any, **options: Any) -> AsyncResult[Any]:
        """Send a task; if it has a key, that is its id, too."""
        if args and "task_id" not in options:
            options["task_id"] = args[0]
        return self.app.send_task(task, args, **options)

    def run(self, task: str, *args: Any, **options: Any) -> tuple[str, Any]:
        """Send a task, and wait for its end: the state and the result, which is the error if it failed."""
        result = self.send(task, *args, **options)
        value = result.get(timeout=20, propagate=False)
        return result.state, value

    @contextmanager
    def is_current(self) -> Iterator[None]:
        """Make its app the current one."""
        before = celery.current_app._get_current_object()
        self.app.set_current()
        try:
            yield
        finally:
            before.set_current()

    def close(self) -> None:
        self.app.backend.result_consumer.stop()
        self.app.backend.client.close()
        self.app.close()
