"""The command has to fail for every reason there is to; the runs themselves are `make transparency`."""

from __future__ import annotations

from tests.transparency.comparing import Comparison
from tests.transparency.running import Run

ACTIVE = {"opened": 1}


def problems(bare, ours, *, known=(), contexts=ACTIVE, in_bare=None):
    known = dict.fromkeys(known, "a reason")
    comparison = Comparison("x", "1", "installed", Run(bare, {}, in_bare or {}), Run(ours, {}, contexts), known)
    return list(comparison.problems())


def test_65_the_same_outcomes_are_no_problem():
    assert problems({"a": "passed", "b": "failed"}, {"a": "passed", "b": "failed"}) == []


def test_65_a_test_that_ends_otherwise_is_a_problem():
    (problem,) = problems({"a": "passed"}, {"a": "failed"})
    assert problem == "x, installed: a: passed, with us failed: "


def test_65_a_test_that_begins_to_pass_is_a_problem():
    assert len(problems({"a": "failed"}, {"a": "passed"})) == 1


def test_65_a_test_that_is_not_run_is_a_problem():
    (problem,) = problems({"a": "passed", "b": "passed"}, {"a": "passed"})
    assert "b: passed, with us not run" in problem


def test_65_a_known_difference_is_no_problem():
    assert problems({"a": "passed"}, {"a": "failed"}, known=["a"]) == []


def test_65_a_known_difference_that_is_gone_is_a_problem():
    (problem,) = problems({"a": "passed"}, {"a": "passed"}, known=["a"])
    assert "take it out" in problem


def test_65_an_adapter_that_was_not_there_is_a_problem():
    (problem,) = problems({"a": "passed"}, {"a": "passed"}, contexts={})
    assert "the adapter was not there" in problem


def test_65_a_resource_that_was_opened_is_a_problem():
    (problem,) = problems({"a": "passed"}, {"a": "passed"}, contexts={"opened": 1, "resources": 1})
    assert "a resource was opened" in problem


def test_65_a_bare_run_with_the_adapter_is_a_problem():
    (problem,) = problems({"a": "passed"}, {"a": "passed"}, in_bare={"opened": 1})
    assert "the bare run knows the adapter" in problem
