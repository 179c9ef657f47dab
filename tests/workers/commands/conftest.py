from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.servers.books import eventually
from tests.workers.deployments import COMMANDS, Deployment, Place
from tests.workers.ledger import Ledger
from tests.workers.worker import CommandSender, CommandWorker, new_place


@pytest.fixture(scope="module", params=COMMANDS, ids=str)
def deployment(request: pytest.FixtureRequest) -> Deployment:
    """Each in turn."""
    found: Deployment = request.param
    return found


@pytest.fixture(scope="module")
def place(deployment: Deployment) -> Iterator[Place]:
    """Where no message is left in the end."""
    place = new_place(deployment)
    yield place
    assert place.delete() == 0


@pytest.fixture(scope="module")
def ledger(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path_factory.mktemp("commands"), place.name)
    yield ledger
    ledger.drop()


@pytest.fixture(scope="module")
def sender(place: Place, ledger: Ledger) -> Iterator[CommandSender]:
    sender = CommandSender(place, ledger)
    yield sender
    sender.close()


@pytest.fixture
def start(place: Place, ledger: Ledger) -> Iterator[Callable[..., CommandWorker]]:
    """Start one more for one test alone."""
    workers: list[CommandWorker] = []

    def start(deployment: Deployment, at: Place = place, **more: str) -> CommandWorker:
        workers.append(CommandWorker(deployment, at, ledger, **more))
        workers[-1].wait_until_ready()
        return workers[-1]

    yield start
    for worker in workers:
        worker.stop()
    eventually(lambda: not ledger.connections(), "their connections are gone")


@pytest.fixture(scope="module")
def worker(deployment: Deployment, place: Place, ledger: Ledger, sender: CommandSender) -> Iterator[CommandWorker]:
    """It serves all tests of a module that ask for it."""
    worker = CommandWorker(deployment, place, ledger)
    try:
        worker.wait_until_ready()
        yield worker
    finally:
        worker.stop()
    eventually(lambda: not ledger.connections(), "its connections are gone")


@pytest.fixture
def key(request: pytest.FixtureRequest, place: Place) -> str:
    """The key of the test's own commands, and the id of its message."""
    return f"{place.name}-{request.node.originalname}"
