"""What the fault tests share: the library's log is off, one event loop serves all, and the cases are counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import astuple

import pytest

from .tally import NAME, Tally


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    tally = Tally()
    yield tally
    request.node.user_properties.append((NAME, astuple(tally)))


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
