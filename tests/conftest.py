from __future__ import annotations

import gc

import pytest

from tests.behaviours import Behaviours
from tests.unit.faults.tally import Tallies


def pytest_configure(config: pytest.Config) -> None:
    narrowed = config.option.keyword or config.option.markexpr or config.option.collectonly or config.option.deselect
    ignored = set(config.option.ignore or ()) - {"tests/benchmarks"}
    is_worker = hasattr(config, "workerinput")  # one of several processes, none of which runs all tests
    complete = config.args_source is not pytest.Config.ArgsSource.ARGS and not (narrowed or ignored or is_worker)
    config.pluginmanager.register(Behaviours(complete=complete), "polydatum-behaviours")
    config.pluginmanager.register(Tallies(), "polydatum-tallies")


def pytest_collection_finish() -> None:
    """What is there by now stays to the end: the collector, which many tests call, shall not look through it each time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # the frozen are no referrers for `gc.get_referrers`, which Hypothesis asks when it is imported
