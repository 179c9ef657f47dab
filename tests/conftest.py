from __future__ import annotations

import pytest

from tests.behaviours import Behaviours


def pytest_configure(config: pytest.Config) -> None:
    narrowed = config.option.keyword or config.option.markexpr or config.option.collectonly or config.option.deselect
    ignored = set(config.option.ignore or ()) - {"tests/benchmarks"}
    complete = config.args_source is not pytest.Config.ArgsSource.ARGS and not narrowed and not ignored
    config.pluginmanager.register(Behaviours(complete=complete), "polydatum-behaviours")
