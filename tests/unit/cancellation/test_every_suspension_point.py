"""Cancellation at every suspension point of a context, and at every pair of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.unit.cancellation.driving import MODES, Mode, Run
from tests.unit.cancellation.scenarios import SCENARIOS, Forgiving, Scenario, Vetoed

SCENARIOS_FOR_PAIRS = [kind for kind in SCENARIOS if kind not in (Forgiving, Vetoed)]
MODES_FOR_PAIRS = [mode for mode in MODES if mode.name != "anyio on trio"]  # there, a scope is one of trio's

ARRIVING = {"timeout": "TimeoutError"}  # what the canceller sees; else "cancelled"


def body_had_ended(scenario: Scenario) -> bool:
    return scenario.journal.body_ended


def suspensions_of(scenario: Scenario, mode: Mode) -> int:
    """How often an undisturbed run suspends."""
    runs: list[Run] = []
    mode.run_all(scenario.work, [()], lambda: None, lambda at, run: runs.append(run))
    check(scenario, mode, (), runs[0])
    return runs[0].suspensions


def check(scenario: Scenario, mode: Mode, at: Sequence[int], run: Run) -> None:
    """The promises that hold whenever a context is cancelled."""
    journal, context = scenario.journal, scenario.journal.context
    told = f"cancelled at {at}: {context.outcome!r}, {run}, {journal.events}"

    opened = journal.names("opened")
    assert journal.names("closed") == opened_order_reversed(scenario, opened), told
    assert journal.tasks <= {journal.own_task}, told
    assert run.tasks_left == 0, told
    assert journal.left is None, told
    assert context.state == "closed", told
    assert run.cancelling == 0, told

    early = any(not ended for ended in run.cancels)
    outcome = "rolled_back" if early else scenario.outcome
    assert context.outcome == outcome, told
    if run.cancels:
        assert run.outside == ARRIVING.get(mode.name, "cancelled"), told
    else:
        assert run.outside == (scenario.error or "nothing"), told

    transactions = [name for name in opened if name in scenario.transactions]
    if outcome == "committed":
        assert journal.names("committed") == transactions, told
        assert journal.names("rolled back") == [], told
    else:
        assert journal.names("committed") == [], told
        assert journal.names("rolled back") == transactions[::-1], told
        assert journal.names("resumed") == [], told
    if hooks := journal.names("ran"):
        expected = ["before_commit", "on_commit"] if outcome == "committed" else ["on_rollback"]
        assert hooks == expected, told
    else:
        assert not scenario.transactions, told


def opened_order_reversed(scenario: Scenario, opened: list[str]) -> list[str]:
    """Middleware ends first, whatever was opened in it; then the resources."""
    middleware = [name for name in opened if name.endswith("middleware")]
    resources = [name for name in opened if not name.endswith("middleware")]
    return middleware[::-1] + resources[::-1]


@pytest.mark.parametrize("mode", MODES, ids=repr)
@pytest.mark.parametrize("kind", SCENARIOS, ids=lambda kind: kind.name)
def test_a_cancel_at_any_suspension_point(kind: type[Scenario], mode: Mode) -> None:
    """Everything opened closes once, in reverse and in its own task; the outcome is honest; the cancel arrives."""
    scenario = kind()
    last = suspensions_of(scenario, mode)
    plans = [(k,) for k in range(1, last + 1)]
    assert (
        mode.run_all(
            scenario.work, plans, lambda: body_had_ended(scenario), lambda at, run: check(scenario, mode, at, run)
        )
        > 4
    )


@pytest.mark.parametrize("mode", MODES_FOR_PAIRS, ids=repr)
@pytest.mark.parametrize("kind", SCENARIOS_FOR_PAIRS, ids=lambda kind: kind.name)
def test_two_cancels_at_any_pair_of_suspension_points(kind: type[Scenario], mode: Mode) -> None:
    """A second cancel, at the same point or at any later one, changes none of that."""
    scenario = kind()
    last = suspensions_of(scenario, mode)
    suspensions = total = 0

    def seconds(first: int) -> Iterator[tuple[int, int]]:
        """From the first cancel to the end of the run, which is known only when it ran."""
        nonlocal suspensions
        suspensions = second = first
        while second <= suspensions:
            yield first, second
            second += 1

    def checked(at: Sequence[int], run: Run) -> None:
        nonlocal suspensions
        suspensions = run.suspensions
        check(scenario, mode, at, run)

    for first in range(1, last + 1):
        total += mode.run_all(scenario.work, seconds(first), lambda: body_had_ended(scenario), checked)
    assert total > last
