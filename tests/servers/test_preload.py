"""A server that imports the application, and forks then."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.servers.deployments import PRELOADED
from tests.servers.server import Server


def test_each_worker_opens_its_own_resources_of_the_application(start: Callable[..., Server]) -> None:
    server = start(PRELOADED)
    seen = []
    for _ in range(10):
        with server.connect() as connection:
            seen.append(json.loads(connection.fetch("GET", "/processes").body))
    for imported, here, opened in seen:
        assert imported != here
        assert opened == here
