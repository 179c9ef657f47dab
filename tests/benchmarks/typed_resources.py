"""The resources of ``resources``, for peers that inject by the types of parameters and results."""

from collections.abc import AsyncIterator, Iterator

from tests.benchmarks.resources import Connection, Link1, Link2, Link3, Link4, Link5, tally


class ItemService:
    """A service whose method uses the connection; the peers create one per scope."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def get_item(self, id: int) -> int:
        return self.connection.get(id)


class AsyncItemService:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def get_item(self, id: int) -> int:
        return self.connection.get(id)


class PlainItemService:
    """A service whose method needs nothing."""

    def get_item(self, id: int) -> int:
        return id


def connection() -> Iterator[Connection]:
    tally.opened += 1
    try:
        yield Connection()
    finally:
        tally.closed += 1


def link_1() -> Iterator[Link1]:
    tally.opened += 1
    try:
        yield Link1()
    finally:
        tally.closed += 1


def link_2(below: Link1) -> Iterator[Link2]:
    tally.opened += 1
    try:
        yield Link2(below)
    finally:
        tally.closed += 1


def link_3(below: Link2) -> Iterator[Link3]:
    tally.opened += 1
    try:
        yield Link3(below)
    finally:
        tally.closed += 1


def link_4(below: Link3) -> Iterator[Link4]:
    tally.opened += 1
    try:
        yield Link4(below)
    finally:
        tally.closed += 1


def link_5(below: Link4) -> Iterator[Link5]:
    tally.opened += 1
    try:
        yield Link5(below)
    finally:
        tally.closed += 1


CHAIN = (link_1, link_2, link_3, link_4, link_5)


async def async_connection() -> AsyncIterator[Connection]:
    tally.opened += 1
    try:
        yield Connection()
    finally:
        tally.closed += 1


async def async_link_1() -> AsyncIterator[Link1]:
    tally.opened += 1
    try:
        yield Link1()
    finally:
        tally.closed += 1


async def async_link_2(below: Link1) -> AsyncIterator[Link2]:
    tally.opened += 1
    try:
        yield Link2(below)
    finally:
        tally.closed += 1


async def async_link_3(below: Link2) -> AsyncIterator[Link3]:
    tally.opened += 1
    try:
        yield Link3(below)
    finally:
        tally.closed += 1


async def async_link_4(below: Link3) -> AsyncIterator[Link4]:
    tally.opened += 1
    try:
        yield Link4(below)
    finally:
        tally.closed += 1


async def async_link_5(below: Link4) -> AsyncIterator[Link5]:
    tally.opened += 1
    try:
        yield Link5(below)
    finally:
        tally.closed += 1


ASYNC_CHAIN = (async_link_1, async_link_2, async_link_3, async_link_4, async_link_5)
