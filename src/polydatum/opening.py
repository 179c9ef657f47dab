"""At most one successful open per owner and resource, under threads, ``asyncio.gather`` and trio tasks.

An *owner* is a Context or the app scope. Whoever touches a resource first claims it, by one atomic ``dict.setdefault``
on the openings under way; the others wait for that `Opening` and look again. No lock is held while user code runs, so a
failed or cancelled open leaves nothing behind, and the next one in line opens anew.

An opener claims first and looks at the owner's state then; a closer sets the state first and looks for openings then.
So at least one of the two sees the other.

Before anybody waits, it is asked what he runs in: a loop is an error that names it, never a deadlock. A sync opening runs
in one thread from its claim to its end, so that thread is all it notes. An async one is suspended, and may have child
tasks: a ContextVar has the chain of those that code runs in, which tasks inherit, and threads that `polydatum.bind` or
``asyncio.to_thread`` has given it.
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
"""One opening under way. A list, as it is hot: its resource, None when it is over; and of a sync one its thread, of an async
one the opening it runs in, or None."""


class UnderWay(dict["tuple[Openable, Owner]", Opening]):
    """The openings under way of all contexts of a manager, in the order of their claims."""

    __slots__ = ("__weakref__",)

    def __init__(self) -> None:
        _all_under_way[id(self)] = self


_all_under_way: WeakValueDictionary[int, UnderWay] = WeakValueDictionary()

_chain: ContextVar[Opening | tuple[Opening, ...] | None] = ContextVar("polydatum_opening", default=None)
"""The async opening that code runs in; in a thread, those of another one that it runs on behalf of."""
current_opening = _chain.get  # bound once: they are hot
enter_opening = _chain.set
leave_opening = _chain.reset


class Mark:
    """What stands in an opening for what is no resource, and is waited for like one: a set-up of middleware, a close."""

    def __init__(self, name: str, under_way: UnderWay) -> None:
        self.name = name
        self.under_way = under_way


_waits_lock = threading.Lock()
_Wait: TypeAlias = tuple[tuple[Opening, ...], Opening, Waiter]
waits: list[_Wait] = []  # who (and everything it runs in) waits for whom


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
    mine: Opening = [mark, get_ident()]
    while (other := claim(owner, mine)) is not None:
        wait(other)
    try:
        yield
    finally:
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


def _enlist(other: Opening, waiter: Waiter) -> _Wait:
    """Register a waiter for an opening.

    Raises:
        ResourceCycleError: if the opening waits, over any number of hops, for one that we run in.
    """
    ours = openings_here()
    entry = (ours, other, waiter)
    with _waits_lock:
        loop = _path(other, ours, [])
        if loop is not None:
            resources = [opening[0] for opening in [*loop, other]]
            if None not in resources:  # else one of them ended just now, and it is no loop any more
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


def _place(opening: Opening, among: Sequence[Opening]) -> int | None:
    """Where an opening is in a list of them; not by ``==``, which looks at what they contain."""
    return next((place for place, one in enumerate(among) if one is opening), None)


def _forget_after_fork() -> None:
    global _waits_lock
    _waits_lock = threading.Lock()  # a thread that did not survive may have held it
    waits.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
