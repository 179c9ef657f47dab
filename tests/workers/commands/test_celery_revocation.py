"""What becomes of a command that is ended from outside, in each pool: its state, its data, and that nobody does it later."""

from __future__ import annotations

import pytest

from tests.servers.books import eventually
from tests.workers.deployments import Deployment
from tests.workers.ledger import Ledger
from tests.workers.worker import CommandSender, CommandWorker, ended

POOLS = [
    Deployment("prefork", "rabbitmq"),
    Deployment("threads", "redis"),
    Deployment("gevent", "redis"),
]

pytestmark = [
    pytest.mark.parametrize("deployment", POOLS, ids=str, indirect=True, scope="module"),
    pytest.mark.usefixtures("worker"),
]


def needs(worker: CommandWorker, *pools: str) -> None:
    if worker.deployment.pool not in pools:
        pytest.skip(f"of {' and '.join(pools)}")


def start(ledger: Ledger, sender: CommandSender, key: str) -> None:
    """Start a command of three steps, which waits after the first one."""
    sender.start("count", key, 3, stops="step-0")
    ledger.wait_for("step-0", key)


def revoke(worker: CommandWorker, sender: CommandSender, key: str, signal: str | None = None) -> None:
    """Revoke a command, and wait until the worker has heard of it; with a signal, terminate it."""
    sender.app.control.revoke(key, terminate=signal is not None, signal=signal)
    heard = "flagged as revoked:" if signal is None else "Terminating"
    eventually(lambda: f"{heard} {key}" in worker.printed, "the worker hears of it")


def test_before_it_starts_it_is_never_run(
    worker: CommandWorker, ledger: Ledger, sender: CommandSender, key: str
) -> None:
    others = [f"{key}-{number}" for number in range(worker.deployment.concurrency)]
    for other in others:
        sender.start("add", other, stops="wrote")
        ledger.wait_for("wrote", other)
    result = sender.start("add", key)
    revoke(worker, sender, key)
    for other in others:
        ledger.open_gate(other)
    state, error = ended(result)
    assert (state, str(error)) == ("REVOKED", "revoked")
    assert ledger.names(key) == []
    assert [ended(sender.app.AsyncResult(other)) for other in others] == [("SUCCESS", other) for other in others]


def test_threads_and_greenlets_end_it_when_it_tells_its_progress(
    worker: CommandWorker, ledger: Ledger, sender: CommandSender, key: str
) -> None:
    needs(worker, "threads", "gevent")
    start(ledger, sender, key)
    revoke(worker, sender, key)
    ledger.open_gate(key)
    state, error = ended(sender.app.AsyncResult(key))
    assert (state, str(error)) == ("REVOKED", "revoked")
    assert ledger.names(key) == ["begun", "wrote", "step-0", "rolled-back"]
    assert ledger.effects(key) == 0


def test_threads_and_greenlets_end_what_is_to_be_terminated(
    worker: CommandWorker, ledger: Ledger, sender: CommandSender, key: str
) -> None:
    """A greenlet at once; a thread, which nobody can kill, as if it were to be revoked."""
    needs(worker, "threads", "gevent")
    start(ledger, sender, key)
    revoke(worker, sender, key, "SIGTERM")
    ledger.open_gate(key)
    assert ended(sender.app.AsyncResult(key))[0] == "REVOKED"
    ledger.wait_for("rolled-back", key)
    assert ledger.names(key) == ["begun", "wrote", "step-0", "rolled-back"]
    assert ledger.effects(key) == 0


def test_a_process_is_not_told_that_its_command_was_revoked(
    worker: CommandWorker, ledger: Ledger, sender: CommandSender, key: str
) -> None:
    """Only that it has to end; see the next test."""
    needs(worker, "prefork")
    start(ledger, sender, key)
    revoke(worker, sender, key)
    ledger.open_gate(key)
    assert ended(sender.app.AsyncResult(key)) == ("SUCCESS", 3)
    assert ledger.effects(key) == 1


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGKILL"])
def test_a_process_that_is_terminated_rolls_back(
    worker: CommandWorker, ledger: Ledger, sender: CommandSender, key: str, signal: str
) -> None:
    """By SIGTERM with all hooks; if it is killed, the database does it. Another process does not do it again."""
    needs(worker, "prefork")
    key = f"{key}-{signal}"
    start(ledger, sender, key)
    revoke(worker, sender, key, signal)
    state, error = ended(sender.app.AsyncResult(key))
    assert (state, str(error)) == ("REVOKED", "terminated")
    if signal == "SIGTERM":
        ledger.wait_for("rolled-back", key)
    (backend,) = [int(event.number) for event in ledger.events(key) if event.name == "wrote"]
    eventually(lambda: not ledger.is_connected(backend), "its connection is gone")
    assert sender.finish("add", f"{key}-later") == ("SUCCESS", f"{key}-later")
    assert ledger.names(key).count("begun") == 1
    assert ledger.effects(key) == 0


def test_a_process_that_is_sent_sigusr1_rolls_back_and_lives_on(
    worker: CommandWorker, ledger: Ledger, sender: CommandSender, key: str
) -> None:
    """It is the signal of soft time limits. The worker says REVOKED and the process FAILURE: the later one stays."""
    needs(worker, "prefork")
    start(ledger, sender, key)
    revoke(worker, sender, key, "SIGUSR1")
    ledger.wait_for("rolled-back", key)
    assert ended(sender.app.AsyncResult(key))[0] in ("REVOKED", "FAILURE")
    assert sender.finish("add", f"{key}-later") == ("SUCCESS", f"{key}-later")
    assert ledger.names(key) == ["begun", "wrote", "step-0", "rolled-back"]
    assert ledger.effects(key) == 0


def test_a_commit_under_way_is_not_undone(
    worker: CommandWorker, ledger: Ledger, sender: CommandSender, key: str
) -> None:
    """Celery says REVOKED as soon as it has sent the signal; what has become of the data, only the database knows."""
    needs(worker, "prefork", "gevent")
    with ledger.commit_held(key):
        result = sender.start("add", key, at_commit="waits")
        ledger.wait_for_commit()
        revoke(worker, sender, key, "SIGTERM")
        assert ended(result)[0] == "REVOKED"
        eventually(lambda: "context ended unknown" in worker.printed, "the context says that it does not know")
    eventually(lambda: ledger.transactions() == 0, "the database knows")
    assert ledger.names(key) == ["begun", "wrote"]


def test_57_a_greenlet_over_its_hard_limit_rolls_back(
    worker: CommandWorker, ledger: Ledger, sender: CommandSender, key: str
) -> None:
    needs(worker, "gevent")
    state, error = ended(sender.command("add", key, stops="wrote").send(id=key, time_limit=1))
    assert (state, type(error).__name__) == ("FAILURE", "TimeLimitExceeded")
    ledger.wait_for("rolled-back", key)
    assert ledger.effects(key) == 0
