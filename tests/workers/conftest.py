from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workers.deployments import ALL, Deployment
from tests.workers.worker import BankWorker, Sender


@pytest.fixture(scope="module", params=ALL, ids=str)
def worker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BankWorker]:
    """Each deployment in turn; it serves all tests that ask for it."""
    worker = BankWorker(request.param, tmp_path_factory.mktemp("bank"))
    try:
        worker.wait_until_ready()
        yield worker
    finally:
        worker.stop()


@pytest.fixture(scope="module")
def sender(worker: BankWorker) -> Iterator[Sender]:
    sender = Sender(worker.place)
    yield sender
    sender.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., BankWorker]]:
    """Start a worker for one test alone."""
    workers: list[BankWorker] = []

    def start(deployment: Deployment, **more: str) -> BankWorker:
        folder = tmp_path / str(len(workers))
        folder.mkdir()
        workers.append(BankWorker(deployment, folder, **more))
        return workers[-1]

    yield start
    for worker in workers:
        worker.stop()


@pytest.fixture
def key(request: pytest.FixtureRequest, worker: BankWorker) -> str:
    """The key of the test's own transfers, and the id of its task."""
    return f"{worker.place.name}-{request.node.originalname}"
