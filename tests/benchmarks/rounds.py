"""Timing: contenders take turns, in short samples, in an order that is rotated every round."""

import asyncio
import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from time import perf_counter_ns

from tests.benchmarks.contenders import AsyncRun, Run

SAMPLE_NS = 1_000_000
"""The target duration of a sample: short enough to fall between two disturbances now and then."""

Sample = Callable[[int], int]
"""Does the work that many times and returns how many nanoseconds it took."""


@dataclass(frozen=True)
class Settings:
    rounds: int
    contexts: int
    """The number of contexts that the growth rows open and close."""
    repeats: int
    """The number of repetitions, in one process, of slow measurements."""


@dataclass
class Measured:
    """The results of one process for one row, by contender."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def sample_of(run: Run) -> Sample:
    def sample(times: int) -> int:
        started = perf_counter_ns()
        run(times)
        return perf_counter_ns() - started

    return sample


def async_sample_of(run: AsyncRun, runner: asyncio.Runner) -> Sample:
    """The clock runs inside the loop, so that starting a task is not part of the figure."""

    async def timed(times: int) -> int:
        started = perf_counter_ns()
        await run(times)
        return perf_counter_ns() - started

    def sample(times: int) -> int:
        return runner.run(timed(times))

    return sample


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Keep the garbage collector out of the samples, with all live objects frozen."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _times(sample: Sample) -> int:
    """The number of runs that fill one sample; finding it also warms the caches."""
    times = 16
    while (taken := sample(times)) < SAMPLE_NS / 4:
        times *= 2
    return max(1, round(times * SAMPLE_NS / taken))


def take_turns(samples: Mapping[str, Sample], rounds: int) -> dict[str, list[float]]:
    """Microseconds per run, one figure per round, for every contender."""
    names = list(samples)
    taken: dict[str, list[float]] = {name: [] for name in names}
    if not names:
        return taken
    with quiet_collector():
        times = {name: _times(samples[name]) for name in names}
        for number in range(rounds):
            first = number % len(names)
            for name in chain(names[first:], names[:first]):
                taken[name].append(samples[name](times[name]) / times[name] / 1000)
    return taken
