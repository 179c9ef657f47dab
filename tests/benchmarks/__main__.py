"""``python -m tests.benchmarks``: measure, print the tables, judge. The package's docstring explains the method."""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import report
from tests.benchmarks.budgets import AREAS, ROWS, SLACK, Row, named
from tests.benchmarks.results import Results, put_together

PROCESSES, QUICK_PROCESSES = 5, 1
ROUNDS, QUICK_ROUNDS = 40, 15
REPEATS, QUICK_REPEATS = 3, 1
CONTEXTS, QUICK_CONTEXTS, ALL_CONTEXTS = 200_000, 20_000, 1_000_000


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one process and few rounds: rough figures")
    parser.add_argument("--full", action="store_true", help=f"growth over {ALL_CONTEXTS:,} contexts")
    parser.add_argument("--ours-only", action="store_true", help="only the limit and ours; needs no peers")
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="only this row, or all whose names begin with NAME_; may be repeated",
    )
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    parser.add_argument(
        "--check", action="store_true", help=f"fail if a row is over its budget by more than {SLACK - 1:.0%}%"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results as JSON")
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="write the results as Markdown tables")
    parser.add_argument("--from", dest="stored", type=Path, metavar="PATH", help="read results instead of measuring")
    chosen = parser.parse_args()
    for name in chosen.only or ():
        if not named(name):
            parser.error(f"--only: no row is named {name!r}; see --list")
    return chosen


def _start(row: Row, options: Sequence[str]) -> dict[str, Any]:
    """The results of one measuring process for a row."""
    command = [sys.executable, "-m", "tests.benchmarks.process", row.name, *options]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        last = (finished.stderr.strip().splitlines() or ["no output"])[-1]
        return {"samples": {}, "problems": {"all": f"the process failed: {last}"}, "missing": {}}
    return json.loads(finished.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def _measure(rows: Sequence[Row], *, quick: bool, full: bool, ours_only: bool) -> Results:
    processes = QUICK_PROCESSES if quick else PROCESSES
    contexts = ALL_CONTEXTS if full else QUICK_CONTEXTS if quick else CONTEXTS
    options = ["--rounds", str(QUICK_ROUNDS if quick else ROUNDS), "--contexts", str(contexts)]
    options += ["--repeats", str(QUICK_REPEATS if quick else REPEATS)]
    if ours_only:
        options.append("--ours-only")
    found: dict[str, list[dict[str, Any]]] = {row.name: [] for row in rows}
    for number in range(processes):
        print(f"pass {number + 1} of {processes}", file=sys.stderr, flush=True)
        for row in rows:
            if number == 0 or row.repeated:
                found[row.name] += [_start(row, options) for _ in range(row.times)]
    return put_together(found, processes=processes, contexts=contexts)


def main() -> int:
    chosen = _arguments()
    if chosen.list:
        for area in AREAS:
            print(area)
            print("\n".join(f"  {row.name:24}{row.title}" for row in ROWS if row.area == area))
        return 0
    if chosen.stored:
        results = Results.from_json(json.loads(chosen.stored.read_text()))
    else:
        rows = [row for name in chosen.only for row in named(name)] if chosen.only else ROWS
        results = _measure(rows, quick=chosen.quick, full=chosen.full, ours_only=chosen.ours_only)
    print(report.text(results))
    if chosen.json:
        chosen.json.write_text(json.dumps(results.to_json(), indent=2) + "\n")
    if chosen.markdown:
        chosen.markdown.write_text(report.markdown(results))
    return 1 if chosen.check and results.failing() else 0


if __name__ == "__main__":
    sys.exit(main())
