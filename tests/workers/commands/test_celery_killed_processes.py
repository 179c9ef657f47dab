"""A process of a worker is killed while it runs a command: what becomes of the command, its data and its connection."""

from __future__ import annotations

import os
import signal

import pytest

from tests.servers.books import eventually
from tests.workers.deployments import Deployment
from tests.workers.ledger import Ledger
from tests.workers.phases import COMMITTED, COMMITTING, End, end_of, stopped_in_each_phase
from tests.workers.worker import CommandSender, ended

POOLS = [Deployment("prefork", "rabbitmq", 5), Deployment("prefork", "redis", 5)]

pytestmark = [
    pytest.mark.parametrize("deployment", POOLS, ids=str, indirect=True, scope="module"),
    pytest.mark.usefixtures("worker"),
]


def test_in_whatever_phase_it_is_killed_the_effect_is_there_once(
    ledger: Ledger, sender: CommandSender, key: str
) -> None:
    """What it returned is not known if it was killed after the commit and before the result was stored."""
    with stopped_in_each_phase(ledger, sender, key) as keys:
        for of in keys.values():
            os.kill(ledger.events(of)[0].pid, signal.SIGKILL)
    for phase, of in keys.items():
        result = None if phase in (COMMITTING, COMMITTED) else of
        deliveries = ["-"] if phase == "answered" else ["-", "redelivered"]
        assert (phase, end_of(ledger, sender, of)) == (phase, End("SUCCESS", result, 1, deliveries))


def test_57_a_hard_limit_rolls_back_and_closes_the_connection(ledger: Ledger, sender: CommandSender, key: str) -> None:
    """It is a failure, and not done again. The process is told to end, and killed a tenth of a second later."""
    result = sender.command("add", key, stops="wrote").send(id=key, time_limit=1)
    state, error = ended(result)
    assert (state, type(error).__name__) == ("FAILURE", "TimeLimitExceeded")
    (backend,) = [int(event.number) for event in ledger.events(key) if event.name == "wrote"]
    eventually(lambda: not ledger.is_connected(backend), "its connection is gone")
    assert sender.finish("add", f"{key}-later") == ("SUCCESS", f"{key}-later")
    assert ledger.names(key) in (["begun", "wrote", "rolled-back"], ["begun", "wrote"])
    assert ledger.effects(key) == 0


def test_57_a_soft_limit_rolls_back(ledger: Ledger, sender: CommandSender, key: str) -> None:
    """With all hooks, and the process lives on."""
    state, error = ended(sender.command("add", key, stops="wrote").send(id=key, soft_time_limit=1))
    assert (state, type(error).__name__) == ("FAILURE", "SoftTimeLimitExceeded")
    assert ledger.names(key) == ["begun", "wrote", "rolled-back"]
    assert ledger.effects(key) == 0
