"""Runs one stack, and collects its answers and the rows in the file."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.truth import bank
from tests.truth.checks import TASKS, WEB, Check, Observed, in_order
from tests.truth.stacks import Stack

ROOT = Path(__file__).parents[2]
START, STOP = 30.0, 15.0
SHOWN = 30
"""The number of log lines shown in a failure."""
SERVERS = {
    "uvicorn": ("uvicorn", "--port", "0", "--no-access-log"),
    "gunicorn": (
        *("gunicorn", "--worker-class", "gthread", "--threads", "4", "--bind", "127.0.0.1:0"),
        "--no-control-socket",
    ),
}


class StackFailed(Exception):
    """A stack did not start, or its controls failed, so that its results say nothing."""


def observe(stack: Stack, folder: Path) -> dict[str, Observed]:
    """The results of all checks of a stack. ``folder`` has to be empty; it receives the file and the log.

    Raises:
        StackFailed: if the stack does not run properly.
    """
    path = folder / "bank.db"
    bank.make(path)
    if stack.is_tasks:
        answers = _run_tasks(stack, folder)
        checks: Sequence[Check] = TASKS
    else:
        with _server(stack, folder) as port:
            answers = {check.name: _ask(port, check) for check in in_order(WEB)}
        checks = WEB
    rows = bank.kept(path)  # includes commits after the answer, as the process has ended
    seen = {
        check.name: Observed(answer, rows.get(check.name, 0), lines, complete)
        for check in checks
        for answer, lines, complete in [answers[check.name]]
    }
    for check in checks:
        if check.control and not check.is_right(seen[check.name]):
            raise StackFailed(f"{stack.name}: {check.name}: {seen[check.name]}\n{_end_of_log(folder)}")
    return seen


Answer = tuple["int | str | None", int, bool]
"""Status or state, lines of the body, whether it was complete."""


def _ask(port: int, check: Check) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START)
    body, complete = b"", True
    try:
        if check.name == "streamed":
            connection.request("GET", "/names")
        else:
            connection.request("POST", f"/pay/{check.name}")
        response = connection.getresponse()
    except (http.client.HTTPException, ConnectionError):
        return None, 0, False
    else:
        try:
            body = response.read()
        except http.client.IncompleteRead as cut:
            body, complete = cut.partial, False
        except ConnectionError:
            complete = False
        is_ours = response.status < 400
        return response.status, body.count(b"\n") if is_ours else 0, complete
    finally:
        connection.close()


def _run_tasks(stack: Stack, folder: Path) -> dict[str, Answer]:
    command = [sys.executable, "-m", f"tests.truth.apps.{stack.module}"]
    with (folder / "log").open("wb") as log:
        finished = subprocess.run(
            command, env=_environment(folder), stdout=subprocess.PIPE, stderr=log, timeout=START, check=False
        )
    if finished.returncode:
        raise StackFailed(f"{stack.name} ended with {finished.returncode}\n{_end_of_log(folder)}")
    return {name: (state, 0, True) for name, state in json.loads(finished.stdout).items()}


@contextmanager
def _server(stack: Stack, folder: Path) -> Iterator[int]:
    name, *options = SERVERS[stack.server]
    command = [sys.executable, "-m", name, f"tests.truth.apps.{stack.module}:app", *options]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=_environment(folder), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield _wait_for_port(stack, process, folder)
    finally:
        process.terminate()
        try:
            process.wait(STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_port(stack: Stack, process: subprocess.Popen[bytes], folder: Path) -> int:
    deadline = time.monotonic() + START
    while process.poll() is None and time.monotonic() < deadline:
        address = re.search(r"http://127\.0\.0\.1:([1-9]\d*)", _log(folder))
        if address is not None:
            return int(address[1])
        time.sleep(0.02)
    raise StackFailed(f"{stack.name} did not start\n{_end_of_log(folder)}")


def _environment(folder: Path) -> dict[str, str]:
    paths = [str(ROOT / "src"), str(ROOT / "integrations"), str(ROOT)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "TRUTH_DATABASE": str(folder / "bank.db"),
    }


def _log(folder: Path) -> str:
    return (folder / "log").read_text(errors="replace")


def _end_of_log(folder: Path) -> str:
    return "\n".join(_log(folder).splitlines()[-SHOWN:])
