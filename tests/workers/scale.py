"""How the throughput grows with the workers: ``python -m tests.workers.scale``. A benchmark; it judges nothing.

The command waits 0.1 s for PostgreSQL and writes a row, so that what counts is not the number of processors. Workers of one
process each are added to those that run, over RabbitMQ; each measurement sends as many commands for each worker.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.workers.deployments import Deployment
from tests.workers.ledger import Ledger
from tests.workers.worker import CommandSender, CommandWorker, new_place

SIZES = (1, 2, 4)
NAP = 0.1
PROCESS = Deployment("prefork", "rabbitmq", concurrency=1)
PATIENCE = 300.0


def throughput(sender: CommandSender, prefix: str, commands: int) -> float:
    """Commands per second, from the first one's sending to the last one's end."""
    begun = time.monotonic()
    keys = [f"{prefix}-{number}" for number in range(commands)]
    for key in keys:
        sender.start("nap", key, NAP)
    sender.wait_for(keys, within=PATIENCE)
    return commands / (time.monotonic() - begun)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.workers.scale", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--commands", type=int, default=50, help="how many for each worker")
    options = parser.parse_args()
    place = new_place(PROCESS)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ledger = Ledger(Path(folder), place.name)
        stack.callback(ledger.drop)
        stack.callback(place.delete)
        sender = CommandSender(place, ledger)
        stack.callback(sender.close)
        workers: list[CommandWorker] = []
        print(f"{'workers':>7}{'commands/s':>12}{'ratio':>7}")
        first = 0.0
        for size in SIZES:
            for _ in range(size - len(workers)):
                workers.append(CommandWorker(PROCESS, place, ledger))
                stack.callback(workers[-1].stop)
            for worker in workers:
                worker.wait_until_ready()
            throughput(sender, f"warm-up-{size}", size)
            found = throughput(sender, f"command-{size}", options.commands * size)
            first = first or found
            print(f"{size:7}{found:12.1f}{found / first:7.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
