"""What becomes of commands whose broker cannot be reached, or goes away while they are sent."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from kombu.exceptions import OperationalError

from tests.backends.proxy import Direction, Fault, Proxy
from tests.servers.books import eventually
from tests.workers.deployments import Place
from tests.workers.ledger import Ledger
from tests.workers.worker import START, CommandSender, Relay, ended

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture(scope="module")
def line(place: Place) -> Iterator[Proxy]:
    """What leads to the broker."""
    with Proxy(*place.address) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def far(place: Place, ledger: Ledger, line: Proxy) -> Iterator[CommandSender]:
    """Sends through it."""
    sender = CommandSender(place.at_port(line.port), ledger)
    yield sender
    sender.close()


@pytest.fixture(autouse=True)
def connected(far: CommandSender, line: Proxy) -> Iterator[None]:
    """It is connected, and will be."""
    far.finish("who", "connected")
    yield
    line.arm(None)


def test_send_raises_where_nobody_listens(place: Place, ledger: Ledger, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    sender = CommandSender(place.at_port(port), ledger)
    try:
        with pytest.raises(OperationalError):
            sender.start("add", key)
    finally:
        sender.close()


def test_send_raises_while_the_broker_is_away(ledger: Ledger, far: CommandSender, line: Proxy, key: str) -> None:
    line.hang_up()
    for _ in range(2):
        with pytest.raises(OperationalError):
            far.start("add", key)
    line.arm(None)
    assert far.finish("add", f"{key}-2") == ("SUCCESS", f"{key}-2")
    assert ledger.names(key) == []


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_send_raises_if_the_broker_does_not_say_that_it_has_it(
    ledger: Ledger, far: CommandSender, line: Proxy, key: str, lost: Direction
) -> None:
    """If only its answer was lost, it has, and the command is done."""
    key = f"{key}-{lost}"
    line.arm(Fault(0, lost, lasts=True))
    with pytest.raises(OperationalError):
        far.start("add", key)
    assert line.struck
    line.arm(None)
    assert far.finish("add", f"{key}-later") == ("SUCCESS", f"{key}-later")
    if lost == "reply":
        assert ended(far.app.AsyncResult(key)) == ("SUCCESS", key)
    assert ledger.effects(key) == (lost == "reply")


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_celery_sends_it_again_and_it_is_done_once(
    ledger: Ledger, far: CommandSender, line: Proxy, key: str, lost: Direction
) -> None:
    key = f"{key}-{lost}"
    line.arm(Fault(0, lost))
    result = far.start("add", key)
    assert line.struck
    assert ended(result) == ("SUCCESS", key)
    if lost == "reply":
        eventually(lambda: "rolled-back" in ledger.names(key), "the second one is dropped")
    assert ledger.effects(key) == 1


def test_what_is_sent_on_commit_is_logged_and_lost(
    ledger: Ledger, far: CommandSender, line: Proxy, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    line.hang_up()
    with far.manager.context() as context:
        context.dal.effects.note(key)
        far.command("add", f"{key}-child").send_on_commit(id=f"{key}-child")
    assert context.outcome == "committed"
    assert "OperationalError" in caplog.text
    line.arm(None)
    assert far.finish("add", f"{key}-later")[0] == "SUCCESS"
    assert ledger.effects(key) == 1
    assert ledger.names(f"{key}-child") == []


def test_the_outbox_keeps_it_until_the_broker_is_back(
    place: Place, ledger: Ledger, far: CommandSender, line: Proxy, key: str
) -> None:
    line.hang_up()
    relay = Relay(place.at_port(line.port), ledger)
    try:
        with far.manager.context() as context:
            context.dal.effects.note(key)
            context.enqueue(far.command("add", f"{key}-child"), id=f"{key}-child", reliable=True)
        with far.manager.context() as context:
            context.enqueue(far.command("add", f"{key}-dropped"), id=f"{key}-dropped", reliable=True)
            context.set_rollback_only()
        outbox = far.manager.dispatch.outbox
        eventually(
            lambda: any(entry.attempts for entry in outbox.entries(far.manager)), "the relay has tried", within=START
        )
        assert ledger.names(f"{key}-child") == []
        line.arm(None)
        assert ended(far.app.AsyncResult(f"{key}-child")) == ("SUCCESS", f"{key}-child")
        eventually(lambda: outbox.entries(far.manager) == [], "the outbox is empty")
    finally:
        relay.stop()
    assert ledger.effects(f"{key}-child") == 1
    assert ledger.names(f"{key}-dropped") == []
