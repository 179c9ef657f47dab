"""One run of a suite, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.transparency import environment
from tests.transparency.suites import BARE, Suite

LIMIT = 3600
"""Seconds for one run."""


class RunFailed(Exception):
    """A run came to no end that could be compared."""


@dataclass(frozen=True)
class Run:
    """What came of it.

    Attributes:
        outcomes: how each test ended.
        messages: the first failure of those that failed.
        contexts: how many contexts were opened, and how they ended.
    """

    outcomes: Mapping[str, str]
    messages: Mapping[str, str]
    contexts: Mapping[str, int]

    @property
    def passed(self) -> int:
        """How many tests passed."""
        return sum(outcome == "passed" for outcome in self.outcomes.values())


def run(suite: Suite, position: str) -> Run:
    """Run a suite with the adapter in a position, or without it.

    Raises:
        RunFailed: if it broke off, or ran no test.
    """
    sources = environment.sources_of(suite.name)
    logs = environment.FOLDER / "logs"
    logs.mkdir(exist_ok=True)
    log = logs / f"{suite.name}-{position}.txt"
    result = logs / f"{suite.name}-{position}.json"
    result.unlink(missing_ok=True)
    folder = sources / "tests" if suite.is_django else sources
    with log.open("w") as output:
        try:
            subprocess.run(
                _command(suite, position, sources),
                cwd=folder,
                env=_variables(position, result),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=LIMIT,
            )
        except subprocess.TimeoutExpired as error:
            raise RunFailed(f"{suite.name}, {position}: no end after {LIMIT} s; see {log}") from error
    if not result.exists():
        raise RunFailed(f"{suite.name}, {position}: broke off; see {log}")
    found = Run(**json.loads(result.read_text()))
    if not found.passed:
        raise RunFailed(f"{suite.name}, {position}: no test passed; see {log}")
    return found


def _command(suite: Suite, position: str, sources: Path) -> list[str]:
    python = str(environment.PYTHON)
    if suite.is_django:
        # In one process: the contexts are counted in it.
        options = ["--settings=transparency_django_settings", "--parallel=1"]
        return [python, "runtests.py", *options, *suite.tests]
    command = [python, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "--timeout=60"]
    command += [f"--rootdir={sources}", f"--confcutdir={sources}", "-p", "transparency_recorder"]
    if "django" not in suite.options:
        command += ["-p", "no:django"]
    if position != BARE:
        command += ["-p", suite.plugin]
    return [*command, *suite.options, *suite.tests]


def _variables(position: str, result: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "DJANGO_"))}
    ours = (environment.ROOT / "src", environment.ROOT / "integrations", environment.HERE / "inside")
    return {
        **inherited,
        "PYTHONPATH": os.pathsep.join(map(str, ours)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TRANSPARENCY_POSITION": position,
        "TRANSPARENCY_RESULT": str(result),
    }
