"""A worker ends, told to or killed: what it has begun and what it has not is done, by another one if need be, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.backends.proxy import Proxy
from tests.servers.books import eventually
from tests.workers.deployments import Deployment, Place
from tests.workers.ledger import Ledger
from tests.workers.phases import COMMITTED, COMMITTING, End, end_of, stopped_in_each_phase
from tests.workers.worker import CommandSender, CommandWorker, ended, new_place

Start = Callable[..., CommandWorker]
POOLS = [Deployment("prefork", "rabbitmq", 5), Deployment("threads", "redis", 5)]

pytestmark = pytest.mark.parametrize("deployment", POOLS, ids=str, indirect=True, scope="module")


@pytest.fixture(scope="module")
def place(deployment: Deployment) -> Iterator[Place]:
    """RabbitMQ sees that a worker is gone; Redis has to be told when to give up hope."""
    place = replace(new_place(deployment), visible=1)
    yield place
    assert place.delete() == 0


def test_another_worker_does_what_a_killed_one_has_begun(
    deployment: Deployment, start: Start, place: Place, ledger: Ledger, sender: CommandSender, key: str
) -> None:
    """In whatever phase."""
    worker = start(deployment)
    with stopped_in_each_phase(ledger, sender, key) as keys:
        worker.kill()
    eventually(place.is_overdue, "it is another one's")
    start(deployment)
    for phase, of in keys.items():
        result = None if phase in (COMMITTING, COMMITTED) else of
        assert (phase, end_of(ledger, sender, of)) == (phase, End("SUCCESS", result, 1, ["-", "redelivered"]))
    eventually(
        lambda: len(ledger.connections()) <= deployment.concurrency, "the connections of the killed one are gone"
    )


def test_a_warm_shutdown_ends_what_runs_and_leaves_the_rest_to_others(
    deployment: Deployment, start: Start, ledger: Ledger, sender: CommandSender, key: str
) -> None:
    worker = start(deployment)
    running = [f"{key}-{number}" for number in range(deployment.concurrency)]
    results = [sender.start("add", one, stops="wrote") for one in running]
    for one in running:
        ledger.wait_for("wrote", one)
    results += [sender.start("add", f"{key}-waiting")]
    worker.terminate()
    for one in running:
        ledger.open_gate(one)
    assert worker.wait_until_gone() == 0
    assert ledger.names(f"{key}-waiting") == []
    start(deployment)
    for one, result in zip((*running, f"{key}-waiting"), results, strict=True):
        assert ended(result) == ("SUCCESS", one)
        assert ledger.effects(one) == 1


def test_what_outlasts_the_visibility_timeout_of_redis_is_done_once(
    deployment: Deployment, start: Start, place: Place, ledger: Ledger, sender: CommandSender, key: str
) -> None:
    """Redis gives it to another worker as well, which waits for the first one."""
    if deployment.broker != "redis":
        pytest.skip("RabbitMQ sees that the worker lives")
    start(deployment)
    result = sender.start("add", key, stops="wrote")
    ledger.wait_for("wrote", key)
    eventually(place.is_overdue, "it is another one's")
    start(deployment)
    eventually(lambda: ledger.names(key).count("begun") == 2, "it is given to another one")
    ledger.open_gate(key)
    assert ended(result) == ("SUCCESS", key)
    ledger.wait_for("rolled-back", key)
    assert ledger.effects(key) == 1


def test_a_worker_that_loses_its_broker_goes_on_and_what_is_delivered_again_is_done_once(
    deployment: Deployment, start: Start, place: Place, ledger: Ledger, sender: CommandSender, key: str
) -> None:
    if deployment.broker != "rabbitmq":
        pytest.skip("Redis does not notice")
    with Proxy(*place.address) as line:
        worker = start(deployment, place.at_port(line.port))
        result = sender.start("add", key, stops="wrote")
        ledger.wait_for("wrote", key)
        line.hang_up()
        line.arm(None)
        eventually(lambda: ledger.names(key).count("begun") == 2, "it is delivered again")
        ledger.open_gate(key)
        assert ended(result) == ("SUCCESS", key)
        ledger.wait_for("rolled-back", key)
        assert ledger.effects(key) == 1
        worker.stop()


def test_a_command_whose_retry_cannot_be_sent_is_delivered_again(
    deployment: Deployment, start: Start, place: Place, ledger: Ledger, sender: CommandSender, key: str
) -> None:
    with Proxy(*place.address) as line:
        start(deployment, CELERY_BROKER_WRITE_URL=place.at_port(line.port).broker)
        line.hang_up()
        result = sender.start("conflict", key)
        eventually(lambda: ledger.names(key).count("begun") == 2, "it is delivered again")
        assert result.state == "RETRY"
        line.arm(None)
        assert ended(result) == ("SUCCESS", 1)
    assert ledger.effects(key) == 1
