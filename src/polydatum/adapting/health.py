"""What a health endpoint answers: which resources are fine, and nothing else about them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from polydatum.clients import Ping


class HealthAnswer(NamedTuple):
    """The answer of a health endpoint: 200 if every backend answered, else 503; never to be cached.

    The body is JSON, ``{"ok": true, "resources": {"db": true}}``: no message, no host and no time, which are not meant
    for everybody.
    """

    status: int
    headers: dict[str, str]
    body: bytes


def health_answer(pings: Mapping[str, Ping]) -> HealthAnswer:
    """The answer for the result of ``dm.ping()`` or ``await dm.aping()``.

    Example:
        >>> answer = health_answer({"db": Ping(True, 0.001), "cache": Ping(False, 2.0, "ConnectionError")})
        >>> answer.status, answer.body
        (503, b'{"ok": false, "resources": {"db": true, "cache": false}}')
    """
    ok = all(ping.ok for ping in pings.values())
    body = json.dumps({"ok": ok, "resources": {name: ping.ok for name, ping in pings.items()}}).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
    }
    return HealthAnswer(200 if ok else 503, headers, body)
