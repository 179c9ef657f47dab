"""Pings of the servers behind all backends: all at once, and within a time limit.

Clients have time limits of their own, or none: a server that accepts a connection and says nothing may hold one for
hours. So no caller waits longer than the limit, and a server that has not answered is not asked again: each ping would
hold another thread, and another connection of the pool.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import partial
from time import monotonic
from typing import Any

from .clients import BackedResource, Ping
from .waiting import running_asyncio
from .workers import run_in_daemon

PING_TIMEOUT = 5.0
"""Seconds that all pings together may take by default."""


def ping_all(backed: Iterable[BackedResource], data_manager: Any, limit: float) -> dict[str, Ping]:
    """Ping each in a thread of its own."""
    deadline = monotonic() + limit
    asked = {one.name: _in_thread(one, data_manager) for one in backed}
    return {name: _answer(found, max(0, deadline - monotonic()), limit) for name, found in asked.items()}


async def aping_all(backed: Iterable[BackedResource], data_manager: Any, limit: float) -> dict[str, Ping]:
    """Ping async ones each in a task of its own, sync ones in threads."""
    asyncio = running_asyncio()
    if asyncio is None:
        return await _ping_on_trio(sys.modules["trio"], backed, data_manager, limit)
    asked: dict[str, Any] = {
        one.name: asyncio.shield(_in_task(one, data_manager, limit, asyncio))
        if one.kind.is_async
        else asyncio.wrap_future(_in_thread(one, data_manager))
        for one in backed
    }
    try:
        if asked:
            await asyncio.wait(asked.values(), timeout=limit)
        return {name: found.result() if found.done() else _late(limit) for name, found in asked.items()}
    finally:
        for found in asked.values():
            found.cancel()  # the shielded task goes on: other callers may wait for it


async def _ping_on_trio(
    trio: Any, backed: Iterable[BackedResource], data_manager: Any, limit: float
) -> dict[str, Ping]:
    answers = {one.name: _late(limit) for one in backed}

    async def ask(one: BackedResource) -> None:
        with trio.move_on_after(limit):
            if one.kind.is_async:
                answers[one.name] = await one.aping(data_manager)
            else:
                asked = _in_thread(one, data_manager)
                answers[one.name] = await trio.to_thread.run_sync(_answer, asked, limit, limit)

    async with trio.open_nursery() as nursery:
        for one in backed:
            nursery.start_soon(ask, one)
    return answers


def _in_thread(one: BackedResource, data_manager: Any) -> Any:
    """The future of a ping in a thread: of the one under way, if there is one."""
    process = os.getpid()  # a child has none of the parent's threads
    asked = one.asked.get(process)
    if asked is None or asked.done():
        asked = one.asked[process] = run_in_daemon(partial(one.ping, data_manager))
    return asked


def _in_task(one: BackedResource, data_manager: Any, limit: float, asyncio: Any) -> Any:
    """The task of a ping: the one under way in this event loop, if there is one."""
    loop = asyncio.get_running_loop()
    asked = one.asked.get(loop)
    if asked is None:
        asked = one.asked[loop] = loop.create_task(_limited(one, data_manager, limit, asyncio))
        asked.add_done_callback(lambda _: one.asked.pop(loop))
    return asked


async def _limited(one: BackedResource, data_manager: Any, limit: float, asyncio: Any) -> Ping:
    try:
        async with asyncio.timeout(limit):
            return await one.aping(data_manager)
    except TimeoutError:
        return _late(limit)


def _answer(asked: Any, patience: float, limit: float) -> Ping:
    try:
        return asked.result(patience)  # type: ignore[no-any-return]
    except TimeoutError:
        return _late(limit)


def _late(limit: float) -> Ping:
    return Ping(False, limit, TimeoutError.__name__)
