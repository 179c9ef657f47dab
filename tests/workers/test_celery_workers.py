"""What the result backend says of a task is what the database has: with real workers, brokers and results."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

import pytest

from tests.servers.books import eventually
from tests.workers.deployments import ALL, Deployment
from tests.workers.worker import BankWorker, Sender

Start = Callable[..., BankWorker]
SHUT_DOWN = ("prefork-rabbitmq", "threads-redis", "solo-redis")


def needs_processes(worker: BankWorker) -> None:
    if worker.deployment.pool != "prefork":
        pytest.skip("soft limits and lost children are of worker processes")


def kill_child(worker: BankWorker, key: str) -> None:
    """Kill the process that runs the task of a key, in the middle of it."""
    worker.books.wait_for("waits", key)
    (process,) = {event.pid for event in worker.books.events(key)}
    os.kill(process, signal.SIGKILL)


def test_success_is_committed(worker: BankWorker, sender: Sender, key: str) -> None:
    assert sender.run("add", key) == ("SUCCESS", key)
    assert worker.transfers(key) == 1
    assert worker.books.names(key) == ["db.open", "waits", "db.commit", "db.close"]


def test_03_an_exception_is_a_failure_and_rolled_back(worker: BankWorker, sender: Sender, key: str) -> None:
    state, error = sender.run("fail", key)
    assert (state, repr(error)) == ("FAILURE", f"ValueError({key!r})")
    assert worker.transfers(key) == 0


def test_53_a_failed_commit_is_a_failure_and_nothing_follows(worker: BankWorker, sender: Sender, key: str) -> None:
    follows = sender.app.signature("add", (f"{key}-next",), immutable=True, queue=worker.place.name)
    state, error = sender.run("refused", key, link=follows)
    assert state == "FAILURE"
    assert "FOREIGN KEY constraint failed" in str(error)
    assert worker.transfers(key) == 0
    assert sender.run("add", f"{key}-later") == ("SUCCESS", f"{key}-later")
    assert worker.books.names(f"{key}-next") == []


def test_53_a_failed_commit_is_retried_by_autoretry_for(worker: BankWorker, sender: Sender, key: str) -> None:
    assert sender.run("stubborn", key) == ("SUCCESS", 1)
    assert worker.transfers(key) == 1
    assert worker.books.names(key).count("db.open") == 2


def test_54_a_retry_finds_nothing_of_the_attempt_before(worker: BankWorker, sender: Sender, key: str) -> None:
    assert sender.run("again", key) == ("SUCCESS", [0, 2])
    assert worker.transfers(key) == 1
    assert worker.books.names(key) == ["db.open", "db.rollback", "db.close"] * 2 + ["db.open", "db.commit", "db.close"]


def test_54_ignore_leaves_the_state_and_rolls_back(worker: BankWorker, sender: Sender, key: str) -> None:
    result = sender.send("ignored", key)
    worker.books.wait_for("db.close", key)
    eventually(lambda: result.state == "LEFT", "the state of the task")
    assert worker.transfers(key) == 0


def test_54_reject_rolls_back(worker: BankWorker, sender: Sender, key: str) -> None:
    result = sender.send("rejected", key)
    worker.books.wait_for("db.close", key)
    assert sender.run("add", f"{key}-later") == ("SUCCESS", f"{key}-later")
    assert worker.books.names(key) == ["db.open", "db.rollback", "db.close"]
    assert result.state != "SUCCESS"
    assert worker.transfers(key) == 0


def test_54_a_replacement_finds_nothing_of_what_it_replaces(worker: BankWorker, sender: Sender, key: str) -> None:
    assert sender.run("replaced", key) == ("SUCCESS", 0)
    assert worker.transfers(key) == 1


def test_what_is_sent_on_commit_follows_it_or_is_dropped(worker: BankWorker, sender: Sender, key: str) -> None:
    child, dropped = f"{key}-child", f"{key}-dropped"
    assert sender.run("parent", key, child, False) == ("SUCCESS", key)
    assert sender.app.AsyncResult(child).get(timeout=20) == child
    state, _ = sender.run("parent", f"{key}-2", dropped, True)
    assert state == "FAILURE"
    assert sender.run("add", f"{key}-later") == ("SUCCESS", f"{key}-later")
    assert worker.transfers(child) == 1
    assert worker.transfers(dropped) == 0
    assert worker.books.names(dropped) == []


def test_56_each_task_sees_its_own_meta_and_user(worker: BankWorker, sender: Sender, key: str) -> None:
    results = []
    with sender.is_current():
        for number in range(30):
            with sender.manager.context({"user": f"user{number}"}):
                results.append(sender.app.send_task("asks" if number % 3 == 0 else "who"))
    for number, result in enumerate(results):
        assert result.get(timeout=20) == {
            "user": f"USER{number}",
            "user_id": f"user{number}",
            "task_id": result.id,
            "task_name": "who",
            "retries": 0,
            "root_id": result.id,
            "parent_id": result.id if number % 3 == 0 else None,
        }


def test_57_a_soft_limit_rolls_back(worker: BankWorker, sender: Sender, key: str) -> None:
    needs_processes(worker)
    for task in ("slow", "slow_commit"):  # one after another: SQLite has one writer
        result = sender.send(task, f"{key}-{task}")
        assert type(result.get(timeout=20, propagate=False)).__name__ == "SoftTimeLimitExceeded"
        assert result.state == "FAILURE"
        assert worker.transfers(result.id) == 0
        assert worker.books.names(result.id)[-2:] == ["db.rollback", "db.close"]


def test_a_killed_child_is_a_failure_unless_its_task_is_late(worker: BankWorker, sender: Sender, key: str) -> None:
    """A late task is given to another child, and done once."""
    needs_processes(worker)
    early = sender.send("add", key, "never")
    kill_child(worker, key)
    assert type(early.get(timeout=20, propagate=False)).__name__ == "WorkerLostError"
    assert early.state == "FAILURE"
    assert worker.transfers(key) == 0

    late = sender.send("late", f"{key}-late", key)
    kill_child(worker, late.id)
    worker.books.open_gate(key)
    assert late.get(timeout=20) == late.id
    assert worker.books.names(late.id) == ["db.open", "waits", "db.open", "waits", "db.commit", "db.close"]
    assert worker.transfers(late.id) == 1


def test_59_a_child_opens_its_own_resources_of_the_application(worker: BankWorker, sender: Sender) -> None:
    found = sender.app.send_task("pools").get(timeout=20)
    assert found["opened"] == found["here"]
    assert (found["here"] == found["imported"]) == (worker.deployment.pool != "prefork")


@pytest.mark.parametrize("deployment", [deployment for deployment in ALL if str(deployment) in SHUT_DOWN], ids=str)
def test_a_warm_shutdown_ends_what_runs(start: Start, deployment: Deployment) -> None:
    worker = start(deployment)
    worker.wait_until_ready()
    sender = Sender(worker.place)
    try:
        result = sender.send("add", "last", "shutdown")
        worker.books.wait_for("waits", "last")
        worker.terminate()
        worker.books.open_gate("shutdown")
        assert worker.wait_until_gone() == 0
        assert result.get(timeout=20) == "last"
        assert worker.transfers("last") == 1
    finally:
        sender.close()


def test_a_retry_that_cannot_be_sent_is_a_failure(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    deployment = ALL[0]
    worker = start(deployment, CELERY_BROKER_WRITE_URL=f"amqp://127.0.0.1:{port}")
    worker.wait_until_ready()
    sender = Sender(worker.place)
    try:
        for task in ("stubborn", "again"):
            state, error = sender.run(task, task)
            assert (state, type(error).__name__) == ("FAILURE", "OperationalError")
            assert worker.transfers(task) == 0
    finally:
        sender.close()


def test_a_worker_without_a_manager_does_not_start(start: Start) -> None:
    worker = start(ALL[-1], WORKERS_MANAGER="none")
    assert worker.wait_until_gone() != 0
    assert "set one of these: PolydatumTask.data_manager, app.conf.polydatum_data_manager" in worker.printed
