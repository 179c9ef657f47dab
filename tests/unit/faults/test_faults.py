"""Exhaustive fault injection: every single fault and every pair of them, at every point of a context's life.

0-3 resources x 0-2 context middleware; every kind of error that Python knows and every misbehaviour of a part; sync and
async. What must come of it is said by `model`; `rig` does it for real; a case is one life of one context.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import pytest
import trio

from polydatum import closing

from .cases import PLAN, Case, cases
from .model import Story
from .rig import ADAPTED, ASYNC, SYNC, THREADED, TRIO, Rig, Seen
from .shapes import AUTHORITY, BARE, GENERATOR, Shape
from .tally import Tally

pytestmark = pytest.mark.no_cover  # coverage would make a minute ten; the other suites cover every line


def differences(should: Story, was: Story) -> list[str]:
    """Where two stories part, in words; of the trace, the first point that differs."""
    found = []
    for number, (passes, passed) in enumerate(zip_longest(should.trace, was.trace)):
        if passes != passed:
            found.append(
                f"after {[point for point, _, _ in should.trace[:number]]} should come {passes}, came {passed}"
            )
            break
    return found + [
        f"{name} should be {getattr(should, name)!r}, is {getattr(was, name)!r}"
        for name in ("caller_gets", "outcome", "errors", "suppressed")
        if getattr(should, name) != getattr(was, name)
    ]


def broken_rules(case: Case, seen: Seen) -> list[str]:
    """In which points a life was not what the model says."""
    expected, story = case.expected, seen.story
    lost = () if expected.caller_gets is None else (label for label in expected.shown if label not in story.shown)
    return [
        *differences(expected, story),
        *(f"{label} cannot be found from what the caller gets" for label in lost),
        *seen.wrong,
    ]


class Proof:
    """Leads all lives of one shape in one mode, and collects what went wrong."""

    def __init__(self, shape: Shape, mode: str, depths: dict[str, int], tally: Tally) -> None:
        self.shape = shape
        self.mode = mode
        self.depths = depths
        self.tally = tally
        self.violations: list[str] = []
        self.rig = Rig(shape, mode)
        self.by_policy = Rig(shape, mode, by_policy=True)

    def check(self, wish: str, case: Case, seen: Seen, twin: Seen | None) -> None:
        """Hold a life against the model; and its twin, led by the policy alone, against both."""
        self.compare(wish, case, "", broken_rules(case, seen))
        if twin is not None:
            broken = broken_rules(case, twin)
            broken += [f"unlike the clean path: {difference}" for difference in differences(seen.story, twin.story)]
            if twin.details != seen.details:
                broken.append(f"unlike the clean path: {twin.details}, there {seen.details}")
            self.compare(wish, case, ", by policy", broken)

    def compare(self, wish: str, case: Case, how: str, broken: list[str]) -> None:
        self.tally.cases += 1
        if broken:
            self.tally.violations += 1
            faults = ", ".join(f"{kind} at {point}" for point, kind in case.faults.items()) or "no fault"
            self.violations.append(
                "\n    ".join([f"{wish} {self.mode} context of {self.shape}{how}, {faults}:", *broken])
            )

    def cases(self) -> Iterator[tuple[str, Case]]:
        for wish, depth in self.depths.items():
            for case in cases(self.shape, wish, depth):
                yield wish, case

    def has_twin(self, wish: str) -> bool:
        """Wishes take the engine to the policy anyway, and so does trio."""
        return wish == BARE and self.mode != TRIO

    def run(self) -> None:
        """The rig's lives are led in another context, which must be current again after each; its twin's are not."""
        adapted = self.mode == ADAPTED
        live = self.rig.live_adapted if adapted else self.rig.live
        live_by_policy = self.by_policy.live_adapted if adapted else self.by_policy.live
        with self.rig.manager.context() as outer:
            for wish, case in self.cases():
                twin = live_by_policy(case.faults, wish) if self.has_twin(wish) else None
                self.check(wish, case, live(case.faults, wish), twin)
        assert outer.outcome == "committed"

    async def arun(self) -> None:
        """The async twin of `run`."""
        threaded = self.mode == THREADED
        alive = self.rig.alive_threaded if threaded else self.rig.alive
        alive_by_policy = self.by_policy.alive_threaded if threaded else self.by_policy.alive
        async with self.rig.manager.context() as outer:
            for wish, case in self.cases():
                twin = await alive_by_policy(case.faults, wish) if self.has_twin(wish) else None
                self.check(wish, case, await alive(case.faults, wish), twin)
        assert outer.outcome == "committed"


NAMES = [f"{shape}-{mode}" for shape, mode, _ in PLAN]


@pytest.mark.parametrize(("shape", "mode", "depths"), PLAN, ids=NAMES)
def test_whatever_fails_the_context_ends_as_the_design_says(
    shape: Shape, mode: str, depths: dict[str, int], runner: asyncio.Runner, tally: Tally
) -> None:
    """Each part ends once, in reverse; the right error wins, the others are found; outcome and hooks are true."""
    proof = Proof(shape, mode, depths, tally)
    if mode in (SYNC, ADAPTED):
        proof.run()
    elif mode == TRIO:
        trio.run(proof.arun)
    else:
        runner.run(proof.arun())
    if proof.violations:
        pytest.fail(
            f"{len(proof.violations)} violations, among them\n" + "\n".join(proof.violations[:3]), pytrace=False
        )


@pytest.mark.parametrize("mode", [SYNC, ASYNC, THREADED])
def test_the_twins_go_different_ways(mode: str, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare context ends on a clean path, its twin by the policy: else comparing the two would prove nothing."""
    ways: list[str] = []
    for name in ("close_by_policy", "aclose_by_policy"):
        policy = getattr(closing, name)

        def noted(*args: Any, policy: Any = policy, **kwargs: Any) -> Any:
            ways.append("policy")
            return policy(*args, **kwargs)

        monkeypatch.setattr(closing, name, noted)
    for by_policy in (False, True):
        shape = Shape(AUTHORITY + GENERATOR, "") if mode == THREADED else Shape(GENERATOR * 2, GENERATOR)
        rig = Rig(shape, mode, by_policy=by_policy)
        ways.append(f"by policy: {by_policy}")
        if mode == SYNC:
            rig.live({}, BARE)
        else:
            runner.run(rig.alive_threaded({}, BARE) if mode == THREADED else rig.alive({}, BARE))
    assert ways == ["by policy: False", "by policy: True", "policy"]
