"""What the result backend says of a command is what PostgreSQL has: with real workers, brokers and results."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from time import time
from typing import Any

import kombu
import pytest

from polydatum import Signer
from polydatum.adapting import as_text
from polydatum.messages import Message
from tests.servers.books import eventually
from tests.workers.deployments import Place
from tests.workers.layer import KEY, REFUSED
from tests.workers.ledger import Ledger
from tests.workers.worker import CommandSender, CommandWorker, ended

SIGNER = Signer(KEY)


def message(key: str, path: str = "effects.add", *, signer: Signer | None = SIGNER, age: float = 0) -> dict[str, Any]:
    """One as it travels."""
    return Message(key, path, [key], {}, None, time() - age).as_data(signer)


pytestmark = pytest.mark.usefixtures("worker")


def test_success_is_committed(ledger: Ledger, sender: CommandSender, key: str) -> None:
    assert sender.finish("add", key) == ("SUCCESS", key)
    assert ledger.effects(key) == 1
    assert ledger.names(key) == ["begun", "wrote", "committed"]


def test_03_an_exception_is_a_failure_and_rolled_back(ledger: Ledger, sender: CommandSender, key: str) -> None:
    state, error = sender.finish("fail", key)
    assert (state, repr(error)) == ("FAILURE", f"ValueError({key!r})")
    assert ledger.effects(key) == 0
    assert ledger.names(key) == ["begun", "wrote", "rolled-back"]


def test_53_a_failed_commit_is_a_failure_and_nothing_follows(ledger: Ledger, sender: CommandSender, key: str) -> None:
    follows = sender.app.signature("polydatum.run_command", (as_text(message(f"{key}-next")),), immutable=True)
    state, error = ended(sender.command("add", key, at_commit=REFUSED).send(id=key, link=follows))
    assert state == "FAILURE"
    assert "IntegrityError" in repr(error)
    assert sender.finish("add", f"{key}-later")[0] == "SUCCESS"
    assert ledger.effects(key) == 0
    assert ledger.names(f"{key}-next") == []


def test_53_a_failed_commit_is_retried_by_autoretry_for(ledger: Ledger, sender: CommandSender, key: str) -> None:
    assert sender.finish("conflict", key) == ("SUCCESS", 1)
    assert ledger.effects(key) == 1
    assert ledger.names(key) == ["begun", "wrote", "rolled-back", "begun", "wrote", "committed"]


def test_56_it_runs_for_the_user_who_sent_it(sender: CommandSender, key: str) -> None:
    with sender.manager.context({"user": "ann"}):
        result = sender.start("who", key)
    assert ended(result) == ("SUCCESS", ["ANN", "ann", key, "effects.who"])


@pytest.mark.parametrize("reliable", [False, True])
def test_what_is_enqueued_follows_the_commit_or_is_dropped(
    ledger: Ledger, sender: CommandSender, key: str, reliable: bool
) -> None:
    key = f"{key}-{reliable}"
    child, dropped = f"{key}-child", f"{key}-dropped"
    assert sender.finish("parent", key, child, reliable=reliable) == ("SUCCESS", key)
    state, _ = sender.finish("parent", f"{key}-2", dropped, fails=True, reliable=reliable)
    assert state == "FAILURE"
    assert sender.manager.dispatch.outbox.deliver(sender.manager) == reliable
    assert ended(sender.app.AsyncResult(child)) == ("SUCCESS", child)
    assert sender.finish("add", f"{key}-later")[0] == "SUCCESS"
    assert ledger.effects(child) == 1
    assert ledger.names(dropped) == []


def test_a_signed_message_is_run(ledger: Ledger, sender: CommandSender, key: str) -> None:
    assert ended(sender.deliver(message(key), key)) == ("SUCCESS", key)
    assert ledger.effects(key) == 1


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"signature": None}, "it is not signed"),
        ({"signature": "0" * 64}, "its signature is wrong"),
        ({"args": ["somebody else's"]}, "its signature is wrong"),
        ({"user_id": "root"}, "its signature is wrong"),
        ({"version": 2}, "its signature is wrong"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_message_that_nobody_signed_is_refused(
    ledger: Ledger, sender: CommandSender, key: str, changed: dict[str, Any], reason: str
) -> None:
    key = f"{key}-{'-'.join(changed)}-{len(str(changed))}"
    state, error = ended(sender.deliver({**message(key), **changed}, key))
    assert state == "FAILURE"
    assert type(error).__name__ == "CommandRejected"
    assert reason in str(error)
    assert ledger.names(key) == []


def test_an_unsigned_message_is_refused(ledger: Ledger, sender: CommandSender, key: str) -> None:
    state, error = ended(sender.deliver(message(key, signer=None), key))
    assert (state, type(error).__name__) == ("FAILURE", "CommandRejected")
    assert "it is not signed" in str(error)
    assert ledger.names(key) == []


def test_an_old_message_is_refused(ledger: Ledger, sender: CommandSender, key: str) -> None:
    state, error = ended(sender.deliver(message(key, age=25 * 3600), key))
    assert (state, type(error).__name__) == ("FAILURE", "CommandRejected")
    assert "it was not signed in the last 86400 seconds" in str(error)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("effects._write", "InvalidCommandPath"),
        ("effects.__class__", "InvalidCommandPath"),
        ("effects.setup", "UnknownCommand"),
        ("celery.app", "UnknownCommand"),
        ("effects.note", "CommandNotAllowed"),
    ],
)
def test_nothing_but_a_command_is_run(ledger: Ledger, sender: CommandSender, key: str, path: str, error: str) -> None:
    """Even if it is signed."""
    key = f"{key}-{path}"
    state, raised = ended(sender.deliver(message(key, path), key))
    assert state == "FAILURE"
    assert error in repr(raised)
    assert ledger.names(key) == []


class Pickled:
    """When it is unpickled, there is a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._folder),)


def test_a_pickled_message_is_not_unpickled(
    worker: CommandWorker, ledger: Ledger, sender: CommandSender, place: Place, key: str
) -> None:
    """And the worker goes on."""
    folder = ledger.folder / "unpickled"
    body = pickle.dumps(([Pickled(folder)], {}, {}))
    with kombu.Connection(place.broker, transport_options=sender.app.conf.broker_transport_options) as connection:
        connection.Producer().publish(
            body,
            exchange=place.name,
            routing_key=place.name,
            content_type="application/x-python-serialize",
            content_encoding="binary",
            headers={"task": "polydatum.run_command", "id": key, "lang": "py"},
            declare=sender.app.amqp.queues.values(),
        )
    eventually(lambda: "Refusing to deserialize" in worker.printed, "the worker sees it")
    assert sender.finish("add", key) == ("SUCCESS", key)
    assert not folder.exists()


def test_a_duplicate_is_dropped_and_the_result_stays(ledger: Ledger, sender: CommandSender, key: str) -> None:
    sent = message(key)
    assert ended(sender.deliver(sent, key)) == ("SUCCESS", key)
    sender.deliver(sent, key)
    eventually(lambda: ledger.names(key).count("rolled-back") == 1, "the duplicate comes to its end")
    assert ended(sender.app.AsyncResult(key)) == ("SUCCESS", key)
    assert ledger.names(key) == ["begun", "wrote", "committed", "begun", "rolled-back"]
    assert ledger.effects(key) == 1


def test_a_duplicate_waits_for_the_one_that_runs(ledger: Ledger, sender: CommandSender, key: str) -> None:
    first = sender.start("add", key, stops="wrote")
    ledger.wait_for("wrote", key)
    sender.start("add", key, stops="wrote")
    eventually(lambda: ledger.names(key).count("begun") == 2, "the duplicate is there")
    ledger.open_gate(key)
    assert ended(first) == ("SUCCESS", key)
    eventually(lambda: len(ledger.names(key)) == 5, "the duplicate comes to its end")
    assert ledger.effects(key) == 1


def test_its_progress_is_seen_by_those_who_wait(ledger: Ledger, sender: CommandSender, key: str) -> None:
    result = sender.start("count", key, 3, stops="step-0")
    eventually(lambda: result.state == "PROGRESS", "it tells its progress")
    assert result.info == {"done": 0, "total": 3}
    ledger.open_gate(key)
    assert ended(result) == ("SUCCESS", 3)
    assert ledger.effects(key) == 1


def test_no_connection_is_left_in_a_transaction(worker: CommandWorker, ledger: Ledger) -> None:
    eventually(lambda: ledger.transactions() == 0, "all are idle")
    assert len(ledger.connections()) <= worker.deployment.concurrency
