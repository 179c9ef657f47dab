from __future__ import annotations

import pytest

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
