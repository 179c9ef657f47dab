"""A server as a process of its own, from its start to what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

from tests.servers.books import Books, eventually
from tests.servers.deployments import Deployment
from tests.servers.wire import BrokenOff, Connection

ROOT = Path(__file__).parents[2]
START = 30.0
STOP = 15.0
EXPECTED_ERRORS = ("IntegrityError: FOREIGN KEY constraint failed",)
"""The last lines of tracebacks that every bank may log: of transfers whose commit shall fail."""
BETWEEN = ("During handling of the above exception", "The above exception was the direct cause")
"""What stands between two tracebacks of a chain."""
COMPLAINTS = (
    "Exception ignored",
    "never awaited",
    "never retrieved",
    "ResourceWarning",
    "RuntimeWarning",
    "DeprecationWarning: polydatum",
    "Task was destroyed",
    "--- Logging error ---",
)
LEFT_OPEN = (
    "unclosed <socket.socket",  # which gunicorn's workers accept on: they leave it to the interpreter
    "Unclosed file <tempfile.SpooledTemporaryFile",  # see `filterwarnings` in pyproject.toml
    "Enable tracemalloc",
)
"""Lines about what servers and frameworks leave to the collector, whatever the application does."""


class Server:
    """A deployment that runs, over books of its own.

    Args:
        deployment: what to run.
        folder: an empty folder, for the books and for what the server prints.
        grace: seconds that requests get to come to their end when it is told to stop.
    """

    def __init__(self, deployment: Deployment, folder: Path, *, grace: int = 10) -> None:
        self.deployment = deployment
        self.books = Books(folder)
        self._expected = list(EXPECTED_ERRORS)
        self._printed = folder / "printed"
        command, reserved = deployment.command(grace)
        paths = [str(ROOT / "src"), str(ROOT / "integrations"), str(ROOT)]
        environment = {
            **os.environ,
            "BANK_FOLDER": str(folder),
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "default",
        }
        with self._printed.open("wb") as printed:
            self._process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=printed, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            self.port = self._wait_until_it_answers()
        except BaseException:
            self._kill()
            raise
        finally:
            if reserved is not None:
                reserved.close()

    @property
    def printed(self) -> str:
        """All that it has printed and logged."""
        return self._printed.read_text(errors="replace")

    def connect(self) -> Connection:
        """A new connection to it."""
        return Connection(self.port)

    def expect(self, error: str) -> None:
        """Let it log tracebacks that end in a line with this beginning."""
        self._expected.append(error)

    def terminate(self) -> None:
        """Send SIGTERM, and return once it has noticed: it takes no new connection any more."""
        self._process.send_signal(signal.SIGTERM)
        if not self.deployment.server.startswith("gunicorn"):  # whose workers keep their socket while they serve
            eventually(lambda: not self._accepts(), "it hears of SIGTERM")

    def wait_until_gone(self, within: float = STOP) -> int:
        """Wait until it has ended with all its processes; gives its exit code."""
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired:
            self._kill()
            raise AssertionError(f"{self.deployment} did not end within {within} s:\n{self.printed}") from None
        try:
            eventually(lambda: not self._has_processes(), f"the last process of {self.deployment} ends")
        finally:
            self._kill()
        return code

    def stop(self) -> None:
        """Stop it if it runs, and see that it leaves no process behind, and has not complained of anything."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self.wait_until_gone()
        complaints = self.complaints()
        assert not complaints, f"{self.deployment} complained of {complaints}:\n{self.printed}"

    def complaints(self) -> list[str]:
        """The errors and warnings in its log that no test expects."""
        errors = [
            line for line in last_lines(self.printed) if not without_module(line).startswith(tuple(self._expected))
        ]
        printed = [line for line in self.printed.splitlines() if not any(left in line for left in LEFT_OPEN)]
        return errors + [complaint for complaint in COMPLAINTS if any(complaint in line for line in printed)]

    def _wait_until_it_answers(self) -> int:
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            assert self._process.poll() is None, f"{self.deployment} ended at once:\n{self.printed}"
            address = re.search(r"http://127\.0\.0\.1:([1-9]\d*)", self.printed)
            if address is not None and _is_healthy(int(address[1])):
                return int(address[1])
            time.sleep(0.01)
        raise AssertionError(f"{self.deployment} did not answer within {START} s:\n{self.printed}")

    def _accepts(self) -> bool:
        try:
            self.connect().reset()
        except OSError:
            return False
        return True

    def _has_processes(self) -> bool:
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _kill(self) -> None:
        """End what is left of it: the processes of the session that was begun for it."""
        if self._has_processes():
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _is_healthy(port: int) -> bool:
    try:
        with Connection(port) as connection:
            return connection.fetch("GET", "/healthy").status == 200
    except (OSError, BrokenOff):
        return False


def without_module(line: str) -> str:
    """The last line of a traceback, with the name of the class alone; not every server prints more."""
    name, colon, message = line.partition(":")
    return name.rpartition(".")[2] + colon + message


def last_lines(text: str) -> list[str]:
    """The last line of every traceback in a text: the error and its message."""
    found = []
    inside = False
    for line in text.splitlines():
        if line.lstrip(" |+").startswith("Traceback (most recent call last)"):
            inside = True
        elif line.startswith(BETWEEN):
            inside = False
        elif inside and line.strip(" |") and not line.lstrip("|").startswith(" "):
            found.append(line)
            inside = False
    return found
