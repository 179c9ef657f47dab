"""SIGTERM with a request in flight."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.servers.deployments import FLASK, STARLETTE, UVICORN_THREADED, WSGI, Deployment
from tests.servers.server import Server
from tests.servers.wire import BrokenOff


@pytest.mark.parametrize("deployment", [STARLETTE[0], UVICORN_THREADED, STARLETTE[2], *FLASK[:2], *WSGI], ids=str)
def test_34_a_request_in_flight_comes_to_its_end(start: Callable[..., Server], deployment: Deployment) -> None:
    server = start(deployment)
    with server.connect() as connection:
        connection.ask("POST", "/transfer?key=flight&gate=flight")
        server.books.wait_for("db.open", "flight")
        server.terminate()
        server.books.open_gate("flight")
        answer = connection.answer()
    assert (answer.status, answer.body) == (200, b"transferred")
    assert server.books.is_kept("flight")
    server.wait_until_gone()
    assert server.books.still_open() == []


def test_34_what_hypercorn_cancels_is_rolled_back_and_answered_so(start: Callable[..., Server]) -> None:
    """It may let a request end, or cancel it; the answer and the books agree."""
    server = start(STARLETTE[1], grace=1)
    server.expect("CancelledError")
    with server.connect() as connection:
        connection.ask("POST", "/transfer?key=flight&gate=flight")
        server.books.wait_for("db.open", "flight")
        server.terminate()
        server.books.open_gate("flight")
        try:
            status = connection.answer().status
        except BrokenOff:
            status = 0
    server.wait_until_gone()
    assert server.books.is_kept("flight") == (status == 200)
    assert server.books.still_open() == []


def test_34_uvicorn_out_of_patience_rolls_it_back_before_the_application_shuts_down(
    start: Callable[..., Server],
) -> None:
    server = start(STARLETTE[0], grace=1)
    server.expect("CancelledError")
    with server.connect() as connection:
        connection.ask("POST", "/transfer?key=slow&gate=never")
        server.books.wait_for("db.open", "slow")
        server.terminate()
        with pytest.raises(BrokenOff):
            assert connection.answer().status == 500
            raise BrokenOff
        server.wait_until_gone()
    assert server.books.names("slow") == ["db.open", "db.rollback", "db.close"]
    assert [event.name for event in server.books.events()][-2:] == ["db.close", "shutdown"]
    assert not server.books.is_kept("slow")
    assert server.books.are_exact()
