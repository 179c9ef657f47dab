"""The thread in which Django runs sync code of async programs; its connections belong to threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from asgiref.sync import sync_to_async

T = TypeVar("T")


async def in_view_thread(job: Callable[[], T]) -> T:
    """Run a function in the thread in which ``sync_to_async`` runs code here, and so also Django's sync views."""
    return await sync_to_async(job, thread_sensitive=True)()
