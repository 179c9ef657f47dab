"""``python -m tests.transparency``: run the frameworks' own tests without the adapter and with it, and compare."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.transparency import environment, report
from tests.transparency.comparing import Comparison
from tests.transparency.differences import KNOWN
from tests.transparency.running import Run, RunFailed, run
from tests.transparency.suites import BARE, BY_NAME, Suite


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.transparency", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(BY_NAME)}; all without any")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results as JSON")
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="write the table as Markdown")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.suites if name not in BY_NAME]
    if unknown:
        parser.error(f"no such suite: {', '.join(unknown)}")
    return chosen


def _compare(suite: Suite, position: str, bare: Run) -> Comparison:
    print(f"{suite.name}: {position}", file=sys.stderr, flush=True)
    known = KNOWN.get(suite.name, {})
    return Comparison(suite.name, environment.version_of(suite.name), position, bare, run(suite, position), known)


def main() -> int:
    """Returns 1 if a test differs for which no reason is known, or a run cannot be compared."""
    chosen = _arguments()
    comparisons: list[Comparison] = []
    broken: list[str] = []
    environment.make_environment()
    for suite in [BY_NAME[name] for name in chosen.suites or BY_NAME]:
        print(f"{suite.name}: {BARE}", file=sys.stderr, flush=True)
        try:
            bare = run(suite, BARE)
            comparisons += [_compare(suite, position, bare) for position in suite.positions]
        except RunFailed as failure:
            broken.append(str(failure))
    print(report.text(comparisons))
    for problem in broken:
        print(f"PROBLEM {problem}")
    if chosen.json:
        chosen.json.write_text(json.dumps([comparison.to_json() for comparison in comparisons], indent=2) + "\n")
    if chosen.markdown:
        chosen.markdown.write_text(report.markdown(comparisons))
    return 1 if broken or any(any(comparison.problems()) for comparison in comparisons) else 0


if __name__ == "__main__":
    sys.exit(main())
