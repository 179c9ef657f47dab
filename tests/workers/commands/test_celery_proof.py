"""The proof of `tests.workers.proof`, a small one; and that it sees each broken promise, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.workers.proof import DROPPED, Seen, judged, prove


@pytest.mark.timeout(300)
def test_each_effect_is_there_as_often_as_the_outcome_says(tmp_path: Path) -> None:
    """And nothing is lost, leaked, or done twice."""
    proof = prove(200, random.randrange(1_000_000), tmp_path)
    assert proof.violations == []


@pytest.mark.parametrize(
    "seen",
    [
        Seen("clean", "SUCCESS", 1, ["-"]),
        Seen("clean", "SUCCESS", 1, ["-", "redelivered"]),
        Seen("raises after it wrote", "FAILURE", 0, ["-"]),
        Seen("its commit meets a conflict", "SUCCESS", 1, ["-", "retried"]),
        Seen("killed after the commit", "SUCCESS", 1, ["-", "redelivered"]),
        Seen(DROPPED, "PENDING", 0, []),
    ],
)
def test_a_promise_that_is_kept(seen: Seen) -> None:
    assert judged({"key": seen}) == []


@pytest.mark.parametrize(
    ("seen", "problem"),
    [
        (Seen("clean", "PENDING", 0, []), "lost"),
        (Seen("clean", "SUCCESS", 1, ["-", "-"]), "begun again without a recorded reason"),
        (Seen("clean", "SUCCESS", 2, ["-", "redelivered"]), "SUCCESS, but done 2 times"),
        (Seen("clean", "SUCCESS", 0, ["-"]), "SUCCESS, but done 0 times"),
        (Seen("its commit is refused", "FAILURE", 1, ["-"]), "FAILURE, but done 1 times"),
        (Seen("its commit is refused", "SUCCESS", 1, ["-"]), "SUCCESS, not FAILURE"),
        (Seen("killed after it wrote", "SUCCESS", 1, ["-"]), "not redelivered"),
        (Seen(DROPPED, "PENDING", 0, ["-"]), "was sent"),
        (Seen(DROPPED, "SUCCESS", 1, ["-"]), "was sent"),
    ],
)
def test_a_promise_that_is_broken(seen: Seen, problem: str) -> None:
    assert f"1 x {seen.kind}: {problem}" in judged({"key": seen})
