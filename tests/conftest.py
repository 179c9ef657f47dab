from __future__ import annotations

import gc

import pytest

from tests.behaviours import Behaviours
from tests.unit.faults.tally import Tallies

REAL = {"tests/servers", "tests/truth", "tests/workers"}
"""What `make test-real` runs; `make test` runs all else."""


def pytest_configure(config: pytest.Config) -> None:
    narrowed = config.option.keyword or config.option.markexpr or config.option.collectonly or config.option.deselect
    ignored = set(config.option.ignore or ()) - {"tests/benchmarks"}
    is_worker = hasattr(config, "workerinput")  # one of several processes, none of which runs all tests
    is_given = config.args_source is pytest.Config.ArgsSource.ARGS
    if is_worker or narrowed:
        part = "some"
    elif is_given:
        part = "real" if set(config.args) == REAL else "some"
    else:
        part = {frozenset(): "all", frozenset(REAL): "rest"}.get(frozenset(ignored), "some")
    config.pluginmanager.register(Behaviours(part, config.cache), "polydatum-behaviours")
    config.pluginmanager.register(Tallies(), "polydatum-tallies")


def pytest_collection_finish() -> None:
    """What is there by now stays to the end: the collector, which many tests call, shall not look through it each time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # the frozen are no referrers for `gc.get_referrers`, which Hypothesis asks when it is imported
