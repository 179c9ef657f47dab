"""What the fault tests share: the library's log is off, one event loop serves all, and the cases are counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest


class Tally:
    """How many lives of a context were led, and how many of them broke a rule."""

    cases = 0
    violations = 0


TALLY = pytest.StashKey[Tally]()


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    return pytestconfig.stash.setdefault(TALLY, Tally())


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    """One asyncio loop for all cases: making one for each would cost more than the cases."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The library logs nearly every fault, as it should; writing that out would take most of the time."""
    logger = logging.getLogger("polydatum")
    logger.disabled = True
    yield
    logger.disabled = False


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counted = config.stash.get(TALLY, None)
    if counted is not None:
        terminalreporter.write_line(f"{counted.cases:,} fault cases, {counted.violations:,} violations")
