"""What the clients of a server see: commits, streams, a crowd; and what becomes of those who leave.

It is one module, since a process that runs it starts each server once for all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.servers.books import eventually
from tests.servers.deployments import CLIENTS, DJANGO_ASYNC, FLASK, GUNICORN_ASGI, STARLETTE, WSGI, Deployment
from tests.servers.server import Server
from tests.servers.wire import BrokenOff


def test_01_a_failed_commit_is_a_500_without_anything_of_the_endpoint(server: Server) -> None:
    with server.connect() as connection:
        answer = connection.fetch("POST", "/transfer?key=fails&fail=commit")
    assert answer.status == 500
    assert "x-endpoint" not in answer.headers
    assert "set-cookie" not in answer.headers
    assert b"transferred" not in answer.body
    assert server.books.names("fails") == ["db.open", "db.close"]
    assert not server.books.is_kept("fails")
    assert server.books.are_exact()


def test_01_the_next_request_after_a_failed_commit_is_served(server: Server) -> None:
    with server.connect() as connection:
        assert connection.fetch("POST", "/transfer?key=first&fail=commit").status == 500
    with server.connect() as connection:  # most servers close a connection whose application has raised
        answer = connection.fetch("POST", "/transfer?key=second")
    assert (answer.status, answer.body) == (200, b"transferred")
    assert answer.headers["x-endpoint"] == "transfer"
    assert (server.books.is_kept("first"), server.books.is_kept("second")) == (False, True)


@pytest.mark.parametrize("deployment", [FLASK[0], WSGI[0], STARLETTE[0]], ids=str)
def test_01_an_answer_that_the_server_refuses_keeps_nothing(
    start: Callable[..., Server], deployment: Deployment
) -> None:
    server = start(deployment)
    server.expect("UnsendableAnswerError: this answer cannot be sent: the header ")
    with server.connect() as connection:
        assert connection.fetch("POST", "/unsendable?key=unsent").status == 500
    assert server.books.names("unsent") == ["db.open", "db.rollback", "db.close"]


def test_02_a_connection_serves_on_after_a_commit(server: Server) -> None:
    if not server.deployment.keeps_alive:
        pytest.skip("a connection serves one request")
    with server.connect() as connection:
        answers = [connection.fetch("POST", f"/transfer?key=kept{number}") for number in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    assert all(server.books.is_kept(f"kept{number}") for number in range(3))


def test_02_the_commit_is_over_before_the_first_byte(server: Server) -> None:
    with server.connect() as connection:
        connection.ask("POST", "/transfer?key=prompt")
        assert connection.head().status == 200
        assert server.books.names("prompt") == ["db.open", "db.commit", "db.close"]


def test_17_the_commit_is_over_before_a_stream_begins(server: Server) -> None:
    if not server.deployment.streams:
        pytest.skip("a body is read to its end before any of it goes out")
    server.expect("ContextClosedError")  # its body uses the DAL of a request which has ended
    with server.connect() as connection:
        connection.ask("POST", "/late?key=late")
        assert connection.head().status == 200
        assert server.books.names("late") == ["db.open", "db.commit", "db.close"]
        connection.until(b"first")
        try:
            rest = connection.until(b"late")  # what the DAL would have given
        except BrokenOff:
            rest = b""
    assert rest == b""
    assert server.books.is_kept("late")


def test_17_a_stream_whose_commit_failed_does_not_begin(server: Server) -> None:
    with server.connect() as connection:
        answer = connection.fetch("POST", "/late?key=never&fail=commit")
    assert answer.status == 500
    assert "x-endpoint" not in answer.headers
    assert b"first" not in answer.body
    assert not server.books.is_kept("never")


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


def expect_rollback(server: Server) -> None:
    server.books.wait_for("db.close", "gone")
    assert server.books.names("gone") == ["db.open", "db.rollback", "db.close"]
    assert not server.books.is_kept("gone")


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
    expect_rollback(server)


def test_49_django_on_uvicorn_rolls_back_what_a_client_has_left(start: Callable[..., Server]) -> None:
    server = start(DJANGO_ASYNC)
    leave(server)
    expect_rollback(server)
