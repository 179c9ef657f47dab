"""The services whose commands are sent to workers, and the DataManager that senders, relays and workers have alike."""

from __future__ import annotations

from typing import Any

from celery import Celery
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from celery_polydatum import CeleryQueue
from polydatum import DataAccessLayer, DataManager, Service, Signer, command
from polydatum.backends.outbox import Inbox, Outbox
from polydatum.backends.sqlalchemy import SQLAlchemyBackend

KEY = "the key of senders and workers"
CONFLICTS, REFUSED, WAITS = "conflicts", "refused", "waits"
"""What becomes of a commit; see `tests.workers.ledger`."""


class Effects(Service[Any]):
    """Every command leaves a row of its key, and tells the phases that it comes to.

    They are begun, wrote, committed or rolled-back, and answered. The arguments ``stops`` and ``dies`` name one where the
    process waits at the gate of the key, or is killed.
    """

    @command
    def add(self, key: str, *, at_commit: str = "", stops: str | None = None, dies: str | None = None) -> str:
        self._write(key, at_commit)
        return key

    @command
    def fail(self, key: str, *, writes: bool = True) -> None:
        if writes:
            self._write(key)
        raise ValueError(key)

    @command
    def conflict(self, key: str) -> int:
        """The commit of the first attempt meets a conflict."""
        retries: int = self._ctx.meta.retries
        self._write(key, "" if retries else CONFLICTS)
        return retries

    @command
    def count(self, key: str, steps: int, *, stops: str | None = None) -> int:
        self._write(key)
        for done in range(steps):
            self._ctx.progress(done, steps)
            self._ctx.phase(f"step-{done}")
        return steps

    @command
    def who(self, key: str) -> list[Any]:
        meta = self._ctx.meta
        return [meta.user, meta.user_id, meta.task_id, meta.command.path]

    @command
    def parent(self, key: str, child: str, *, fails: bool = False, reliable: bool = False) -> str:
        """Has another one done that follows it."""
        self._write(key)
        self._ctx.enqueue(self._data_manager.command("effects.add", child), id=child, reliable=reliable)
        if fails:
            raise ValueError(key)
        return key

    @command
    def nap(self, key: str, seconds: float) -> None:
        """Wait for the database."""
        self._ctx.db.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
        self._write(key)

    def note(self, key: str, at_commit: str = "") -> int:
        """The row alone; gives the process of the server that has written it. No command."""
        insert = text("INSERT INTO effects VALUES (:key, :at_commit) RETURNING pg_backend_pid()")
        backend: int = self._ctx.db.scalar(insert, {"key": key, "at_commit": at_commit})
        return backend

    def _write(self, key: str, at_commit: str = "") -> None:
        self._ctx.phase("wrote", self.note(key, at_commit))


class EffectsDAL(DataAccessLayer):
    effects = Effects()


def manager(app: Celery, postgres: str, schema: str, role: str) -> DataManager[EffectsDAL, Any]:
    """For a Celery app over a schema of PostgreSQL, whose connections bear the name of the schema and the role."""
    dm: DataManager[EffectsDAL, Any] = DataManager(EffectsDAL)
    arguments = {"options": f"-csearch_path={schema}", "application_name": f"{schema}-{role}"}
    url = postgres.replace("postgresql:", "postgresql+psycopg:")
    dm.register_resources(db=SQLAlchemyBackend(url, connect_args=arguments))
    app.conf.polydatum_data_manager = dm
    app.conf.polydatum_load_user = str.upper
    queue = CeleryQueue(app, autoretry_for=(OperationalError,), default_retry_delay=0)
    dm.register_command_queue(queue, outbox=Outbox("db"), inbox=Inbox("db"), signer=Signer(KEY))
    return dm


def create_tables(dm: DataManager[Any, Any]) -> None:
    """The outbox and the inbox, unless they are there."""
    for part in (dm.dispatch.outbox, dm.dispatch.inbox):
        part.create_table(dm.get_client("db"))  # type: ignore[union-attr]
