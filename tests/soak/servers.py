"""The servers of a soak test, each a separate process on a free port of this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tests.servers.server import COMPLAINTS

ROOT = Path(__file__).parents[2]
START, STOP = 30.0, 10.0
THREADS = 12


class Deployment(NamedTuple):
    """A server with its application.

    Attributes:
        name: the name in the summary.
        command: the command line without the port.
        cancels: the parameter that makes it cancel a request.
        ready: a path that is answered with a 200 once the server runs.
    """

    name: str
    command: tuple[str, ...]
    cancels: str = ""
    ready: str = "/health"


UVICORN = Deployment(
    "uvicorn",
    ("uvicorn", "tests.soak.starlette_app:app", "--no-access-log", "--log-level", "critical", "--port"),
    "cancel",
)
GUNICORN = Deployment(
    "gunicorn",
    (
        *("gunicorn", "tests.soak.flask_app:app", "--worker-class", "gthread", "--threads", str(THREADS)),
        *("--log-level", "critical", "--keep-alive", "30", "--bind"),
    ),
    "limit",
)


class Server:
    """A deployment that runs during a ``with`` block."""

    def __init__(self, deployment: Deployment, environment: dict[str, str], folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._is_late = False
        self._ready = f"http://127.0.0.1:{self.port}{deployment.ready}"
        address = f"127.0.0.1:{self.port}" if deployment.name == "gunicorn" else str(self.port)
        self._printed = folder / deployment.name
        paths = [str(ROOT / folder) for folder in ("src", "integrations", "example_apps", "")]
        with self._printed.open("wb") as printed:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *deployment.command, address],
                env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "default"},
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Server:
        try:
            self._wait_until_it_answers()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP)
        except subprocess.TimeoutExpired:
            self._is_late = True
        finally:
            self._kill()

    @property
    def printed(self) -> str:
        return self._printed.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def complaints(self) -> list[str]:
        """Its unexpected output, and whether it failed to exit in time."""
        late = [f"it had not ended {STOP:.0f} s after SIGTERM"] if self._is_late else []
        return late + [line for line in self.printed.splitlines() if any(found in line for found in COMPLAINTS)]

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                urllib.request.urlopen(self._ready, timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
        raise RuntimeError(f"the server does not answer:\n{self.printed}")

    def _kill(self) -> None:
        """Kill what is left of it: all processes of its own process session."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
