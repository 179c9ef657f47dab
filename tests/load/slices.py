"""What a load generator has seen, in one slice of time."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Slice:
    """Requests that were answered, one after the other on each of some connections.

    Attributes:
        answers: how many.
        seconds: in what time.
        failures: answers whose status is no 2xx, and requests without an answer.
        latencies: microseconds from a request to the end of its answer, and how often.
    """

    answers: int
    seconds: float
    failures: int = 0
    latencies: Counter[int] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Answers in a second."""
        return self.answers / self.seconds

    def __add__(self, other: Slice) -> Slice:
        return Slice(
            self.answers + other.answers,
            self.seconds + other.seconds,
            self.failures + other.failures,
            self.latencies + other.latencies,
        )

    def percentile(self, percent: float) -> float:
        """The latency, in milliseconds, that so many in a hundred did not exceed."""
        latencies = sorted(self.latencies.elements())
        return latencies[math.ceil(len(latencies) * percent / 100) - 1] / 1000
