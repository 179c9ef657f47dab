"""The servers that tests talk to: where they are, and what happens where they are not.

A URL is read from the environment (``POLYDATUM_TEST_POSTGRES``, ``..._MARIADB``, ``..._REDIS``, ``..._RABBITMQ``); without one
the usual loopback address is tried. Where nothing answers, tests are skipped with that reason, or fail if ``POLYDATUM_SERVICES`` is
``required``, as it is in CI.
"""

from __future__ import annotations

import os
import socket
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


def missing(reason: str) -> None:
    """Skip the test for a server that is not there; in CI it is a failure."""
    if os.environ.get("POLYDATUM_SERVICES") == "required":
        pytest.fail(reason)
    pytest.skip(reason)
