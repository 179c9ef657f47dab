"""A server that speaks MongoDB's wire protocol: SecantusDB, a process of its own on a free loopback port.

Started on first use, once per test run, over a temporary folder; ended, by its pid, when the run ends.
``POLYDATUM_TEST_MONGO`` names another server, a replica set, in its place.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.services import missing

PATIENCE = 20.0


@functools.cache
def mongo_address() -> tuple[str, int]:
    """Where it listens."""
    program = Path(sys.executable).with_name("secantusd-py")
    if not program.exists():
        missing(f"no {program}: SecantusDB is not installed; see POLYDATUM_TEST_MONGO")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="polydatum-mongo-")
    process = subprocess.Popen(
        [
            program,
            "--host=127.0.0.1",
            f"--port={port}",
            f"--storage-path={folder}/data",
            "--log-level=ERROR",
            "--enable-test-commands",  # fail points
        ],
        cwd=folder,  # no configuration file of somebody else's
        env={**os.environ, "HOME": folder},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    atexit.register(_stop, process, folder, os.getpid())
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return "127.0.0.1", port
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                missing(f"SecantusDB did not start within {PATIENCE:g} s (exit code {process.poll()})")
            time.sleep(0.05)


def mongo_url() -> str:
    """The URL of a server, without a database."""
    given = os.environ.get("POLYDATUM_TEST_MONGO")
    if given:
        return given
    host, port = mongo_address()
    return f"mongodb://{host}:{port}/"


def _stop(process: subprocess.Popen[bytes], folder: str, owner: int) -> None:
    if os.getpid() != owner:
        return  # a forked child
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)
