"""Run a soak test: ``python -m tests.soak --requests 10000``. Exits with 1 if a promise was broken.

Of a hundred requests, 60 should succeed, 10 raise, 10 are answered with a 4xx, 10 are reset by their client, and 10 are
cancelled at random moments. Afterwards, for each server:

* no connection has leaked or is in a transaction, by PostgreSQL's and Redis' own count; after the exit none is left;
* every answer carried the canaries of its own user, from PostgreSQL and from Redis, and nobody else's;
* the sum of all money has not changed, and every balance agrees with the rows of transfers;
* every 2xx has its row, and no other answer has one; for a cancelled request, the outcome of its context counts;
* Redis has counted as many commits, each after its context has committed, as there are rows.

With ``--terminate 0.05`` PostgreSQL connections are terminated in between. Then any request may fail with a 500, and
may have its row if COMMIT was being sent; everything else holds.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.services import USUAL
from tests.soak.books import Books
from tests.soak.clients import AT_ONCE, Clients
from tests.soak.judging import SHOWN, judged
from tests.soak.layer import POOL
from tests.soak.servers import GUNICORN, UVICORN, Deployment, Server


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000, help="how many, of both servers together")
    parser.add_argument("--seed", type=int, default=None, help="of the mixture; the moments are the machine's")
    parser.add_argument("--terminate", type=float, metavar="SECONDS", help="end a connection of PostgreSQL so often")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    postgres = os.environ.get("POLYDATUM_TEST_POSTGRES") or USUAL["postgres"]
    redis = os.environ.get("POLYDATUM_TEST_REDIS") or USUAL["redis"]
    violations: list[str] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for deployment in (UVICORN, GUNICORN):
            run = f"soak_{deployment.name}_{os.getpid()}"
            books = Books(postgres, redis, run)
            try:
                books.open()
                environment = {"SOAK_POSTGRES": postgres, "SOAK_REDIS": redis, "SOAK_RUN": run}
                chance = random.Random(f"{seed} {deployment.name}")
                found = soak(
                    deployment, environment, Path(folder), books, options.requests // 2, chance, options.terminate
                )
            finally:
                books.close()
            violations += [f"{deployment.name}: {violation}" for violation in found]
    for violation in violations:
        print(violation)
    verdict = f"{len(violations)} VIOLATIONS" if violations else "no violation"
    print(f"soak: {options.requests} requests in {time.monotonic() - started:.0f} s, seed {seed}: {verdict}")
    return 1 if violations else 0


def soak(
    deployment: Deployment,
    environment: dict[str, str],
    folder: Path,
    books: Books,
    requests: int,
    chance: random.Random,
    terminate: float | None,
) -> list[str]:
    """Soak one server; returns the violations."""
    started = time.monotonic()
    with Server(deployment, environment, folder) as server:
        clients = Clients(server.port, books.canaries, deployment.cancels, chance)
        begun = time.monotonic()
        with disturbance(books, terminate) as ended:
            asyncio.run(clients.send(range(requests)))
        seconds = time.monotonic() - begun
        held = books.connections_at_rest((POOL, 0, AT_ONCE + POOL))
    left = books.connections_at_rest((0, 0, 0))
    kept = books.transfers()
    violations = judged(clients.seen, kept, disturbed=terminate is not None)
    if held[0] > POOL or held[1] or held[2] > AT_ONCE + POOL:
        violations.append(f"connections at rest: {held[0]}, {held[1]} of them in a transaction, and {held[2]} of Redis")
    if any(left):
        violations.append(f"connections when the server had ended: {left[0]}, and {left[2]} of Redis")
    if books.sum_error() or books.wrong_accounts():
        violations.append(
            f"money: the sum is wrong by {books.sum_error()}, {books.wrong_accounts()} balances are wrong"
        )
    if books.counted() > len(kept) or (books.counted() < len(kept) and terminate is None):
        violations.append(f"{books.counted()} contexts counted up in Redis, {len(kept)} have a row")
    violations += [f"the server: {line}" for line in server.complaints()[:SHOWN]]
    summary: dict[str, Any] = collections.Counter(
        f"{kind} {status}"
        for kind, status in zip(clients.seen.kinds.values(), clients.seen.statuses.values(), strict=True)
    )
    outcomes = collections.Counter(clients.seen.outcomes.values())
    print(
        f"{deployment.name}: {requests} requests in {seconds:.1f} s ({requests / seconds:.0f}/s, "
        f"{time.monotonic() - started:.1f} s with its start and end), {len(kept)} rows; "
        + ", ".join(f"{what}: {number}" for what, number in sorted(summary.items()))
        + (f"; {len(ended)} connections ended" if terminate else "")
        + (f"; cancelled contexts: {dict(outcomes)}" if outcomes else "")
        + f"; connections at rest: {held[0]} PostgreSQL, {held[1]} in a transaction, {held[2]} Redis; at the end {left}"
    )
    return violations


@contextlib.contextmanager
def disturbance(books: Books, seconds: float | None) -> Iterator[list[int]]:
    """Terminate the connection of a random request again and again; yields the terminated process ids."""
    ended: list[int] = []
    over = threading.Event()

    def disturb() -> None:
        while not over.wait(seconds):
            ended.extend(books.terminate_one())

    thread = threading.Thread(target=disturb)
    if seconds is not None:
        thread.start()
    try:
        yield ended
    finally:
        over.set()
        if seconds is not None:
            thread.join()


if __name__ == "__main__":
    sys.exit(main())
