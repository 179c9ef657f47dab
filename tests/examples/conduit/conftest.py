from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.examples.conduit.in_process import HOSTS, client_of, manager_at
from tests.examples.conduit.visitors import Site


@pytest.fixture(scope="module", params=HOSTS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Conduit in each of the four hosts, on an SQLite file that the tests of a module share."""
    dm = manager_at(f"sqlite:///{tmp_path_factory.mktemp(request.param)}/conduit.db")
    with client_of(request.param, dm) as client:
        yield Site(client)
    dm.close()
