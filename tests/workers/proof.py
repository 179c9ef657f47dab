"""The proof: ``python -m tests.workers.proof --commands 2000``. Ends with 1 if a promise was broken.

Contexts enqueue commands for sure, and some of them roll back. Two relays send what is in the outbox, through RabbitMQ, to
four workers of one process each. Of a hundred commands, 90 are to succeed; 3 raise before they write and 3 afterwards; of
2 the commit is refused, and of one the first commit meets a conflict and is tried again; the process of one is killed,
before it writes, afterwards, or after the commit. In the end:

* the effect of every command is in PostgreSQL exactly as often as its state says: once or not at all;
* none is lost, and none of a context that rolled back was sent;
* every command was begun once, and once more for each retry, and for each redelivery that the broker has recorded;
* no connection has leaked, and none is in a transaction, by the server's own count; none at all is left when all have ended;
* the outbox and the queue are empty.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from tests.servers.books import eventually
from tests.workers.deployments import Deployment
from tests.workers.layer import REFUSED
from tests.workers.ledger import Ledger
from tests.workers.worker import CommandSender, CommandWorker, Relay, new_place

WORKERS = 4
RELAYS = 2
PROCESS = Deployment("prefork", "rabbitmq", concurrency=1, prefetch=8)
IN_ONE_CONTEXT = 10
PATIENCE = 120.0


class Kind(NamedTuple):
    """A kind of command.

    Attributes:
        share: how many of a thousand; one at least. Celery leaves the place of a killed process idle for up to five seconds.
        method: of the service.
        kwargs: for it.
        state: that it ends in.
        again: how it is begun once more.
    """

    share: int
    method: str
    kwargs: dict[str, Any]
    state: str
    again: str | None = None


KINDS = {
    "clean": Kind(900, "add", {}, "SUCCESS"),
    "raises before it writes": Kind(30, "fail", {"writes": False}, "FAILURE"),
    "raises after it wrote": Kind(30, "fail", {}, "FAILURE"),
    "its commit is refused": Kind(20, "add", {"at_commit": REFUSED}, "FAILURE"),
    "its commit meets a conflict": Kind(10, "conflict", {}, "SUCCESS", "retried"),
    "killed before it writes": Kind(3, "add", {"dies": "begun"}, "SUCCESS", "redelivered"),
    "killed after it wrote": Kind(3, "add", {"dies": "wrote"}, "SUCCESS", "redelivered"),
    "killed after the commit": Kind(4, "add", {"dies": "committed"}, "SUCCESS", "redelivered"),
}
DROPPED = "of a context that rolled back"


class Seen(NamedTuple):
    """What is there of a command in the end.

    Attributes:
        begun: how each of its runs was delivered.
    """

    kind: str
    state: str
    effects: int
    begun: list[str]


def judged(seen: dict[str, Seen]) -> list[str]:
    """The broken promises, by kind of breach and of command."""
    found: Counter[str] = Counter()
    for kind, state, effects, begun in seen.values():
        if kind == DROPPED:
            if effects or begun or state != "PENDING":
                found[f"{kind}: was sent"] += 1
            continue
        expected = KINDS[kind]
        if not begun:
            found[f"{kind}: lost"] += 1
        elif begun.count("-") != 1:
            found[f"{kind}: begun again without a recorded reason"] += 1
        if expected.again is not None and expected.again not in begun:
            found[f"{kind}: not {expected.again}"] += 1
        if state != expected.state:
            found[f"{kind}: {state}, not {expected.state}"] += 1
        if effects != (state == "SUCCESS"):
            found[f"{kind}: {state}, but done {effects} times"] += 1
    return [f"{count} x {what}" for what, count in found.items()]


class Proof:
    """One run.

    Args:
        commands: how many are to be done.
        chance: where all chance comes from.
        folder: an empty folder.
    """

    def __init__(self, commands: int, chance: random.Random, folder: Path) -> None:
        self._place = new_place(PROCESS)
        self._ledger = Ledger(folder, self._place.name)
        self.kinds: dict[str, str] = {}
        kinds = [kind for kind, found in KINDS.items() for _ in range(max(1, found.share * commands // 1000))]
        chance.shuffle(kinds)
        for number, kind in enumerate(kinds):
            self.kinds[f"command-{number}"] = kind
        self.violations: list[str] = []
        self.seconds = 0.0

    def run(self) -> None:
        """From the start of all processes to their end."""
        with ExitStack() as stack:
            stack.callback(self._ledger.drop)
            sender = CommandSender(self._place, self._ledger)
            stack.callback(sender.close)
            workers = [CommandWorker(PROCESS, self._place, self._ledger) for _ in range(WORKERS)]
            relays = [Relay(self._place, self._ledger) for _ in range(RELAYS)]
            for process in (*workers, *relays):
                stack.callback(process.kill)
            for worker in workers:
                worker.wait_until_ready()
            begun = time.monotonic()
            self._enqueue(sender)
            try:
                sender.wait_for((key for key, kind in self.kinds.items() if kind != DROPPED), within=PATIENCE)
            except AssertionError as error:
                self.violations.append(str(error))
            self.seconds = time.monotonic() - begun
            self._look_at_connections(WORKERS, RELAYS)
            for process in (*relays, *workers):
                process.stop()
            self._look_at_connections(0, 0)
            if sender.manager.dispatch.outbox.entries(sender.manager):
                self.violations.append("something is left in the outbox")
            self.violations += judged(self._seen(sender))
            if left := self._place.delete():
                self.violations.append(f"{left} messages are left in the queue")

    def _enqueue(self, sender: CommandSender) -> None:
        keys = list(self.kinds)
        for number, start in enumerate(range(0, len(keys), IN_ONE_CONTEXT)):
            with sender.manager.context() as context:
                for key in keys[start : start + IN_ONE_CONTEXT]:
                    kind = KINDS[self.kinds[key]]
                    context.enqueue(sender.command(kind.method, key, **kind.kwargs), id=key, reliable=True)
            with sender.manager.context() as context:
                key = f"dropped-{number}"
                self.kinds[key] = DROPPED
                context.enqueue(sender.command("add", key), id=key, reliable=True)
                context.set_rollback_only()

    def _look_at_connections(self, workers: int, relays: int) -> None:
        for role, most in (("worker", workers), ("relay", relays)):
            try:
                eventually(
                    lambda role=role, most=most: (  # type: ignore[misc]
                        self._ledger.transactions(role) == 0 and len(self._ledger.connections(role)) <= most
                    ),
                    "at rest",
                )
            except AssertionError:
                self.violations.append(f"more connections than {most} {role}s: {self._ledger.connections(role)}")

    def _seen(self, sender: CommandSender) -> dict[str, Seen]:
        effects = self._ledger.all_effects()
        begun: dict[str, list[str]] = {key: [] for key in self.kinds}
        for event in self._ledger.events():
            if event.name == "begun":
                begun[event.key].append(event.number)
        return {
            key: Seen(kind, sender.app.AsyncResult(key).state, effects[key], begun[key])
            for key, kind in self.kinds.items()
        }


def prove(commands: int, seed: int, folder: Path) -> Proof:
    """Run it, and say what was wrong in its ``violations``."""
    proof = Proof(commands, random.Random(seed), folder)
    proof.run()
    return proof


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.workers.proof", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--commands", type=int, default=2000, help="how many")
    parser.add_argument("--seed", type=int, default=None, help="of the mixture; the moments are the machine's")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        proof = prove(options.commands, seed, Path(folder))
    for kind, number in Counter(proof.kinds.values()).items():
        print(f"{number:6} {kind}")
    for violation in proof.violations:
        print(violation)
    verdict = f"{len(proof.violations)} VIOLATIONS" if proof.violations else "no violation"
    print(
        f"proof: {options.commands} commands in {proof.seconds:.0f} s, {time.monotonic() - started:.0f} s with the start "
        f"and end of all processes, seed {seed}: {verdict}"
    )
    return 1 if proof.violations else 0


if __name__ == "__main__":
    sys.exit(main())
