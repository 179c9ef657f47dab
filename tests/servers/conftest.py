from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.deployments import ALL, Deployment
from tests.servers.server import Server


def started(deployment: Deployment, folder: Path, *, grace: int = 10) -> Server:
    """A server that answers; skips the test if the deployment needs what is not installed."""
    if deployment.missing is not None:
        pytest.skip(f"{deployment.missing} is not installed")
    return Server(deployment, folder, grace=grace)


@pytest.fixture(scope="session", params=ALL, ids=str)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each deployment in turn; it serves all tests that ask for it, and leaves nothing open."""
    server = started(request.param, tmp_path_factory.mktemp("bank"))
    try:
        yield server
    finally:
        server.stop()
    assert server.books.still_open() == []
    assert server.books.are_exact()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a server for one test alone."""
    servers: list[Server] = []

    def start(deployment: Deployment, *, grace: int = 10) -> Server:
        folder = tmp_path / str(len(servers))
        folder.mkdir()
        servers.append(started(deployment, folder, grace=grace))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """The key of the test's own requests."""
    return f"{request.node.originalname}"
