"""A pytest plugin: which lines of the list of adapter behaviours have a passing test, for each adapter.

The list is docs/reference/adapter-behaviours.md. A test belongs to the lines whose numbers its name begins with, and to the
adapter of its host (tests of the contract) or of its module's name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

LIST = Path(__file__).parent.parent / "docs" / "reference" / "adapter-behaviours.md"
ADAPTERS = {"A": "ASGI", "W": "WSGI", "F": "Flask", "D": "Django", "C": "Celery"}
WORDS = {
    "A": ("asgi", "starlette", "fastapi", "litestar", "quart"),
    "W": ("wsgi",),
    "F": ("flask",),
    "D": ("django",),
    "C": ("celery",),
}
PROPERTY = "behaviours"


class Line(NamedTuple):
    """One behaviour and the adapters that owe it."""

    number: int
    adapters: frozenset[str]


def listed() -> list[Line]:
    rows = re.findall(r"^\| (\d+) \| ([A-Z ]+) \|", LIST.read_text(), re.MULTILINE)
    return [Line(int(number), frozenset(adapters.split())) for number, adapters in rows]


def numbers_of(name: str) -> list[int]:
    """``test_62_66_a_swallowed_exception`` is about lines 62 and 66."""
    found = re.match(r"test_((?:\d\d_)+)", name)
    return [int(number) for number in found[1].split("_") if number] if found else []


def adapter_of(item: Any) -> str | None:
    host = getattr(item.cls, "host", None)
    where = host.adapter if host is not None else item.path.stem + " " + item.name.partition("[")[2]
    # The longest word first: "wsgi" stands in the names of Django's and Flask's parameters, too.
    for letter in ("C", "F", "D", "A", "W"):
        if any(word in where.lower() for word in WORDS[letter]):
            return letter
    return None


def spans(numbers: Iterable[int]) -> str:
    """``1-4, 7``."""

    def runs() -> Iterator[list[int]]:
        run: list[int] = []
        for number in sorted(numbers):
            if run and number > run[-1] + 1:
                yield run
                run = []
            run.append(number)
        if run:
            yield run

    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs())


class Behaviours:
    """The plugin: gathers results, prints the table, and fails a complete run that leaves a line without a test.

    Args:
        part: which tests are run: those with ``"real"`` servers and workers, the ``"rest"``, or ``"some"``. The rest is
            complete where the real ones were run before.
        cache: where the results of these are kept.
    """

    KEY = "polydatum/behaviours"

    def __init__(self, part: str, cache: Any) -> None:
        self.part = part
        self.cache = cache
        self.lines = listed()
        self.is_asked = False  # whether any test that ran belongs to a line
        self.passed: dict[str, set[int]] = defaultdict(set)
        self.failed: dict[str, set[int]] = defaultdict(set)
        real = cache.get(self.KEY, None) if part == "rest" else None
        self.complete = real is not None
        for adapter, numbers in (real or {}).items():
            self.passed[adapter].update(numbers)

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        for item in items:
            numbers = numbers_of(getattr(item, "originalname", None) or item.name)
            adapter = adapter_of(item) if numbers else None
            if adapter is not None:  # the reports carry it, also from a process that runs tests for this one
                item.user_properties.append((PROPERTY, (adapter, numbers)))

    def pytest_runtest_logreport(self, report: Any) -> None:
        adapter, numbers = dict(report.user_properties).get(PROPERTY, (None, []))
        if adapter is None:
            return
        self.is_asked = True
        if report.failed:
            self.failed[adapter].update(numbers)
        elif report.when == "call" and report.passed:
            self.passed[adapter].update(numbers)

    def covered(self, adapter: str) -> set[int]:
        return self.passed[adapter] - self.failed[adapter]

    def missing(self, adapter: str) -> set[int]:
        return {line.number for line in self.lines if adapter in line.adapters} - self.covered(adapter)

    def pytest_sessionfinish(self, session: Any) -> None:
        if self.part == "real" and session.exitstatus == 0:
            self.cache.set(self.KEY, {adapter: sorted(self.covered(adapter)) for adapter in ADAPTERS})
        if self.complete and session.exitstatus == 0 and any(self.missing(adapter) for adapter in ADAPTERS):
            session.exitstatus = 1

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.is_asked:
            return
        terminalreporter.section("behaviours of adapters with a passing test")
        for letter, name in ADAPTERS.items():
            terminalreporter.line(f"{name:7} {spans(self.covered(letter)) or 'none'}")
            if self.complete and self.missing(letter):
                terminalreporter.line(f"        MISSING {spans(self.missing(letter))}", red=True)
            others: dict[str, list[int]] = defaultdict(list)
            for line in self.lines:
                if letter not in line.adapters and line.number not in self.covered(letter):
                    others[", ".join(ADAPTERS[one] for one in ADAPTERS if one in line.adapters)].append(line.number)
            for owners, numbers in others.items():
                terminalreporter.line(f"        does not apply: {spans(numbers)} ({REASONS[owners]})")


REASONS = {
    "ASGI": "of ASGI: its messages, tasks and threads",
    "WSGI": "of WSGI: start_response and write",
    "Flask": "of Flask's own API",
    "Django": "of Django's own API",
    "Celery": "of tasks, not of requests",
    "ASGI, Flask, Django": "of frameworks with requests, users or a start-up of their own",
    "ASGI, WSGI, Flask, Django": "of requests and their answers",
    "ASGI, Flask, Django, Celery": "of frameworks that know who asks, or what a task is",
}
