"""At most one successful open per owner and resource, under threads, ``asyncio.gather`` and trio tasks.

An *owner* is a Context or the app scope. The first thread or task to touch a resource claims it, by one atomic
``dict.setdefault`` on the openings under way; the others wait for that `Opening` and then check again. No lock is held
while user code runs, so a failed or cancelled open leaves nothing behind, and the next waiter opens the resource
itself.

An opener claims first and then checks the owner's state; a closer sets the state first and then looks for openings. So
at least one of the two sees the other.

Before a caller waits, the openings it runs in are determined: a loop is an error that names it, never a deadlock. A
sync opening runs in one thread from its claim to its end, so it only records that thread. An async one is suspended in
between, and may have child tasks: a ContextVar holds the chain of openings that the code runs in. Tasks inherit it, and
so do threads that got it from `polydatum.bind` or ``asyncio.to_thread``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from threading import get_ident
from typing import Any, Protocol, TypeAlias
from weakref import WeakValueDictionary

from .errors import ResourceCycleError
from .waiting import ThreadWaiter, Waiter, async_waiter

CREATED, OPEN, CLOSING, CLOSED = "created", "open", "closing", "closed"
"""The states of an owner."""


class Openable(Protocol):
    """What opening needs of a registered resource."""

    name: str
    under_way: UnderWay


class Owner(Protocol):
    """The holder of open resources: a Context or the app scope."""

    _state: str

    @property
    def _opened(self) -> list[Any] | None: ...

    def _admit(self, wanted: str) -> None:
        """Raise unless new resources may open now."""

    def _keep(self, resource: Any, value: Any, handle: Any, transaction: Any) -> bool:
        """Take over an opened resource; False if it is too late for that."""
        ...


Opening: TypeAlias = "list[Any]"
"""One opening under way, as a list for the hot path: the resource, or None once the opening is over; and for a sync
opening its thread, for an async one the opening that it runs in, or None."""


class UnderWay(dict["tuple[Openable, Owner]", Opening]):
    """The openings under way of all contexts of a manager, in the order of their claims."""

    __slots__ = ("__weakref__",)

    def __init__(self) -> None:
        _all_under_way[id(self)] = self


_all_under_way: WeakValueDictionary[int, UnderWay] = WeakValueDictionary()

_chain: ContextVar[Opening | tuple[Opening, ...] | None] = ContextVar("polydatum_opening", default=None)
"""The async opening that the code runs in; in a thread, the openings of the thread that it works for."""
current_opening = _chain.get  # these three are bound once, for the hot path
enter_opening = _chain.set
leave_opening = _chain.reset


class Placeholder:
    """Takes the resource's place in an opening of another kind that callers wait for: middleware set-up, a close."""

    def __init__(self, name: str, under_way: UnderWay) -> None:
        self.name = name
        self.under_way = under_way


_waits_lock = threading.Lock()
_Wait: TypeAlias = tuple[tuple[Opening, ...], Opening, Waiter]
waits: list[_Wait] = []  # the openings a waiter runs in, the opening it waits for, the waiter


def claim(owner: Owner, mine: Opening) -> Opening | None:
    """Claim a resource of an owner: None if the caller is to open it, else the opening to wait for.

    Returns ``mine`` itself if the resource turns out to be open already.
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
    """Hand an opened resource to the owner, and wake the waiters; False if the owner has closed without waiting."""
    kept = owner._keep(mine[0], value, handle, transaction)
    release(owner, mine)
    return kept


def release(owner: Owner, mine: Opening) -> None:
    """Release a claim, after the open or instead of it, and wake the waiters."""
    resource = mine[0]
    del resource.under_way[resource, owner]
    mine[0] = None
    if waits:
        wake_waiters(mine)


def wake_waiters(over: Opening) -> None:
    """Wake everything that waits for an opening, to check again."""
    for _, awaited, waiter in waits.copy():
        if awaited is over:
            waiter.wake()


def opening_of(under_way: UnderWay, owner: Any) -> tuple[Openable, Opening] | None:
    """A resource that is being opened for an owner, with its opening; None if there is none."""
    for (resource, whose), opening in list(under_way.items()):
        if whose is owner:
            return resource, opening
    return None


def wait(other: Opening) -> None:
    """Block until another opening has ended, successfully or not."""
    waiter = ThreadWaiter()
    entry = _enlist(other, waiter)
    try:
        if other[0] is not None:  # checked only now, so that an opening that ends meanwhile finds the waiter
            waiter.wait()
    finally:
        _unlist(entry)


async def await_(other: Opening) -> None:
    """Suspend until another opening has ended, successfully or not."""
    waiter = async_waiter()
    entry = _enlist(other, waiter)
    try:
        if other[0] is not None:  # likewise
            await waiter.wait()
    finally:
        _unlist(entry)


@contextmanager
def in_turn(owner: Owner, placeholder: Placeholder) -> Iterator[None]:
    """A block that runs once at a time for an owner: other callers wait for its end."""
    mine: Opening = [placeholder, get_ident()]
    while (other := claim(owner, mine)) is not None:
        wait(other)
    try:
        yield
    finally:
        release(owner, mine)


@asynccontextmanager
async def ain_turn(owner: Owner, placeholder: Placeholder) -> AsyncIterator[None]:
    """The async twin of `in_turn`."""
    mine: Opening = [placeholder, current_opening()]
    while (other := claim(owner, mine)) is not None:
        await await_(other)
    token = enter_opening(mine)
    try:
        yield
    finally:
        leave_opening(token)
        release(owner, mine)


def _enlist(other: Opening, waiter: Waiter) -> _Wait:
    """Register a waiter for an opening.

    Raises:
        ResourceCycleError: if the opening waits, directly or indirectly, for one that the caller runs in.
    """
    ours = openings_here()
    entry = (ours, other, waiter)
    with _waits_lock:
        loop = _path(other, ours, [])
        if loop is not None:
            resources = [opening[0] for opening in [*loop, other]]
            if None not in resources:  # else one of them has just ended, and there is no loop any more
                raise ResourceCycleError(resource.name for resource in resources)
        waits.append(entry)
    return entry


def _unlist(entry: _Wait) -> None:
    with _waits_lock:
        waits.remove(entry)


def openings_here() -> tuple[Opening, ...]:
    """The openings under way that the running code is part of, the innermost first."""
    thread = get_ident()
    claimed = [opening for under_way in list(_all_under_way.values()) for opening in list(under_way.values())]
    here = [opening for opening in reversed(claimed) if opening[1] == thread]
    inside: Any = current_opening()
    while isinstance(inside, list):
        here.append(inside)
        inside = inside[1]
    return tuple([opening for opening in (*here, *(inside or ())) if opening[0] is not None])


def _path(target: Opening, ours: Sequence[Opening], seen: Sequence[Opening]) -> list[Opening] | None:
    """The loop of waits from ``target`` through one of ours and back; None if there is none."""
    place = _place(target, ours)
    if place is not None:
        return [target, *reversed(ours[:place])]
    for waiting, awaited, _ in waits:
        if _place(target, waiting) is not None and _place(awaited, seen) is None:
            rest = _path(awaited, ours, [*seen, awaited])
            if rest is not None:
                return [target, *rest]
    return None


def _place(opening: Opening, among: Sequence[Opening]) -> int | None:
    """The index of an opening among others, by identity: ``==`` would compare their contents."""
    return next((place for place, one in enumerate(among) if one is opening), None)


def _forget_after_fork() -> None:
    global _waits_lock
    _waits_lock = threading.Lock()  # a thread that did not survive may have held it
    waits.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
