"""`python -m shop.serve` really serves: a process of its own, on a free port, stopped by a signal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.journals import whole_lines
from tests.servers.books import eventually
from tests.services import url_of

ROOT = Path(__file__).parents[2]
HOSTS = ["starlette", "fastapi", "flask", "django"]
CUP, CUPS_IN_STOCK = 2, 24
DEADLINE = 60


def command(*arguments: str) -> tuple[list[str], dict[str, str]]:
    paths = [str(ROOT / folder) for folder in ("src", "integrations", "example_apps")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "error"}
    return [sys.executable, "-m", "shop.serve", *arguments], environment


class ServedShop:
    """A shop behind HTTP."""

    def __init__(self, process: subprocess.Popen[str], greeting: str, url: str) -> None:
        self.process = process
        self.greeting = greeting
        self.url = url

    def ask(self, path: str, lines: dict[int, int] | None = None) -> tuple[int, str]:
        body = None
        if lines is not None:
            wanted = [{"item_id": item_id, "quantity": quantity} for item_id, quantity in lines.items()]
            body = json.dumps({"lines": wanted}).encode()
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def cups(self) -> int:
        _, item = self.ask(f"/items/{CUP}")
        stock: int = json.loads(item)["stock"]
        return stock

    def stop(self, signum: signal.Signals) -> tuple[int, str]:
        """Stop it; its exit code and all that it logged."""
        self.process.send_signal(signum)
        _, log = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, log


@contextlib.contextmanager
def serving(host: str, *arguments: str, **variables: str) -> Iterator[ServedShop]:
    """A server that is ready: it listens before it prints its address."""
    words, environment = command("--app", host, "--port", "0", *arguments)
    environment.update(variables)
    with subprocess.Popen(
        words, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        watchdog = threading.Timer(DEADLINE, process.kill)  # ends what waits for a line that never comes
        watchdog.start()
        try:
            assert process.stdout is not None
            greeting = ""
            while "confirmations.log" not in greeting:
                line = process.stdout.readline()
                assert line, f"it ended: {process.communicate()}"
                greeting += line
            found = re.search(r"http://127\.0\.0\.1:\d+", greeting)
            assert found is not None
            yield ServedShop(process, greeting, found[0])
        finally:
            process.terminate()
            process.wait()
            watchdog.cancel()


@pytest.mark.parametrize("host", HOSTS)
def test_it_serves_and_stops_on_ctrl_c(host: str, tmp_path: Path) -> None:
    with serving(host, "--folder", str(tmp_path / "made" / "by it")) as shop:
        assert shop.ask("/items")[0] == 200
        assert shop.ask("/orders", {CUP: 2})[0] == 201
        assert shop.ask("/orders", {CUP: 1, 3: 9})[0] == 409
        assert shop.ask("/orders", {CUP: 1, 99: 1})[0] == 404
        assert shop.ask("/orders/broken", {CUP: 2})[0] == 500
        assert shop.cups() == CUPS_IN_STOCK - 2
        assert shop.ask("/orders/2")[0] == 404
        code, log = shop.stop(signal.SIGINT)
    assert code == 0
    assert "KeyboardInterrupt" not in log
    assert "Warning" not in log
    assert log.count("Traceback") == log.count("sqlite3.IntegrityError: FOREIGN KEY constraint failed") == 1
    confirmed = (tmp_path / "made" / "by it" / "confirmations.log").read_text()
    assert confirmed == "order 1 confirmed, 12.00 to pay\n"


@pytest.mark.parametrize("host", HOSTS)
def test_the_last_cups_are_sold_once_however_many_want_them(host: str) -> None:
    with serving(host) as shop, ThreadPoolExecutor(12) as customers:
        answers = list(customers.map(lambda _: shop.ask("/orders", {CUP: 3})[0], range(12)))
        assert sorted(answers) == [201] * 8 + [409] * 4
        assert shop.cups() == 0


def test_the_temporary_folder_goes_when_it_is_told_to_terminate() -> None:
    with serving("starlette") as shop:
        found = re.search(r"cat (.+)/confirmations\.log", shop.greeting)
        assert found is not None
        assert Path(found[1], "shop.db").exists()
        code, log = shop.stop(signal.SIGTERM)
        assert (code, "Traceback" in log) == (0, False)
        assert not Path(found[1]).exists()


@pytest.mark.parametrize("broker", ["filesystem", "rabbitmq"])
def test_a_worker_confirms_what_was_committed_and_nothing_else(broker: str, tmp_path: Path) -> None:
    url = "filesystem://" if broker == "filesystem" else url_of(broker)
    log = tmp_path / "confirmations.log"
    # Celery warns of running as root, in a container, and of Redis.
    with serving("flask", "--folder", str(tmp_path), "--broker", url, PYTHONWARNINGS="default") as shop:
        assert shop.ask("/orders", {CUP: 2})[0] == 201
        assert shop.ask("/orders/broken", {CUP: 2})[0] == 500
        assert shop.ask("/orders", {CUP: 1, 3: 9})[0] == 409
        assert shop.ask("/orders", {CUP: 1})[0] == 201
        eventually(lambda: len(whole_lines(log)) == 2, "two confirmations", within=DEADLINE)
        code, printed = shop.stop(signal.SIGINT)
    assert code == 0
    assert printed.count("dal.orders.confirm returned") == 2
    assert sorted(whole_lines(log)) == ["order 1 confirmed, 12.00 to pay", "order 2 confirmed, 6.00 to pay"]


def refused(*arguments: str) -> tuple[int, str]:
    """The exit code and the message of a server that does not start."""
    words, environment = command(*arguments)
    ended = subprocess.run(words, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=DEADLINE)
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stderr


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, message = refused("--port", str(port))
    assert code == 1
    assert (
        f"Cannot listen on 127.0.0.1:{port}: Address already in use. Try another: make demo-shop PORT=8001\n" in message
    )


def test_a_host_that_is_unknown_is_answered_with_those_that_are_known() -> None:
    code, message = refused("--app", "bottle")
    assert code == 2
    assert all(host in message for host in ["bottle", *HOSTS])


def test_a_number_that_is_no_port_is_refused() -> None:
    code, message = refused("--port", "80000")
    assert (code, "not a port number" in message) == (2, True)
