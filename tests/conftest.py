from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

from tests.behaviours import Behaviours
from tests.unit.faults.tally import Tallies


def pytest_configure(config: pytest.Config) -> None:
    # Of several processes none runs all tests; the first one gathers the results.
    part = "some" if hasattr(config, "workerinput") else os.environ.get("POLYDATUM_TESTS", "some")
    config.pluginmanager.register(Behaviours(part, config.cache), "polydatum-behaviours")
    config.pluginmanager.register(Tallies(), "polydatum-tallies")


def pytest_collection_finish() -> None:
    """What is there by now stays to the end: the collector, which many tests call, shall not look through it each time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call() -> Iterator[None]:
    """After a test without coverage it begins anew, and wraps ``os._exit`` once more: a child would save it as often."""
    leave = os._exit
    try:
        yield
    finally:
        os._exit = leave  # type: ignore[assignment]


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # the frozen are no referrers for `gc.get_referrers`, which Hypothesis asks when it is imported
