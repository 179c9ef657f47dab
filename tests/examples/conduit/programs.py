"""Conduit's programs as processes of their own."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.examples.conduit.in_process import SECRET
from tests.examples.conduit.visitors import Answer, Client
from tests.servers.books import eventually

ROOT = Path(__file__).parents[3]
DEADLINE = 60.0
ADDRESS = r"http://127\.0\.0\.1:([1-9]\d*)"

SERVERS = {
    "uvicorn": ["uvicorn", "--factory", "conduit.serve:make_app", "--port", "0", "--no-access-log"],
    # Two processes, which have the database in common and nothing else.
    "gunicorn": [
        *["gunicorn", "conduit.serve:make_app()", "--bind", "127.0.0.1:0", "--no-control-socket"],
        *["--worker-class", "gthread", "--workers", "2", "--threads", "8"],
    ],
}


def environment(database: str, **more: str) -> dict[str, str]:
    """What a program finds in it: the database, the secret of the tests, and more."""
    return {
        **os.environ,
        "CONDUIT_SECRET": SECRET,
        "DATABASE_URL": database,
        "PYTHONPATH": os.pathsep.join(str(ROOT / path) for path in ("src", "integrations", "example_apps")),
        "PYTHONUNBUFFERED": "1",
        **more,
    }


class Program:
    """A program that runs, and what it has printed and logged so far."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def printed(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, pattern: str) -> str:
        """Wait until it prints something; gives the group in it."""

        def has_printed() -> bool:
            assert self.process.poll() is None, f"it ended:\n{self.printed}"
            return re.search(pattern, self.printed) is not None

        eventually(has_printed, pattern, within=DEADLINE)
        return re.findall(pattern, self.printed)[0]  # type: ignore[no-any-return]

    def stop(self) -> int:
        """Tell it to end; gives its exit code."""
        self.process.terminate()
        return self.process.wait(DEADLINE)


@contextlib.contextmanager
def running(folder: Path, *words: str, database: str, **variables: str) -> Iterator[Program]:
    """A Python program, which ends with the block."""
    log = folder / "printed"
    with log.open("wb") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env=environment(database, **variables),
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
    program = Program(process, log)
    try:
        yield program
    finally:
        try:
            program.stop()
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def client_to(port: int) -> Client:
    """A client over HTTP, with a connection for each request."""

    def send(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)) as connection:
            connection.request(method, target, body or None, dict(headers))
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    return send
