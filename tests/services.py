"""The servers that tests talk to, and the browser: where they are, and what happens where they are not.

A URL is read from the environment (``POLYDATUM_TEST_POSTGRES``, ``..._MARIADB``, ``..._REDIS``, ``..._RABBITMQ``); without one
the usual loopback address is tried. The browser is the Chromium of the machine, or ``POLYDATUM_TEST_CHROMIUM``. Where nothing
answers, tests are skipped with that reason, or fail if ``POLYDATUM_SERVICES`` is ``required``, as it is in CI.
"""

from __future__ import annotations

import os
import shutil
import socket
from typing import NoReturn
from urllib.parse import urlsplit

import pytest

USUAL = {
    "postgres": "postgresql://postgres@127.0.0.1:5432/test",
    "mariadb": "mysql://root@127.0.0.1:3306/test",
    "redis": "redis://127.0.0.1:6379/0",
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672//",
}


def url_of(service: str) -> str:
    """The URL of a server that answers; otherwise the test is skipped, or fails."""
    variable = f"POLYDATUM_TEST_{service.upper()}"
    url = os.environ.get(variable) or USUAL[service]
    place = urlsplit(url)
    assert place.port, f"{variable} has no port"
    try:
        socket.create_connection((place.hostname, place.port), timeout=2).close()
    except OSError:
        missing(f"no {service} at {place.hostname}:{place.port}, see {variable}")
    return url


def chromium() -> str:
    """The program; without one the test is skipped, or fails."""
    program = os.environ.get("POLYDATUM_TEST_CHROMIUM")
    for name in ("chromium", "chromium-browser", "google-chrome"):
        program = program or shutil.which(name)
    return program or missing("no Chromium on this machine, see POLYDATUM_TEST_CHROMIUM")


def missing(reason: str) -> NoReturn:
    """Skip the test for what is not there; in CI it is a failure."""
    if os.environ.get("POLYDATUM_SERVICES") == "required":
        pytest.fail(reason)
    pytest.skip(reason)
