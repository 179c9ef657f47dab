"""The tasks of the workers that are tested: they write into a SQLite file, and tell what happens in a journal."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from celery import Celery
from celery.exceptions import Ignore, Reject

from celery_polydatum import PolydatumTask
from polydatum import Context, DataAccessLayer, DataManager, Service
from tests.servers.apps.gates import wait
from tests.servers.apps.journal import FOLDER, write
from tests.workers.deployments import Place


class TransferService(Service[Any]):
    def add(self, key: str, payee: str = "bob") -> None:
        """A transfer to a payee without an account is refused when it is committed."""
        self._ctx.db.execute("INSERT INTO transfers VALUES (?, ?)", (key, payee))

    def count(self, key: str) -> int:
        (count,) = self._ctx.db.execute("SELECT count(*) FROM transfers WHERE key = ?", (key,)).fetchone()
        return int(count)


class BankDAL(DataAccessLayer):
    transfers = TransferService()


def db(context: Context) -> Iterator[sqlite3.Connection]:
    key = str(context.meta.get("task_id"))
    write("db.open", key)
    try:
        with closing(sqlite3.connect(FOLDER / "bank.db", timeout=10)) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            try:
                yield connection
                if context.meta.get("task_name") == "slow_commit":
                    wait("never")
                connection.commit()
            except BaseException:
                connection.rollback()
                write("db.rollback", key)
                raise
            write("db.commit", key)
    finally:
        write("db.close", key)


def pool(manager: Any) -> Iterator[int]:
    """A resource of the application; it is the process that opened it."""
    write("pool.open")
    yield os.getpid()


dm = DataManager(BankDAL)
dm.register_resources(db=db)
dm.register_app_resources(pool=pool)
OPENED_IN = dm.pool  # when the module is imported, in the process that starts those of the pool

app = Celery("bank")
app.Task = PolydatumTask
Place.read().configure(app)
if os.environ.get("WORKERS_MANAGER") != "none":
    app.conf.polydatum_data_manager = dm
app.conf.polydatum_load_user = str.upper


@app.task(name="add", bind=True)
def add(self: Any, key: str, gate: str | None = None) -> str:
    self.dal.transfers.add(key)
    write("waits", key)
    wait(gate)
    return key


@app.task(name="late", bind=True, acks_late=True, reject_on_worker_lost=True)
def late(self: Any, key: str, gate: str) -> str:
    self.dal.transfers.add(key)
    write("waits", key)
    wait(gate)
    return key


@app.task(name="fail", bind=True)
def fail(self: Any, key: str) -> None:
    self.dal.transfers.add(key)
    raise ValueError(key)


@app.task(name="refused", bind=True)
def refused(self: Any, key: str) -> str:
    self.dal.transfers.add(key, "nobody")
    return key


@app.task(name="stubborn", bind=True, autoretry_for=(sqlite3.IntegrityError,), default_retry_delay=0)
def stubborn(self: Any, key: str) -> int:
    self.dal.transfers.add(key, "bob" if self.request.retries else "nobody")
    return self.request.retries  # type: ignore[no-any-return]


@app.task(name="again", bind=True)
def again(self: Any, key: str) -> list[int]:
    """Each attempt says what it finds."""
    found = self.dal.transfers.count(key)
    self.dal.transfers.add(key)
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return [found, dm.require_active_context().meta.retries]


@app.task(name="ignored", bind=True)
def ignored(self: Any, key: str) -> None:
    self.dal.transfers.add(key)
    self.update_state(state="LEFT")
    raise Ignore


@app.task(name="rejected", bind=True, acks_late=True)
def rejected(self: Any, key: str) -> None:
    self.dal.transfers.add(key)
    raise Reject("not wanted", requeue=False)


@app.task(name="replaced", bind=True)
def replaced(self: Any, key: str) -> Any:
    self.dal.transfers.add(key)
    raise self.replace(found.s(key))


@app.task(name="found", bind=True)
def found(self: Any, key: str) -> int:
    count = self.dal.transfers.count(key)
    self.dal.transfers.add(key)
    return int(count)


@app.task(name="slow", bind=True, soft_time_limit=1)
def slow(self: Any, key: str) -> None:
    self.dal.transfers.add(key)
    wait("never")


@app.task(name="slow_commit", bind=True, soft_time_limit=1)
def slow_commit(self: Any, key: str) -> None:
    self.dal.transfers.add(key)


@app.task(name="parent", bind=True)
def parent(self: Any, key: str, child: str, fails: bool) -> str:
    self.dal.transfers.add(key)
    add.apply_async_on_commit((child,), task_id=child)
    if fails:
        raise ValueError(key)
    return key


@app.task(name="who", bind=True)
def who(self: Any, gate: str | None = None) -> dict[str, Any]:
    meta = dm.require_active_context().meta
    wait(gate)
    return {name: meta[name] for name in ("user", "user_id", "task_id", "task_name", "retries", "root_id", "parent_id")}


@app.task(name="asks", bind=True)
def asks(self: Any) -> None:
    raise self.replace(who.s())


@app.task(name="pools")
def pools() -> dict[str, int]:
    return {"here": os.getpid(), "opened": dm.pool, "imported": OPENED_IN}
