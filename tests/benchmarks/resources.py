"""The work that all contenders share: the resources they open and close, and the counters that prove it.

``connection`` and ``link_1`` to ``link_5`` are for contenders that pass the context to a resource (the
limit, ours, polydatum 0.9.1); those in ``typed_resources`` have the same bodies, for peers that inject by
type.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass
class Tally:
    """The number of resources opened and closed in this process."""

    opened: int = 0
    closed: int = 0

    def clear(self) -> None:
        self.opened = self.closed = 0


tally = Tally()


class Connection:
    """The value of a resource: the smallest object with a method, since its bytes are not the library's."""

    __slots__ = ()

    def get(self, key: int) -> int:
        return key


class Failure(Exception):
    """The exception raised in a context in the exception row."""


def connection(context: Any) -> Iterator[Connection]:
    tally.opened += 1
    try:
        yield Connection()
    finally:
        tally.closed += 1


async def async_connection(context: Any) -> AsyncIterator[Connection]:
    tally.opened += 1
    try:
        yield Connection()
    finally:
        tally.closed += 1


async def suspending_connection(context: Any) -> AsyncIterator[Connection]:
    """A resource whose teardown suspends once."""
    tally.opened += 1
    try:
        yield Connection()
    finally:
        await asyncio.sleep(0)
        tally.closed += 1


class Link1:
    """The first of a chain of five resources, each of which needs the previous one."""


class Link2:
    def __init__(self, below: Link1) -> None:
        self.below = below


class Link3:
    def __init__(self, below: Link2) -> None:
        self.below = below


class Link4:
    def __init__(self, below: Link3) -> None:
        self.below = below


class Link5:
    def __init__(self, below: Link4) -> None:
        self.below = below


def link_1(context: Any) -> Iterator[Link1]:
    tally.opened += 1
    try:
        yield Link1()
    finally:
        tally.closed += 1


def link_2(context: Any) -> Iterator[Link2]:
    below = context.link_1
    tally.opened += 1
    try:
        yield Link2(below)
    finally:
        tally.closed += 1


def link_3(context: Any) -> Iterator[Link3]:
    below = context.link_2
    tally.opened += 1
    try:
        yield Link3(below)
    finally:
        tally.closed += 1


def link_4(context: Any) -> Iterator[Link4]:
    below = context.link_3
    tally.opened += 1
    try:
        yield Link4(below)
    finally:
        tally.closed += 1


def link_5(context: Any) -> Iterator[Link5]:
    below = context.link_4
    tally.opened += 1
    try:
        yield Link5(below)
    finally:
        tally.closed += 1


def outer(context: Any) -> Iterator[None]:
    """Context middleware; all three do nothing, so that only the overhead is measured."""
    yield


def middle(context: Any) -> Iterator[None]:
    yield


def inner(context: Any) -> Iterator[None]:
    yield


class Transaction:
    """A transactional resource that has nothing to commit."""

    kind = "authority"

    def __init__(self, context: Any) -> None:
        tally.opened += 1

    def prepare(self) -> None:
        pass

    def commit(self) -> None:
        pass

    def rollback(self) -> None:
        pass

    def close(self) -> None:
        tally.closed += 1


def hook() -> None:
    """The hook registered with ``on_commit``."""
