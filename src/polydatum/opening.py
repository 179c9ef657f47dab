"""At most one successful open per owner and resource, under threads, ``asyncio.gather`` and trio tasks.

An *owner* is a Context or the app scope. Whoever touches a resource first claims it, by one atomic ``dict.setdefault``
on the openings under way; the others wait for that `Opening` and look again. No lock is held while user code runs, so a
failed or cancelled open leaves nothing behind, and the next one in line opens anew.

An opener claims first and looks at the owner's state then; a closer sets the state first and looks for openings then.
So at least one of the two sees the other.

The chain of openings that code runs in is a ContextVar, so that child tasks and copied threads count as the opener.
Before anybody waits, the chains are followed: a loop is an error that names it, never a deadlock.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias

from .errors import ResourceCycleError
from .waiting import ThreadWaiter, Waiter, async_waiter

CREATED, OPEN, CLOSING, CLOSED = "created", "open", "closing", "closed"
"""The states of an owner."""


class Openable(Protocol):
    """A registered resource, as far as opening it goes."""

    name: str
    under_way: UnderWay


class Owner(Protocol):
    """What keeps open resources: a Context or the app scope."""

    _state: str

    @property
    def _opened(self) -> list[Any] | None: ...

    def _admit(self, wanted: str) -> None:
        """Raise unless new resources may open now."""

    def _keep(self, resource: Any, value: Any, handle: Any, transaction: Any) -> bool:
        """Take over what was opened; False if it is too late for that."""
        ...


Opening: TypeAlias = "list[Any]"
"""One opening under way: its resource (None when it is over) and the opening it runs in. A list, as it is hot."""

UnderWay: TypeAlias = "dict[tuple[Openable, Owner], Opening]"
"""The openings under way of all contexts of a manager."""

_chain: ContextVar[Opening | None] = ContextVar("polydatum_opening", default=None)
current_opening = _chain.get  # bound once: they are hot
enter_opening = _chain.set
leave_opening = _chain.reset


class Mark:
    """What stands in an opening for what is no resource, and is waited for like one: a set-up of middleware, a close."""

    def __init__(self, name: str, under_way: UnderWay) -> None:
        self.name = name
        self.under_way = under_way


_waits_lock = threading.Lock()
waits: list[tuple[list[Opening], Opening, Waiter]] = []  # who (and everything it runs in) waits for whom


def claim(owner: Owner, mine: Opening) -> Opening | None:
    """Claim a resource of an owner: None if it is ours to open, else the opening to wait for.

    Returns ``mine`` itself when the resource turned out to be open already.
    """
    resource = mine[0]
    other: Opening = resource.under_way.setdefault((resource, owner), mine)
    if other is not mine:
        return other
    try:
        if owner._opened is not None and resource in owner._opened:
            release(owner, mine)
            return mine
        owner._admit(resource.name)
    except BaseException:
        release(owner, mine)
        raise
    return None


def complete(owner: Owner, mine: Opening, value: Any, handle: Any, transaction: Any = None) -> bool:
    """Hand what was opened to the owner, and let the others look again; False if the owner had closed without us."""
    kept = owner._keep(mine[0], value, handle, transaction)
    release(owner, mine)
    return kept


def release(owner: Owner, mine: Opening) -> None:
    """Give a claim back, after an open or instead of it: the others look again."""
    resource = mine[0]
    del resource.under_way[resource, owner]
    mine[0] = None
    if waits:
        wake_waiters(mine)


def wake_waiters(over: Opening) -> None:
    """Let all who wait for an opening look again."""
    for _, awaited, waiter in waits.copy():
        if awaited is over:
            waiter.wake()


def opening_of(under_way: UnderWay, owner: Any) -> tuple[Openable, Opening] | None:
    """A resource that is being opened for an owner, with the opening; or None."""
    for (resource, whose), opening in list(under_way.items()):
        if whose is owner:
            return resource, opening
    return None


def wait(other: Opening) -> None:
    """Block until another opening ended, well or badly."""
    waiter = ThreadWaiter()
    entry = _enlist(other, waiter)
    try:
        if other[0] is not None:  # asked only now, so that an opening which ends meanwhile finds the waiter
            waiter.wait()
    finally:
        _unlist(entry)


async def await_(other: Opening) -> None:
    """Suspend until another opening ended, well or badly."""
    waiter = async_waiter()
    entry = _enlist(other, waiter)
    try:
        if other[0] is not None:  # likewise
            await waiter.wait()
    finally:
        _unlist(entry)


@contextmanager
def in_turn(owner: Owner, mark: Mark) -> Iterator[None]:
    """A block that runs once at a time for an owner: whoever comes meanwhile waits for its end."""
    mine: Opening = [mark, current_opening()]
    while (other := claim(owner, mine)) is not None:
        wait(other)
    token = enter_opening(mine)
    try:
        yield
    finally:
        leave_opening(token)
        release(owner, mine)


@asynccontextmanager
async def ain_turn(owner: Owner, mark: Mark) -> AsyncIterator[None]:
    """The async twin of `in_turn`."""
    mine: Opening = [mark, current_opening()]
    while (other := claim(owner, mine)) is not None:
        await await_(other)
    token = enter_opening(mine)
    try:
        yield
    finally:
        leave_opening(token)
        release(owner, mine)


def _enlist(other: Opening, waiter: Waiter) -> tuple[list[Opening], Opening, Waiter]:
    """Register a waiter for an opening.

    Raises:
        ResourceCycleError: if the opening waits, over any number of hops, for one that we run in.
    """
    ours = _ancestry(current_opening())
    entry = (ours, other, waiter)
    with _waits_lock:
        loop = _path(other, ours, [])
        if loop is not None:
            resources = [opening[0] for opening in [*loop, other]]
            if None not in resources:  # else one of them ended just now, and it is no loop any more
                raise ResourceCycleError(resource.name for resource in resources)
        waits.append(entry)
    return entry


def _unlist(entry: tuple[list[Opening], Opening, Waiter]) -> None:
    with _waits_lock:
        waits.remove(entry)


def _ancestry(opening: Opening | None) -> list[Opening]:
    """An opening under way and those it runs in; a child task may have outlived some."""
    found: list[Opening] = []
    while opening is not None:
        if opening[0] is not None:
            found.append(opening)
        opening = opening[1]
    return found


def _path(target: Opening, ours: list[Opening], seen: list[Opening]) -> list[Opening] | None:
    """The loop from ``target`` over one of ours and back, following who waits for whom; None if there is none."""
    place = _place(target, ours)
    if place is not None:
        return [target, *reversed(ours[:place])]
    for waiting, awaited, _ in waits:
        if _place(target, waiting) is not None and _place(awaited, seen) is None:
            rest = _path(awaited, ours, [*seen, awaited])
            if rest is not None:
                return [target, *rest]
    return None


def _place(opening: Opening, among: list[Opening]) -> int | None:
    """Where an opening is in a list of them; not by ``==``, which looks at what they contain."""
    return next((place for place, one in enumerate(among) if one is opening), None)


def _forget_after_fork() -> None:
    global _waits_lock
    _waits_lock = threading.Lock()  # a thread that did not survive may have held it
    waits.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
