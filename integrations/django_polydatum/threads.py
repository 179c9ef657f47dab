"""Where Django runs sync code in async programs: its connections belong to threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from asgiref.sync import sync_to_async

T = TypeVar("T")


async def in_view_thread(job: Callable[[], T]) -> T:
    """Run a function in the thread that ``await sync_to_async(function)()``, and so Django's sync views, run in here."""
    return await sync_to_async(job, thread_sensitive=True)()
