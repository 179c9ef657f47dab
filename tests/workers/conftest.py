from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workers.deployments import ALL, Deployment
from tests.workers.worker import Sender, Worker


@pytest.fixture(scope="module", params=ALL, ids=str)
def worker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Each deployment in turn; it serves all tests that ask for it."""
    worker = Worker(request.param, tmp_path_factory.mktemp("bank"))
    try:
        worker.wait_until_ready()
        yield worker
    finally:
        worker.stop()


@pytest.fixture(scope="module")
def sender(worker: Worker) -> Iterator[Sender]:
    sender = Sender(worker)
    yield sender
    sender.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Start a worker for one test alone."""
    workers: list[Worker] = []

    def start(deployment: Deployment, **more: str) -> Worker:
        folder = tmp_path / str(len(workers))
        folder.mkdir()
        workers.append(Worker(deployment, folder, **more))
        return workers[-1]

    yield start
    for worker in workers:
        worker.stop()


@pytest.fixture
def key(request: pytest.FixtureRequest, worker: Worker) -> str:
    """The key of the test's own transfers, and the id of its task."""
    return f"{worker.place.name}-{request.node.originalname}"
