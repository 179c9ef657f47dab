"""``python -m tests.truth``: check every stack, and print the results."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.truth import report
from tests.truth.serving import StackFailed, observe
from tests.truth.stacks import STACKS, Stack


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.truth", description=__doc__)
    known = [stack.module for stack in STACKS]
    parser.add_argument("stacks", nargs="*", metavar="STACK", help=f"of {', '.join(known)}; all without any")
    parser.add_argument("--pages", action="store_true", help="list the pages by which they were set up, and ask nobody")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.stacks if name not in known]
    if unknown:
        parser.error(f"no such stack: {', '.join(unknown)}")
    return chosen


def main() -> int:
    """Returns 1 if a stack cannot be checked, or if one of Polydatum's fails a check."""
    chosen = _arguments()
    stacks = [stack for stack in STACKS if not chosen.stacks or stack.module in chosen.stacks]
    if chosen.pages:
        print("\n".join(f"{stack.name}: {stack.page}" for stack in stacks))
        return 0
    observed: dict[Stack, report.Seen] = {}
    problems: list[str] = []
    for stack in stacks:
        if stack.missing is not None:
            problems.append(f"{stack.name}: {stack.missing} is not installed")
            continue
        print(stack.name, file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                observed[stack] = observe(stack, Path(folder))
            except StackFailed as failure:
                problems.append(str(failure))
    print(report.markdown(observed))
    print(f"\n{report.surroundings()}")
    problems += [
        f"{stack.name} is not right in all"
        for stack, seen in observed.items()
        if stack.is_ours and not report.is_right(stack, seen)
    ]
    for problem in problems:
        print(f"PROBLEM {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
