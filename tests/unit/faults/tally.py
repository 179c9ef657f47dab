"""How many fault cases were tried: counted in a test, added up over all processes that run tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NAME = "fault cases"


@dataclass
class Tally:
    """How many lives of a context were led, and how many of them broke a rule."""

    cases: int = 0
    violations: int = 0


class Tallies:
    """A pytest plugin: adds up what the tests have counted, and prints it."""

    def __init__(self) -> None:
        self.total = Tally()

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "teardown":
            cases, violations = dict(report.user_properties).get(NAME, (0, 0))
            self.total.cases += cases
            self.total.violations += violations

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.total.cases:
            terminalreporter.write_line(f"{self.total.cases:,} {NAME}, {self.total.violations:,} violations")
