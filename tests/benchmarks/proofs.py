"""Proofs: a contender is timed only after it has shown that it does the work of the row."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from tests.benchmarks.contenders import AsyncWork, SyncWork
from tests.benchmarks.resources import tally

_TIMES = 3


class Unproved(Exception):
    """The contender did not do the work of the row."""


@dataclass(frozen=True)
class Proof:
    """The evidence that the work of a row was done."""

    opens: int = 0
    """The number of resources that each run opens and closes."""
    stays_open: int = 0
    """The number of resources opened before the first run and closed after the last."""
    enters: tuple[str, ...] = ()
    """Functions that must be called in each run. They have these names in every contender."""


@contextmanager
def _entered() -> Iterator[Counter[str]]:
    """Counts the Python functions entered, by name."""
    names: Counter[str] = Counter()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            names[frame.f_code.co_name] += 1

    sys.setprofile(note)
    try:
        yield names
    finally:
        sys.setprofile(None)


def _judge(proof: Proof, names: Counter[str]) -> None:
    expected = proof.opens * _TIMES + proof.stays_open
    if (tally.opened, tally.closed) != (expected, expected):
        raise Unproved(f"opened {tally.opened} and closed {tally.closed} resources instead of {expected}")
    for name in proof.enters:
        if names[name] < _TIMES:
            raise Unproved(f"{name} ran {names[name]} times instead of {_TIMES}")


def prove_sync(work: SyncWork, proof: Proof) -> None:
    """Do the work a few times.

    Raises:
        Unproved: if the evidence differs from the proof.
    """
    tally.clear()
    with work() as run, _entered() as names:
        run(_TIMES)
    _judge(proof, names)


async def prove_async(work: AsyncWork, proof: Proof) -> None:
    """As `prove_sync`."""
    tally.clear()
    async with work() as run:
        with _entered() as names:
            await run(_TIMES)
    _judge(proof, names)
