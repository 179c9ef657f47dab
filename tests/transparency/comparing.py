"""A bare run and one with the adapter, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.transparency.running import Run

NOT_RUN = "not run"


@dataclass(frozen=True)
class Difference:
    """A test that ends otherwise with the adapter; ``reason`` is None if nobody has explained it yet."""

    test: str
    bare: str
    ours: str
    message: str
    reason: str | None


@dataclass(frozen=True)
class Comparison:
    """What the adapter changes in a suite."""

    suite: str
    version: str
    position: str
    bare: Run
    ours: Run
    known: Mapping[str, str]

    @property
    def differences(self) -> list[Difference]:
        """The tests that end otherwise, in the order of their names."""
        bare, ours = self.bare.outcomes, self.ours.outcomes
        return [
            Difference(
                test,
                bare.get(test, NOT_RUN),
                ours.get(test, NOT_RUN),
                self.ours.messages.get(test) or self.bare.messages.get(test, ""),
                self.known.get(test),
            )
            for test in sorted(bare.keys() | ours.keys())
            if bare.get(test) != ours.get(test)
        ]

    def problems(self) -> Iterator[str]:
        """Why the command has to fail."""
        where = f"{self.suite}, {self.position}"
        differing = {difference.test for difference in self.differences}
        for difference in self.differences:
            if difference.reason is None:
                yield f"{where}: {difference.test}: {difference.bare}, with us {difference.ours}: {difference.message}"
        for test in self.known.keys() - differing:
            yield f"{where}: {test}: is known to differ, and does not: take it out of differences.py"
        if not self.ours.contexts.get("opened"):
            yield f"{where}: no context was opened, so the adapter was not there"
        if self.ours.contexts.get("resources"):
            yield f"{where}: a resource was opened that nobody has touched"
        if self.bare.contexts:
            yield f"{where}: the bare run knows the adapter"

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` stores."""
        return {
            "suite": self.suite,
            "version": self.version,
            "position": self.position,
            "tests": len(self.bare.outcomes),
            "passed_bare": self.bare.passed,
            "passed_with_us": self.ours.passed,
            "contexts": dict(self.ours.contexts),
            "differences": [vars(difference) for difference in self.differences],
            "problems": list(self.problems()),
        }
