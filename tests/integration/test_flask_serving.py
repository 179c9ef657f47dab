"""flask_polydatum behind a real server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from werkzeug.serving import make_server

import flask_polydatum
from flask_polydatum import stream_context
from polydatum.testing.shop import Shop
from tests.contract.flask_hosts import current_flask_request


@pytest.fixture
def app(shop: Shop) -> flask.Flask:
    app = flask.Flask("shop")
    flask_polydatum.init_app(app, shop.dm)
    return app


@pytest.fixture
def port(app: flask.Flask) -> Iterator[int]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def ask(port: int, path: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.sendall(f"GET {path} HTTP/1.0\r\nHost: testserver\r\n\r\n".encode())
    return connection


def test_18_when_the_client_leaves_a_stream_its_resources_close_within_a_second(
    shop: Shop, app: flask.Flask, port: int
) -> None:
    ended = threading.Event()

    @app.get("/export")
    def export() -> flask.Response:
        request = current_flask_request()

        def rows() -> Iterator[bytes]:
            try:
                with stream_context(request) as context:
                    shop.contexts.append(context)
                    context.dal.items.add("half")
                    while True:
                        yield b"row\n" * 10_000
            finally:
                ended.set()

        return flask.Response(rows())

    connection = ask(port, "/export")
    assert connection.recv(15) == b"HTTP/1.1 200 OK"
    left = time.monotonic()
    connection.close()
    assert ended.wait(5)
    assert time.monotonic() - left < 1
    assert shop.log == ["db open", "db saw GeneratorExit", "db rollback", "db close"]
    assert shop.names == []
    assert shop.outcomes == ["rolled_back"]


@pytest.mark.parametrize("fails", [False, True])
def test_01_02_the_commit_is_over_when_the_client_gets_the_first_byte(
    shop: Shop, app: flask.Flask, port: int, fails: bool
) -> None:
    if fails:
        shop.fail("db commit", RuntimeError("disk full"))
    go_on = threading.Event()

    @app.get("/add")
    def add() -> Any:
        current_flask_request().dal.items.add("tea")

        def body() -> Iterator[bytes]:
            yield b"one "
            go_on.wait(5)
            yield b"two"

        return flask.Response(body(), headers={"X-Own": "1"})

    with ask(port, "/add") as connection:
        start = connection.recv(15)
        assert start == (b"HTTP/1.1 500 IN" if fails else b"HTTP/1.1 200 OK")
        assert shop.names == ([] if fails else ["tea"])
        assert shop.log[-1] == "db close"
        go_on.set()
        rest = b"".join(iter(lambda: connection.recv(4096), b""))
    assert (b"two" in rest) is not fails
    assert (b"X-Own" in rest) is not fails
