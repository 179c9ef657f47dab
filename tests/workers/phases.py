"""Commands that are stopped in each phase, to be killed there; and what has become of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tests.workers.layer import WAITS
from tests.workers.ledger import Ledger
from tests.workers.worker import CommandSender, ended

COMMITTING, COMMITTED = "committing", "committed"
PHASES = ("begun", "wrote", COMMITTING, COMMITTED, "answered")


@contextmanager
def stopped_in_each_phase(ledger: Ledger, sender: CommandSender, key: str) -> Iterator[dict[str, str]]:
    """Their keys by their phases; at the end of the block they go on."""
    keys = {phase: f"{key}-{phase}" for phase in PHASES}
    with ledger.commit_held(keys[COMMITTING]):
        for phase, of in keys.items():
            if phase == COMMITTING:
                sender.start("add", of, at_commit=WAITS)
                ledger.wait_for_commit()
            else:
                sender.start("add", of, stops=phase)
                ledger.wait_for(phase, of)
        yield keys
        for of in keys.values():
            ledger.open_gate(of)


class End(NamedTuple):
    """What has become of a command: its state and result, how often it was done, and how each attempt was delivered."""

    state: str
    result: Any
    effects: int
    deliveries: list[str]


def end_of(ledger: Ledger, sender: CommandSender, key: str) -> End:
    state, result = ended(sender.app.AsyncResult(key))
    deliveries = [event.number for event in ledger.events(key) if event.name == "begun"]
    return End(state, result, ledger.effects(key), deliveries)
