"""The combined results of all processes: figures, ratios, verdicts. They are stored as JSON."""

import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, median, quantiles
from typing import Any

from tests.benchmarks.budgets import BY_NAME, SLACK, Row
from tests.benchmarks.contenders import LIMIT, OURS


@dataclass(frozen=True)
class Figure:
    minimum: float
    median: float


@dataclass
class RowResult:
    """One row's figures by contender, in the row's unit, and why any are missing."""

    name: str
    figures: dict[str, Figure] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    base: Figure | None = None
    """The figure that was subtracted from the others, if the row measures what they add to it."""

    @property
    def row(self) -> Row:
        return BY_NAME[self.name]

    @property
    def ours(self) -> Figure | None:
        return self.figures.get(OURS)

    def over_limit(self, name: str) -> float | None:
        """A contender's factor over the limit."""
        if LIMIT not in self.figures or name not in self.figures or self.figures[LIMIT].minimum <= 0:
            return None
        return self.figures[name].minimum / self.figures[LIMIT].minimum

    @property
    def best_peer(self) -> str | None:
        peers = {name: figure.minimum for name, figure in self.figures.items() if name not in (LIMIT, OURS)}
        return min(peers, key=peers.__getitem__) if peers else None

    @property
    def over_peer(self) -> float | None:
        """Our factor over the best peer; below 1 we are faster."""
        peer = self.best_peer
        if peer is None or self.ours is None or self.figures[peer].minimum <= 0:
            return None
        return self.ours.minimum / self.figures[peer].minimum

    @property
    def judged(self) -> float | None:
        """The figure that the budget applies to; None if ours was left out in any process."""
        if self.row.budget is None or self.ours is None or OURS in self.problems:
            return None
        return self.ours.minimum if self.row.budget.absolute else self.over_limit(OURS)


@dataclass
class Results:
    """A whole run."""

    python: tuple[int, int, int]
    implementation: str
    processes: int
    contexts: int
    rows: list[RowResult]
    missing: dict[str, str]
    """The peers that could not be measured at all, and why."""

    def budget(self, result: RowResult) -> float | None:
        if result.row.budget is None:
            return None
        return result.row.budget.on(self.python[:2])

    def over_budget(self, result: RowResult) -> bool:
        """Whether a row is over its budget by more than the slack, or could not be judged at all."""
        budget = self.budget(result)
        if budget is None:
            return False
        return result.judged is None or result.judged > budget * SLACK

    def failing(self) -> list[RowResult]:
        return [result for result in self.rows if self.over_budget(result)]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Results":
        rows = [
            RowResult(
                row["name"],
                {name: Figure(**figure) for name, figure in row["figures"].items()},
                row["problems"],
                None if row["base"] is None else Figure(**row["base"]),
            )
            for row in stored["rows"]
        ]
        return cls(**{**stored, "python": tuple(stored["python"]), "rows": rows})


def put_together(found: Mapping[str, list[dict[str, Any]]], *, processes: int, contexts: int) -> Results:
    """Combine the output of all processes, by row: each contender's figure is its minimum over all of them."""
    missing: dict[str, str] = {}
    rows = []
    for name, printed in found.items():
        result = RowResult(name)
        for one in printed:
            missing |= one["missing"]
            result.problems |= one["problems"]
        samples = [one["samples"] for one in printed]
        if result.row.over is None:
            result.figures = _figures(samples)
        else:
            result.figures, result.base = _added(samples, result.row.over)
        rows.append(result)
    return Results(
        python=sys.version_info[:3],
        implementation=platform.python_implementation(),
        processes=processes,
        contexts=contexts,
        rows=rows,
        missing=missing,
    )


Samples = Mapping[str, list[float]]
"""The samples of one process, by contender."""


def _figures(processes: Sequence[Samples]) -> dict[str, Figure]:
    joined: dict[str, list[float]] = {}
    for samples in processes:
        for name, taken in samples.items():
            joined.setdefault(name, []).extend(taken)
    return {name: Figure(min(taken), median(taken)) for name, taken in joined.items()}


def _added(processes: Sequence[Samples], over: str) -> tuple[dict[str, Figure], Figure | None]:
    """What the contenders add to the one that the row subtracts, and that one's own figure.

    The difference of two minima depends on two lucky samples, so lower deciles replace the minima. Differences are
    taken within a process, and averaged over the processes.
    """
    processes = [samples for samples in processes if over in samples]
    added: dict[str, list[Figure]] = {}
    for samples in processes:
        base = _low_and_middle(samples[over])
        for name, taken in samples.items():
            figure = _low_and_middle(taken)
            less = Figure(figure.minimum - base.minimum, figure.median - base.median)
            added.setdefault(name, []).append(figure if name == over else less)
    figures = {
        name: Figure(fmean(one.minimum for one in found), fmean(one.median for one in found))
        for name, found in added.items()
    }
    return figures, figures.pop(over, None)


def _low_and_middle(taken: Sequence[float]) -> Figure:
    deciles = quantiles(taken, n=10)
    return Figure(deciles[0], deciles[4])
