"""Many clients, and clients that leave."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.servers.books import eventually
from tests.servers.deployments import CLIENTS, GUNICORN_ASGI, STARLETTE, Deployment
from tests.servers.server import Server


def test_12_two_hundred_clients_at_once_never_see_each_other(server: Server) -> None:
    keys = [f"crowd{number}" for number in range(CLIENTS)]

    def ask(key: str) -> tuple[int, bytes]:
        with server.connect() as connection:
            answer = connection.fetch("GET", f"/who?key={key}&gate=crowd")
        return answer.status, answer.body

    def inside() -> int:
        return len([event for event in server.books.events() if event.name == "visitor.open" and event.key in wanted])

    wanted = set(keys)
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = [clients.submit(ask, key) for key in keys]
        eventually(lambda: inside() >= server.deployment.at_once, "the endpoints are full")
        server.books.open_gate("crowd")
        found = [answer.result() for answer in answers]
    assert found == [(200, f"{key} {key} {key} {key}".encode()) for key in keys]
    for key in keys:
        assert server.books.names(key) == ["visitor.open", "visitor.commit", "visitor.close"]


def test_18_a_client_that_leaves_a_stream_ends_its_context(server: Server) -> None:
    if not server.deployment.streams:
        pytest.skip("a body is read to its end before any of it goes out")
    with server.connect() as connection:
        connection.ask("GET", "/stream?key=cut")
        assert connection.head().status == 200
        connection.until(b"cut cut")
        assert server.books.names("cut") == ["visitor.open"]
        connection.reset()
    assert server.books.wait_for("visitor.close", "cut") < 3.0  # within 1 s, on a machine with nothing else to do


def leave(server: Server) -> None:
    """A client asks for a transfer and is gone before it is answered."""
    with server.connect() as connection:
        connection.ask("POST", "/transfer?key=gone&gate=gone")
        server.books.wait_for("db.open", "gone")
        connection.reset()


@pytest.mark.parametrize("deployment", STARLETTE[:1], ids=str)
def test_35_uvicorn_finishes_what_a_client_has_left(start: Callable[..., Server], deployment: Deployment) -> None:
    server = start(deployment)
    leave(server)
    server.books.open_gate("gone")
    server.books.wait_for("db.close", "gone")
    assert server.books.is_kept("gone")


def test_35_gunicorn_without_grace_rolls_it_back(start: Callable[..., Server]) -> None:
    server = start(GUNICORN_ASGI)
    leave(server)
    server.books.wait_for("db.close", "gone")
    assert server.books.names("gone") == ["db.open", "db.rollback", "db.close"]
    assert not server.books.is_kept("gone")
