"""A PostgreSQL of its own, whose processes may be killed: those of the usual one belong to other tests, too."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from tests.services import missing

PLACES = (*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr/local/pgsql").glob("bin"))


class Cluster:
    """A running one; ``url`` leads to its database."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        self._process = process

    def execute(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Run a statement on a connection of its own, as soon as the server lets somebody in."""
        deadline = time.monotonic() + 20
        while True:
            try:
                with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
                    cursor = connection.execute(statement, parameters)
                    return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:  # it recovers
                if time.monotonic() > deadline:
                    raise

    def kill_backends(self) -> None:
        """``kill -9`` the processes that serve connections, as the kernel does when memory runs out.

        The server then ends all others, and recovers from its log; from the return on it lets nobody in until it has.
        """
        processes = [
            int(str(pid))
            for (pid,) in self.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        ]
        for process in processes:
            os.kill(process, signal.SIGKILL)
        while any(Path(f"/proc/{process}").exists() for process in processes):
            pass  # until the server has taken note of it


@contextlib.contextmanager
def cluster(*settings: str) -> Iterator[Cluster]:
    """Make one in a temporary folder, and remove it; skips the test where PostgreSQL's programs are not installed.

    Args:
        settings: of its configuration, ``name=value``.
    """
    binaries = next((place for place in PLACES if (place / "initdb").exists()), None)
    if binaries is None or (os.geteuid() == 0 and shutil.which("setpriv") is None):
        missing("PostgreSQL's own programs are not installed here (initdb, postgres)")
    assert binaries is not None
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="polydatum-cluster-") as name:
        folder = Path(name)
        if user is not None:
            shutil.chown(folder, user)
        initdb = [
            binaries / "initdb",
            "-D",
            folder / "data",
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        subprocess.run(
            initdb, check=True, capture_output=True, cwd=folder, user=user, extra_groups=[] if user else None
        )
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            port = reserved.getsockname()[1]
        options = ["-p", str(port), "-h", "127.0.0.1", "-k", name, *(f"--{setting}" for setting in settings)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [binaries / "postgres", "-D", folder / "data", *options],
                cwd=folder,
                user=user,
                extra_groups=[] if user else None,
                stdout=log,
                stderr=log,
            )
        try:
            made = Cluster(port, process)
            made.execute("SELECT 1")
            yield made
        finally:
            process.send_signal(signal.SIGINT)  # a fast shutdown
            process.wait(timeout=20)
