"""At most one successful open per owner and resource, under threads, ``asyncio.gather`` and trio tasks.

An *owner* is a Context or the app scope. Whoever touches a resource first claims it, by one atomic ``dict.setdefault``
on the resource's claims; the others wait for that `Opening` and look again. No lock is held while user code runs, so a
failed or cancelled open leaves nothing behind, and the next one in line opens anew.

An opener claims first and looks at the owner's state then; a closer sets the state first and looks for openings then.
So at least one of the two sees the other.

The chain of openings that code runs in is a ContextVar, so that child tasks and copied threads count as the opener.
Before anybody waits, the chains are followed: a loop is an error that names it, never a deadlock.
"""

from __future__ import annotations

import os
import threading
from contextvars import ContextVar
from typing import Any, Protocol

from .errors import ResourceCycleError
from .waiting import ThreadWaiter, Waiter, async_waiter

CREATED, OPEN, CLOSING, CLOSED = "created", "open", "closing", "closed"
"""The states of an owner."""


class Openable(Protocol):
    """A registered resource, as far as opening it goes."""

    name: str
    claims: dict[Any, Opening]  # by owner
    under_way: dict[Opening, Any]  # the owners of all openings under way, of all resources of the manager


class Owner(Protocol):
    """What keeps open resources: a Context or the app scope."""

    _state: str
    _opened: list[Any] | None

    def _admit(self, wanted: str) -> None:
        """Raise unless new resources may open now."""

    def _keep(self, resource: Any, value: Any, handle: Any, transaction: Any) -> bool:
        """Take over what was opened; False if it is too late for that."""
        ...


class Opening:
    """One opening under way. It has no constructor, as it is hot: whoever makes one sets the attributes."""

    __slots__ = ("parent", "resource", "waiters")

    resource: Openable
    parent: Opening | None
    waiters: list[Waiter] | None

    def wake_waiters(self) -> None:
        """Let all who wait look again."""
        for waiter in self.waiters or ():
            waiter.wake()


_chain: ContextVar[Opening | None] = ContextVar("polydatum_opening", default=None)
current_opening = _chain.get  # bound once: they are hot
enter_opening = _chain.set
leave_opening = _chain.reset

_waits_lock = threading.Lock()
_waits: list[tuple[list[Opening], Opening]] = []  # who (and everything it runs in) waits for whom


def claim(owner: Owner, mine: Opening) -> Opening | None:
    """Claim a resource of an owner: None if it is ours to open, else the opening to wait for.

    Returns ``mine`` itself when the resource turned out to be open already.
    """
    resource = mine.resource
    other = resource.claims.setdefault(owner, mine)
    if other is not mine:
        return other
    resource.under_way[mine] = owner
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
    kept = owner._keep(mine.resource, value, handle, transaction)
    release(owner, mine)
    return kept


def release(owner: Owner, mine: Opening) -> None:
    """Give a claim back, after an open or instead of it: the others look again."""
    resource = mine.resource
    del resource.claims[owner]
    del resource.under_way[mine]
    if mine.waiters is not None:
        mine.wake_waiters()


def opening_of(under_way: dict[Opening, Any], owner: Any) -> Opening | None:
    """An opening that is under way for an owner, or None."""
    for opening, whose in list(under_way.items()):
        if whose is owner:
            return opening
    return None


def wait(owner: Owner, other: Opening) -> None:
    """Block until another opening ended, well or badly."""
    waiter = ThreadWaiter()
    entry = _enlist(owner, other, waiter)
    try:
        if _is_under_way(owner, other):
            waiter.wait()
    finally:
        _unlist(entry)


async def await_(owner: Owner, other: Opening) -> None:
    """Suspend until another opening ended, well or badly."""
    waiter = async_waiter()
    entry = _enlist(owner, other, waiter)
    try:
        if _is_under_way(owner, other):
            await waiter.wait()
    finally:
        _unlist(entry)


def _is_under_way(owner: Owner, other: Opening) -> bool:
    """Asked once the waiter is on the list, so that an opening which ends just now finds it there."""
    return other.resource.claims.get(owner) is other


def _enlist(owner: Owner, other: Opening, waiter: Waiter) -> tuple[list[Opening], Opening]:
    """Register a waiter for an opening.

    Raises:
        ResourceCycleError: if the opening waits, over any number of hops, for one that we run in.
    """
    ours = _ancestry(current_opening())
    entry = (ours, other)
    with _waits_lock:
        loop = _path(other, ours, [])
        if loop is not None:
            loop.append(other)
            raise ResourceCycleError(opening.resource.name for opening in loop)
        _waits.append(entry)
        if other.waiters is None:
            other.waiters = []
        other.waiters.append(waiter)
    return entry


def _unlist(entry: tuple[list[Opening], Opening]) -> None:
    with _waits_lock:
        _waits.remove(entry)


def _ancestry(opening: Opening | None) -> list[Opening]:
    found: list[Opening] = []
    while opening is not None:
        found.append(opening)
        opening = opening.parent
    return found


def _path(target: Opening, ours: list[Opening], seen: list[Opening]) -> list[Opening] | None:
    """The loop from ``target`` over one of ours and back, following who waits for whom; None if there is none."""
    if target in ours:
        return [target, *reversed(ours[: ours.index(target)])]
    for waiting, awaited in _waits:
        if target in waiting and awaited not in seen:
            rest = _path(awaited, ours, [*seen, awaited])
            if rest is not None:
                return [target, *rest]
    return None


def _forget_after_fork() -> None:
    global _waits_lock
    _waits_lock = threading.Lock()  # a thread that did not survive may have held it
    _waits.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
