"""SQLAlchemy: the contract on every driver, and what is special to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polydatum.testing import BackendContract
from tests.backends.sql_servers import table_on
from tests.backends.sqlalchemy_hosts import HOSTS, SQLAlchemyHost, server_for


@pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SQLAlchemyHost]:
    with table_on(server_for(request.param, tmp_path)) as server:
        yield request.param(server)


class TestSQLAlchemy(BackendContract):
    @pytest.fixture
    def host(self, host: Any) -> Any:
        return host
