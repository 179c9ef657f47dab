"""Tasks that are cancelled at a random moment, as by clients that hang up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

CANCELS = 200
AFTER = 20
TICKS = 400
"""Of the event loop: what a visit takes at most."""


async def cancelled_after(ticks: int, work: Coroutine[Any, Any, None]) -> bool:
    """Run a task and cancel it; whether it was still running. Then it has to end as cancelled."""
    task = asyncio.create_task(work)
    for _ in range(ticks):
        await asyncio.sleep(0)
    was_running = task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled() == was_running
    return was_running


async def cancel_at_random(work: Callable[[int], Coroutine[Any, Any, None]]) -> set[int]:
    """Let visits 0 to 199 be cancelled, ten at a time, and then 20 more run in peace; the numbers of the cancelled."""

    async def one(number: int) -> bool:
        return await cancelled_after(random.randrange(TICKS), work(number))

    cancelled: set[int] = set()
    for first in range(0, CANCELS, 10):
        numbers = range(first, first + 10)
        hits = await asyncio.gather(*map(one, numbers))
        cancelled.update(number for number, hit in zip(numbers, hits, strict=True) if hit)
    for number in range(CANCELS, CANCELS + AFTER):
        await work(number)
    return cancelled
