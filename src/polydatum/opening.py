"""At most one successful open per owner and resource, under threads, ``asyncio.gather`` and trio tasks.

An *owner* (a Context, or the app scope) has a short mutex, a list of openings under way and a flat list of what is
open. Whoever touches a resource first claims it by putting its `Opening` on the list; the others wait for that opening
and look again. Nothing is held while user code runs, so a failed or cancelled open leaves nothing behind, and the next
one in line opens anew.

The chain of openings a piece of code runs in is a ContextVar, so that child tasks and copied threads count as the
opener. Before anybody waits, the chains are followed: a loop is an error that names it, never a deadlock.
"""

from __future__ import annotations

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


class Owner(Protocol):
    """What keeps open resources: a Context or the app scope."""

    _mutex: Any
    _opening: list[Opening] | None
    _opened: list[Any] | None

    def _admit(self, wanted: str) -> None:
        """Raise unless new resources may open now. Called under the mutex."""

    def _keep(self, resource: Any, value: Any, handle: Any) -> bool:
        """Take over what was opened; False if it is too late for that. Called under the mutex."""


class Opening:
    """One opening under way."""

    resource: Openable
    parent: Opening | None = None
    waiters: list[Waiter] | None = None


chain: ContextVar[Opening | None] = ContextVar("polydatum_opening", default=None)

_waits_lock = threading.Lock()
_waits: list[tuple[list[Opening], Opening]] = []  # who (and everything it runs in) waits for whom


def claim(owner: Owner, mine: Opening) -> Opening | None:
    """Claim a resource of an owner: None if it is ours to open, else the opening to wait for.

    Returns ``mine`` itself when the resource turned out to be open already.
    """
    resource = mine.resource
    with owner._mutex:
        opened = owner._opened
        if opened is not None and resource in opened:
            return mine
        owner._admit(resource.name)
        openings = owner._opening
        if openings is None:
            owner._opening = [mine]
            return None
        other = find(openings, resource)
        if other is None:
            openings.append(mine)
        return other


def find(openings: list[Opening], resource: Openable) -> Opening | None:
    """The opening of a resource among those under way. Called under the mutex."""
    for other in openings:
        if other.resource is resource:
            return other
    return None


def complete(owner: Owner, mine: Opening, value: Any, handle: Any) -> bool:
    """Hand what was opened to the owner, and let the others look again; False if the owner had closed without us."""
    with owner._mutex:
        _drop(owner, mine)
        kept = owner._keep(mine.resource, value, handle)
    if mine.waiters is not None:
        wake(mine)
    return kept


def abandon(owner: Owner, mine: Opening) -> None:
    """The open failed: nothing stays behind, the next in line may try."""
    with owner._mutex:
        _drop(owner, mine)
    if mine.waiters is not None:
        wake(mine)


def _drop(owner: Owner, mine: Opening) -> None:
    openings = owner._opening
    if openings is not None:
        if len(openings) == 1:
            owner._opening = None
        else:
            openings.remove(mine)


def wake(opening: Opening) -> None:
    """Let all who wait for an opening look again."""
    waiters, opening.waiters = opening.waiters, None
    for waiter in waiters or ():
        waiter.wake()


def wait(owner: Owner, other: Opening) -> None:
    """Block until another opening ended, well or badly."""
    waiter = ThreadWaiter()
    entry = _enlist(owner, other, waiter)
    if entry is not None:
        try:
            waiter.wait()
        finally:
            _unlist(entry)


async def await_(owner: Owner, other: Opening) -> None:
    """Suspend until another opening ended, well or badly."""
    waiter = async_waiter()
    entry = _enlist(owner, other, waiter)
    if entry is not None:
        try:
            await waiter.wait()
        finally:
            _unlist(entry)


def _enlist(owner: Owner, other: Opening, waiter: Waiter) -> tuple[list[Opening], Opening] | None:
    """Register a waiter for an opening; None if that opening has ended meanwhile.

    Raises:
        ResourceCycleError: if the opening waits, over any number of hops, for one that we run in.
    """
    ours = _ancestry(chain.get())
    entry = (ours, other)
    with _waits_lock:
        loop = _path(other, ours, [])
        if loop is not None:
            raise ResourceCycleError([*(o.resource.name for o in loop), other.resource.name])
        _waits.append(entry)
    with owner._mutex:
        if owner._opening is not None and other in owner._opening:
            if other.waiters is None:
                other.waiters = []
            other.waiters.append(waiter)
            return entry
    _unlist(entry)
    return None


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
    """The openings from ``target`` to one of ours, following who waits for whom; None if it does not lead there."""
    if target in ours:
        return [target]
    for waiting, awaited in _waits:
        if target in waiting and awaited not in seen:
            rest = _path(awaited, ours, [*seen, awaited])
            if rest is not None:
                return [target, *rest]
    return None
