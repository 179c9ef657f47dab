"""Polydatum's own worker threads: for sync steps of async contexts with resources opened in threads, and for pings.

The default pool is not used because it may be full of requests that wait for the very connections these steps release.
Sending has a pool to itself, because a broker that does not answer would fill the other one.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from .waiting import running_asyncio

MAX_WORKERS = 16

_pools: dict[str, Any] = {}
_trio_limiters: dict[str, Any] = {}


async def run_in_worker(fn: Callable[[], Any], pool: str = "close") -> Any:
    """Run ``fn`` in a worker thread of a pool, with a copy of the current ContextVars, and return its result."""
    asyncio = running_asyncio()
    if asyncio is not None:
        if pool not in _pools:
            from concurrent.futures import ThreadPoolExecutor  # only programs that come here pay for the import

            _pools[pool] = ThreadPoolExecutor(MAX_WORKERS, thread_name_prefix=f"polydatum-{pool}")
        return await asyncio.get_running_loop().run_in_executor(_pools[pool], copy_context().run, fn)
    trio = sys.modules["trio"]
    if pool not in _trio_limiters:
        _trio_limiters[pool] = trio.CapacityLimiter(MAX_WORKERS)
    return await trio.to_thread.run_sync(fn, limiter=_trio_limiters[pool])


def run_in_daemon(fn: Callable[[], Any]) -> Any:
    """Run ``fn`` in a thread of its own, with a copy of the current ContextVars.

    The program's exit does not wait for it. Returns its `concurrent.futures.Future`, which cannot be cancelled.
    """
    from concurrent.futures import Future

    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = fn()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=copy_context().run, args=(run,), name="polydatum-ping", daemon=True).start()
    return future


def _forget_after_fork() -> None:
    _pools.clear()  # their threads did not survive the fork


os.register_at_fork(after_in_child=_forget_after_fork)
