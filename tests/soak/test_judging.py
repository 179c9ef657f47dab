"""The judging of a soak test detects each broken promise, and nothing else."""

from __future__ import annotations

import pytest

from tests.soak.clients import Seen
from tests.soak.judging import judged


def seen(kind: str, status: int | None, outcome: str | None = None) -> Seen:
    found = Seen(kinds={1: kind}, statuses={1: status})
    if outcome is not None:
        found.outcomes[1] = outcome
    return found


@pytest.mark.parametrize(
    ("what", "is_there"),
    [
        (seen("clean", 200), True),
        (seen("raised", 500), False),
        (seen("swallowed", 500), False),
        (seen("returned", 409), False),
        (seen("reset", None), True),
        (seen("reset", None), False),
        (seen("cancelled", 200), True),
        (seen("cancelled", 500), False),
        (seen("cancelled", 503, "committed"), True),
        (seen("cancelled", 503, "rolled_back"), False),
        (seen("cancelled", 503, "unknown"), True),
        (seen("cancelled", 503, "unknown"), False),
    ],
)
def test_true(what: Seen, is_there: bool) -> None:
    assert judged(what, {1} if is_there else set()) == []


@pytest.mark.parametrize(
    ("what", "is_there", "problem"),
    [
        (seen("clean", 500), False, "an answer that was not asked for"),
        (seen("clean", None), False, "an answer that was not asked for"),
        (seen("swallowed", 200), True, "an answer that was not asked for"),
        (seen("clean", 200), False, "a 2xx without its row"),
        (seen("cancelled", 200), False, "a 2xx without its row"),
        (seen("raised", 500), True, "a row whose answer said no"),
        (seen("returned", 409), True, "a row whose answer said no"),
        (seen("cancelled", 500), True, "a row whose answer said no"),
        (seen("cancelled", 503, "rolled_back"), True, "a row whose answer said no"),
        (seen("cancelled", 503, "committed"), False, "none that its context said yes to"),
        (Seen(crossed=[1]), False, "somebody else's data"),
        (Seen(broken=["clean 1: reset"]), False, "a connection that broke"),
    ],
)
def test_false(what: Seen, is_there: bool, problem: str) -> None:
    (found,) = judged(what, {1} if is_there else set())
    assert found.startswith("1 x ")
    assert problem in found


@pytest.mark.parametrize(
    ("what", "is_there"),
    [
        (seen("clean", 500), True),
        (seen("clean", 500), False),
        (seen("raised", 500), True),
        (seen("cancelled", 500), True),
    ],
)
def test_true_where_connections_are_ended(what: Seen, is_there: bool) -> None:
    assert judged(what, {1} if is_there else set(), disturbed=True) == []


@pytest.mark.parametrize(
    ("what", "is_there"),
    [(seen("clean", 200), False), (seen("returned", 409), True), (seen("cancelled", 503, "rolled_back"), True)],
)
def test_false_even_there(what: Seen, is_there: bool) -> None:
    assert len(judged(what, {1} if is_there else set(), disturbed=True)) == 1
