"""One measuring process: measures one row and prints the results as JSON.

Started by ``__main__``; by hand: ``python -m tests.benchmarks.process one``.
"""

import argparse
import json
from dataclasses import asdict

from tests.benchmarks import async_, http_, memory, sync
from tests.benchmarks.budgets import ASYNC, BY_NAME, HTTP, MEMORY, SYNC
from tests.benchmarks.contenders import CORE, OVER_HTTP, load
from tests.benchmarks.rounds import Settings

MEASURE = {SYNC: sync.measure, ASYNC: async_.measure, HTTP: http_.measure, MEMORY: memory.measure}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.process")
    parser.add_argument("row", choices=list(BY_NAME))
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--contexts", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ours-only", action="store_true")
    chosen = parser.parse_args()
    area = BY_NAME[chosen.row].area
    contenders, missing = load(OVER_HTTP if area == HTTP else CORE, ours_only=chosen.ours_only)
    measure = MEASURE[area]
    measured = measure(chosen.row, contenders, Settings(chosen.rounds, chosen.contexts, chosen.repeats))
    print(json.dumps(asdict(measured) | {"missing": missing}))


if __name__ == "__main__":
    main()
