"""An S3 server: the one that ``POLYDATUM_TEST_S3`` names (``http://KEY:SECRET@HOST:PORT/BUCKET``), or moto's, started here.

moto runs as a process of its own on a free port, once per session, and keeps everything in memory.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

import obstore.store
import pytest

START_LIMIT = 60.0


@dataclass(frozen=True)
class S3:
    host: str
    port: int
    bucket: str
    key: str = "polydatum"
    secret: str = "a-secret-of-the-tests"

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{os.getpid()}"

    def options(self, port: int | None = None, **more: Any) -> dict[str, Any]:
        """For `obstore.store.from_url`; another port is that of a proxy."""
        return {
            "endpoint": f"http://{self.host}:{port or self.port}",
            "access_key_id": self.key,
            "secret_access_key": self.secret,
            "region": "us-east-1",
            "client_options": {"allow_http": True},
            "retry_config": {"max_retries": 0},
            **more,
        }

    def store(self) -> Any:
        return obstore.store.from_url(self.url, **self.options())

    def keys(self) -> set[str]:
        return {found["path"] for found in self.store().list().collect()}


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    given = os.environ.get("POLYDATUM_TEST_S3")
    if given:
        parts = urlsplit(given)
        assert parts.hostname, "POLYDATUM_TEST_S3: http://KEY:SECRET@HOST:PORT/BUCKET"
        bucket = parts.path.strip("/")
        place = S3(parts.hostname, parts.port or 80, bucket, parts.username or "", parts.password or "")
        yield place
        if left := sorted(place.keys()):
            place.store().delete(left)
        return
    port = _free_port()
    server = _started(port, tmp_path_factory.mktemp("moto") / "log")
    try:
        place = S3("127.0.0.1", port, "polydatum-test")
        request = urllib.request.Request(f"http://{place.host}:{port}/{place.bucket}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        yield place
    finally:
        server.terminate()
        server.wait()


def _started(port: int, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=output, stderr=output
        )
    deadline = monotonic() + START_LIMIT
    while monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5).close()
        except (urllib.error.URLError, OSError):
            sleep(0.05)
        else:
            return server
    server.kill()
    server.wait()
    pytest.fail(f"moto's server did not start: {log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
