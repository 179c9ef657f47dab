"""Serve the shop in one of its hosts: ``python -m shop.serve --app flask --port 8001``.

With ``--broker``, it also starts a Celery worker, which confirms the orders.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, NamedTuple

from shop.layer import ShopManager, make_data_manager

HOST = "127.0.0.1"

TOUR = """\
Try in another terminal, in this order:

  # What there is: 5 teapots, 24 cups, 3 packets of tea.
  curl -iw '\\n' {url}/items

  # Two teapots and two cups. Answer: 201, order 1.
  curl -iw '\\n' {url}/orders -H 'Content-Type: application/json' -d '{two_lines}'

  # A cup, and nine packets of tea. Answer: 409, and the cup is back in the stock.
  curl -iw '\\n' {url}/orders -H 'Content-Type: application/json' -d '{out_of_stock}'

  # An item that nobody sells. Answer: 404, by a service that raised NotFound.
  curl -iw '\\n' {url}/orders -H 'Content-Type: application/json' -d '{unknown_item}'

  # Every statement succeeds, the view returns a 201, then COMMIT fails. Answer: 500, and the error is in this window.
  curl -iw '\\n' {url}/orders/broken -H 'Content-Type: application/json' -d '{two_lines}'

  # Nothing of the last three was kept: 3 teapots, 22 cups, 3 packets; no order 2 (404); one confirmation, of order 1.
  curl -iw '\\n' {url}/items {url}/orders/2
  cat {confirmations}
"""
WORKER_TOUR = """\
Orders are confirmed by a Celery worker over {broker}; its lines here begin with the time. It gets the command
orders.confirm when an order has been committed (the 201), and nothing when a request rolls back (409, 404, 500).
"""
TWO_LINES = '{"lines": [{"item_id": 1, "quantity": 2}, {"item_id": 2, "quantity": 2}]}'
OUT_OF_STOCK = '{"lines": [{"item_id": 2, "quantity": 1}, {"item_id": 3, "quantity": 9}]}'
UNKNOWN_ITEM = '{"lines": [{"item_id": 99, "quantity": 1}]}'


class Server(NamedTuple):
    """A server for an application."""

    run: Callable[[], None]  # returns when stopped
    stop: Callable[[], None]  # safe in a signal handler, at any time


def asgi_server(app: Any, listener: socket.socket) -> Server:
    import uvicorn

    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # not each step of its start and stop
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level=None))
    return Server(partial(server.run, [listener]), partial(setattr, server, "should_exit", True))


def wsgi_server(app: Any, listener: socket.socket) -> Server:
    from werkzeug.serving import make_server

    _, port = listener.getsockname()
    server = make_server(HOST, port, app, threaded=True, fd=listener.fileno())
    # shutdown() waits for the loop to end, so the loop's own thread must not call it.
    return Server(server.serve_forever, lambda: Thread(target=server.shutdown).start())


SERVERS: dict[str, Callable[[Any, socket.socket], Server]] = {
    "starlette": asgi_server,
    "fastapi": asgi_server,
    "flask": wsgi_server,
    "django": asgi_server,
}


def main() -> None:
    """Serve the shop until Ctrl-C."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    with (
        contextlib.suppress(KeyboardInterrupt),
        listening(arguments.port, "make demo-shop") as listener,
        TemporaryDirectory(prefix="polydatum-shop-") as temporary,
    ):
        serve(arguments.app, listener, arguments.folder or Path(temporary), arguments.broker)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m shop.serve", description="Serve the demo shop.")
    parser.add_argument("--app", choices=SERVERS, default="starlette", help="the host (default: starlette)")
    parser.add_argument("--port", type=port_number, default=8000, help="default: 8000; 0 for any that is free")
    parser.add_argument("--folder", type=Path, help="where the shop keeps its files (default: a temporary folder)")
    parser.add_argument(
        "--broker", metavar="URL", help="confirm orders by a Celery worker; filesystem:// needs no server"
    )
    return parser.parse_args()


def port_number(text: str) -> int:
    """Parse a port number."""
    if not (text.isascii() and text.isdigit() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number (0 to 65535)")
    return int(text)


@contextlib.contextmanager
def listening(port: int, command: str) -> Iterator[socket.socket]:
    """A listening socket; if the port is not available, exits with a message that says how to choose another."""
    try:
        listener = socket.create_server((HOST, port), backlog=128)
    except OSError as error:
        sys.exit(f"Cannot listen on {HOST}:{port}: {os.strerror(error.errno or 0)}. Try another: {command} PORT=8001")
    with listener:
        yield listener


def serve(name: str, listener: socket.socket, folder: Path, broker: str | None = None) -> None:
    """Serve a folder's shop in the named host; with a worker, if there is a broker."""
    folder.mkdir(parents=True, exist_ok=True)
    dm = make_data_manager(folder)
    app = importlib.import_module(f"shop.{name}_app").make_app(dm)
    server = SERVERS[name](app, listener)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    with working(dm, folder, broker) if broker else contextlib.nullcontext():
        print_tour(name, f"http://{HOST}:{listener.getsockname()[1]}", folder, broker)
        server.run()


@contextlib.contextmanager
def working(dm: ShopManager, folder: Path, broker: str) -> Iterator[None]:
    """Run a worker for the shop's commands in a separate process."""
    from shop.celery_app import make_celery_app

    make_celery_app(dm, folder, broker)
    words = "-m celery -A shop.worker --quiet worker --concurrency=2 --loglevel=INFO"
    alone = "--without-gossip --without-mingle --without-heartbeat"  # there are no other workers
    worker = subprocess.Popen(
        [sys.executable, *words.split(), *alone.split()],
        env={**os.environ, "SHOP_FOLDER": str(folder), "SHOP_BROKER": broker},
        start_new_session=True,  # only we get Ctrl-C; the worker is terminated after the last request was answered
    )
    try:
        yield
    finally:
        worker.terminate()
        worker.wait()


def print_tour(name: str, url: str, folder: Path, broker: str | None) -> None:
    """Print what to try, and what to expect."""
    print(f"The shop is open at {url}, served by {name}. Ctrl-C closes it.\n")
    if broker:
        print(WORKER_TOUR.format(broker=broker.partition("@")[2] or broker))
    tour = TOUR.format(
        url=url,
        two_lines=TWO_LINES,
        out_of_stock=OUT_OF_STOCK,
        unknown_item=UNKNOWN_ITEM,
        confirmations=folder / "confirmations.log",
    )
    print(tour, flush=True)


if __name__ == "__main__":
    main()
