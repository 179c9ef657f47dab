"""Gates: where requests wait until the test lets them go on. A gate is open once there is a file of its name."""

from __future__ import annotations

import asyncio
import time

from tests.servers.apps.journal import FOLDER

NEVER = 30.0
"""Seconds after which a server gives up what only a failed test leaves waiting."""
PAUSE = 0.01


def wait(gate: str | None) -> None:
    """Wait until the gate is open; without a gate go on at once."""
    deadline = time.monotonic() + NEVER
    while not _is_open(gate, deadline):
        time.sleep(PAUSE)


async def wait_async(gate: str | None) -> None:
    deadline = time.monotonic() + NEVER
    while not _is_open(gate, deadline):  # noqa: ASYNC110 - the test is another process
        await asyncio.sleep(PAUSE)


def _is_open(gate: str | None, deadline: float) -> bool:
    if gate is None or (FOLDER / f"{gate}.gate").exists():
        return True
    if time.monotonic() > deadline:
        raise TimeoutError(f"nobody opened the gate {gate!r}")
    return False
