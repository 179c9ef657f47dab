"""Which shapes are tried, and every case of a shape: no fault, all single faults, all pairs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from .model import Story, story_of
from .rig import ASYNC, MIXED, MODES, SYNC, THREADED
from .shapes import (
    AUTHORITY,
    BARE,
    EFFECT,
    GENERATOR,
    HOOKED,
    MANAGER,
    WISHES,
    YIELDED,
    Faults,
    Shape,
    kinds_at,
)


class Case(NamedTuple):
    """Faults to strike, and what must be seen of it."""

    faults: Faults
    expected: Story


@lru_cache(maxsize=8)  # of one shape, for all modes
def cases(shape: Shape, wish: str, depth: int) -> tuple[Case, ...]:
    """All cases of up to ``depth`` faults that can all strike.

    Faults are found along the trace: a second fault can strike only at a point that is passed after the first one. All
    other pairs are the same as a single fault: every case checks its whole trace, so a point that is not passed in the
    model is not passed by the engine either.
    """
    return tuple(_extended(shape, wish, {}, 0, depth))


def _extended(shape: Shape, wish: str, faults: Faults, start: int, depth: int) -> Iterator[Case]:
    story = story_of(shape, faults, wish)
    yield Case(faults, story)
    if depth == 0:
        return
    for number in range(start, len(story.trace)):
        point = story.trace[number].point
        for kind in kinds_at(shape, point):
            yield from _extended(shape, wish, {**faults, point: kind}, number + 1, depth - 1)


def shapes(forms: str, sizes: range, middleware: tuple[str, ...]) -> list[Shape]:
    """All orders of those forms of resources, for each of those middleware."""
    return [
        Shape("".join(resources), around)
        for around in middleware
        for size in sizes
        for resources in product(forms, repeat=size)
    ]


NONE_TO_TWO = ("", GENERATOR, GENERATOR * 2)

GENERATORS = shapes(GENERATOR, range(4), NONE_TO_TWO)
"""The core of the proof: 0-3 resources x 0-2 middleware, all of them generators."""

TRANSACTIONAL = [
    shape for shape in shapes(GENERATOR + AUTHORITY + EFFECT, range(4), NONE_TO_TWO) if shape not in GENERATORS
]
"""Generators, authorities and effects in every order."""

OTHER_FORMS = [
    Shape(resources, middleware)
    for resources in (MANAGER, YIELDED, MANAGER + GENERATOR, GENERATOR + MANAGER, YIELDED + EFFECT, AUTHORITY + YIELDED)
    for middleware in ("", MANAGER, GENERATOR + MANAGER)
]
"""Context managers, and authorities that a generator yields."""

CHOSEN = os.environ.get("POLYDATUM_FAULTS")
"""``all`` tries all pairs on everything, which takes an hour; ``singles`` no pairs, for a second and third Python."""


def depth_of(shape: Shape, mode: str, wish: str) -> int:
    """How many faults strike a context at once; 0: it is left to ``POLYDATUM_FAULTS=all``."""
    return 2 if CHOSEN == "all" else min(_usual_depth(shape, mode, wish), 1 if CHOSEN == "singles" else 2)


def _usual_depth(shape: Shape, mode: str, wish: str) -> int:
    """All pairs strike all shapes of generators, sync and async, and small shapes of anything; all singles strike all."""
    parts = len(shape.resources) + len(shape.middleware)
    usual = wish in (BARE, HOOKED)
    if shape in GENERATORS:
        whole = mode in (SYNC, ASYNC)
        return 2 if (whole and (usual or parts <= 2)) or parts <= 1 else 1
    whole = mode in (SYNC, MIXED)
    if mode in (SYNC, THREADED) and wish == BARE and parts <= 2:
        return 2  # a single authority ends on a clean path
    if whole and wish == HOOKED:
        small = len(shape.resources) == 1 if shape in OTHER_FORMS else parts <= (2 if mode == SYNC else 1)
        return 2 if small else 1
    return 1 if parts <= (2 if whole else 1) else 0


PLAN: list[tuple[Shape, str, dict[str, int]]] = [
    (shape, mode, depths)
    for shape in (*GENERATORS, *TRANSACTIONAL, *OTHER_FORMS)
    for mode in MODES
    if (depths := {wish: depth for wish in WISHES if (depth := depth_of(shape, mode, wish))})
]
"""What is tried: a shape, a mode, and for each wish the number of faults at once."""
