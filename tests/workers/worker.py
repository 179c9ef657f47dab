"""A ``celery worker`` as a process of its own, and those who send to it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import celery
from celery import Celery
from celery.result import AsyncResult

import celery_polydatum  # noqa: F401 - adds the id of the user to what is sent by name
from polydatum import Command, DataManager
from polydatum.adapting import as_text
from tests.servers.books import Books, Journal, eventually
from tests.services import url_of
from tests.workers import layer
from tests.workers.deployments import Deployment, Place
from tests.workers.ledger import Ledger

ROOT = Path(__file__).parents[2]
START = 30.0
STOP = 30.0
PATIENCE = 60.0
COMPLAINTS = ("Exception ignored", "never awaited", "Warning:", "--- Logging error ---")
CELERYS = ("site-packages/celery/", "ResourceWarning: unclosed <socket")
"""What Celery is warned of itself: of running as root, of what redis-py has deprecated, and that its threads and greenlets
leave their connections to Redis to the collector; tasks here open no sockets in Python."""


def new_place(deployment: Deployment) -> Place:
    """A queue of its own; in Redis it is in the database 9, which no other test uses."""
    results = url_of("redis").rpartition("/")[0] + "/9"
    broker = results if deployment.broker == "redis" else url_of(deployment.broker)
    return Place(broker, results, f"polydatum_{uuid.uuid4().hex}")


class Process:
    """A process that meets others at a place, and those that it has started.

    Args:
        command: what Python is to run.
        place: where it meets them.
        journal: what it tells.
        more: more variables of its environment.
    """

    def __init__(self, command: list[str], place: Place, journal: Journal, **more: str) -> None:
        self.place = place
        self._printed = journal.folder / f"printed-{uuid.uuid4().hex}"
        with self._printed.open("wb") as printed:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env={
                    **os.environ,
                    **place.environment,
                    **more,
                    "BANK_FOLDER": str(journal.folder),
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

    def kill(self) -> None:
        """End all of it, as a machine does that loses its power."""
        if self._has_processes():
            os.killpg(self.process.pid, signal.SIGKILL)
        self.wait_until_gone()

    def wait_until_gone(self) -> int:
        """Wait until it has ended with all its processes; gives its exit code."""
        try:
            code = self.process.wait(STOP)
            eventually(lambda: not self._has_processes(), f"the last process of {self.process.args!r} ends")
        finally:
            if self._has_processes():
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        return code

    def stop(self) -> None:
        """Stop it if it runs, and see that it has left nothing behind and not complained of anything."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.wait_until_gone()
        complaints = [
            line
            for line in self.printed.splitlines()
            if any(complaint in line for complaint in COMPLAINTS)
            and not any(of_celery in line for of_celery in CELERYS)
        ]
        assert not complaints, f"{self.process.args!r} complained of {complaints}:\n{self.printed}"

    def _has_processes(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True


class Worker(Process):
    """A worker that runs, as a deployment says."""

    app: ClassVar[str]
    """The module of its tasks."""

    def __init__(self, deployment: Deployment, place: Place, journal: Journal, **more: str) -> None:
        self.deployment = deployment
        name = f"--hostname={uuid.uuid4().hex}@%h"  # several may share a place
        command = ["celery", "-A", f"tests.workers.apps.{self.app}", *deployment.command, name]
        super().__init__(command, place, journal, **more)

    def wait_until_ready(self) -> None:
        def is_ready() -> bool:
            assert self.process.poll() is None, f"{self.deployment} ended at once:\n{self.printed}"
            return " ready." in self.printed

        eventually(is_ready, f"{self.deployment} is ready", within=START)

    def terminate(self) -> None:
        """Ask for a warm shutdown, and return once it has begun."""
        self.process.send_signal(signal.SIGTERM)
        eventually(lambda: "Warm shutdown" in self.printed, f"{self.deployment} hears of SIGTERM")


class BankWorker(Worker):
    """A worker of the bank, with a queue and books of its own."""

    app = "bank"

    def __init__(self, deployment: Deployment, folder: Path, **more: str) -> None:
        self.books = Books(folder)
        super().__init__(deployment, new_place(deployment), self.books, **more)

    def stop(self) -> None:
        """And delete its queue."""
        try:
            super().stop()
        finally:
            self.place.delete()

    def transfers(self, key: str) -> int:
        """How many transfers of a key were kept, seen through a connection of its own."""
        with closing(sqlite3.connect(self.books.folder / "bank.db")) as connection:
            (count,) = connection.execute("SELECT count(*) FROM transfers WHERE key = ?", (key,)).fetchone()
        return int(count)


class CommandWorker(Worker):
    """A worker that runs commands and keeps what they do in a ledger, which several may share as they share a place."""

    app = "commands"

    def __init__(self, deployment: Deployment, place: Place, ledger: Ledger, **more: str) -> None:
        self.ledger = ledger
        super().__init__(deployment, place, ledger, **{"WORKERS_POSTGRES": ledger.url, **more})


class Relay(Process):
    """A relay of the outbox in a ledger."""

    def __init__(self, place: Place, ledger: Ledger) -> None:
        command = ["polydatum", "--manager", "tests.workers.apps.relay:dm", "outbox", "run", "--interval", "0.05"]
        super().__init__(command, place, ledger, WORKERS_POSTGRES=ledger.url)


def ended(result: AsyncResult[Any]) -> tuple[str, Any]:
    """Wait for the end of a task: its state and its result, which is the error if it failed."""
    value = result.get(timeout=PATIENCE, propagate=False)
    return result.state, value


class Sender:
    """Sends tasks to a worker by their names, as an application does that does not have their code."""

    def __init__(self, place: Place) -> None:
        self.app = Celery("sender", set_as_current=False)
        place.configure(self.app)
        self.manager = self._manager()

    def _manager(self) -> DataManager[Any, Any]:
        manager: DataManager[Any, Any] = DataManager()
        self.app.conf.update(polydatum_data_manager=manager, polydatum_load_user=str)
        return manager

    def send(self, task: str, *args: Any, **options: Any) -> AsyncResult[Any]:
        """Send a task; if it has a key, that is its id, too."""
        if args and "task_id" not in options:
            options["task_id"] = args[0]
        return self.app.send_task(task, args, **options)

    def run(self, task: str, *args: Any, **options: Any) -> tuple[str, Any]:
        """Send a task, and wait for its end."""
        return ended(self.send(task, *args, **options))

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


class CommandSender(Sender):
    """Sends commands; their ids are the keys of what they do."""

    def __init__(self, place: Place, ledger: Ledger) -> None:
        self._ledger = ledger
        super().__init__(place)
        layer.create_tables(self.manager)

    def _manager(self) -> DataManager[Any, Any]:
        return layer.manager(self.app, self._ledger.url, self._ledger.name, "sender")

    def command(self, method: str, key: str, *args: Any, **kwargs: Any) -> Command[Any]:
        return self.manager.command(f"effects.{method}", key, *args, **kwargs)

    def start(self, method: str, key: str, *args: Any, **kwargs: Any) -> AsyncResult[Any]:
        """Send a command."""
        result: AsyncResult[Any] = self.command(method, key, *args, **kwargs).send(id=key)
        return result

    def finish(self, method: str, key: str, *args: Any, **kwargs: Any) -> tuple[str, Any]:
        """Send a command, and wait for its end, as `run` does for a task."""
        return ended(self.start(method, key, *args, **kwargs))

    def wait_for(self, keys: Iterable[str], *, within: float) -> None:
        """Wait for the ends of many commands."""
        waiting = list(keys)

        def all_ended() -> bool:
            while waiting and self.app.AsyncResult(waiting[-1]).ready():
                waiting.pop()
            return not waiting

        eventually(all_ended, "all commands come to their end", within=within)

    def deliver(self, message: object, key: str, **options: Any) -> AsyncResult[Any]:
        """Send whatever may be the message of a command; a dict as it travels."""
        travelling = as_text(message) if isinstance(message, dict) else message
        return self.send("polydatum.run_command", travelling, task_id=key, **options)

    def close(self) -> None:
        self.manager.close()
        super().close()
