"""One cell of the table: an endpoint of a host over a database, asked of both applications in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tests.load import generator
from tests.load.site import Endpoint, Site
from tests.load.slices import Slice

SAMPLES = 3
"""Requests whose answers are compared before anything is timed."""


class Drive(Protocol):
    """A load generator; it begins with the first request each time."""

    def __call__(self, port: int, requests: list[bytes], *, connections: int, seconds: float) -> Slice: ...


class Untrue(Exception):
    """The applications do not do the same, or not what they should: a figure would say nothing."""


class Ports(NamedTuple):
    """Where the two applications of a host are."""

    ours: int
    theirs: int


class Load(NamedTuple):
    """How it is measured."""

    drive: Drive
    connections: int
    seconds: float
    rounds: int


class Ratio(NamedTuple):
    """Ours to theirs: the median of the rounds, the least and the most."""

    median: float
    least: float
    most: float


@dataclass
class Measured:
    """What came of a cell: for each round both slices of each."""

    host: str
    database: str
    endpoint: str
    rounds: list[tuple[Slice, Slice]]

    @property
    def ours(self) -> Slice:
        return sum((ours for ours, _ in self.rounds), Slice(0, 0))

    @property
    def theirs(self) -> Slice:
        return sum((theirs for _, theirs in self.rounds), Slice(0, 0))

    def ratio(self, figure: Callable[[Slice], float]) -> Ratio:
        found = [figure(ours) / figure(theirs) for ours, theirs in self.rounds]
        return Ratio(statistics.median(found), min(found), max(found))


def rate(seen: Slice) -> float:
    return seen.rate


def p99(seen: Slice) -> float:
    return seen.percentile(99)


def measure(site: Site, endpoint: Endpoint, ports: Ports, load: Load) -> list[tuple[Slice, Slice]]:
    """Compare the answers, then drive both.

    Raises:
        Untrue: if the answers differ, one of them is an error, or a favourite was not kept.
    """
    _compare(site, endpoint, ports)
    for side in Ports._fields:
        _slice(site, endpoint, ports, side, load)  # whatever is made at first is made
    rounds = []
    for _ in range(load.rounds):
        turns = ("ours", "theirs", "theirs", "ours")
        first, second, third, fourth = (_slice(site, endpoint, ports, side, load) for side in turns)
        rounds.append((first + fourth, second + third))
    return rounds


def _compare(site: Site, endpoint: Endpoint, ports: Ports) -> None:
    def answers(port: int) -> list[tuple[int, bytes]]:
        site.forget_favorites()
        return [generator.ask(port, request) for request in endpoint.requests[:SAMPLES]]

    for ours, theirs in zip(answers(ports.ours), answers(ports.theirs), strict=True):
        if ours[0] != 200 or ours != theirs:
            raise Untrue(f"{endpoint.name}: our answer is {ours}, theirs {theirs}")


def _slice(site: Site, endpoint: Endpoint, ports: Ports, side: str, load: Load) -> Slice:
    site.forget_favorites()
    port: int = getattr(ports, side)
    seen = load.drive(port, endpoint.requests, connections=load.connections, seconds=load.seconds)
    if seen.failures or not seen.answers:
        raise Untrue(f"{endpoint.name}, {side}: {seen.failures} failures among {seen.answers} answers")
    if endpoint.writes and seen.answers > (kept := site.count_favorites()):
        raise Untrue(f"{endpoint.name}, {side}: {seen.answers} answers, of which {kept} were kept")
    return seen
