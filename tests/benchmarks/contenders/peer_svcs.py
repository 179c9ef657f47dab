"""svcs: containers that the caller passes on; a factory asks the container for what it needs."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import repeat
from typing import Any

from svcs import Container, Registry

from tests.benchmarks import typed_resources as typed
from tests.benchmarks.contenders import AsyncRun, Contender, Holder, Run
from tests.benchmarks.resources import Connection, Failure, Link1, Link2, Link3, Link4, Link5, tally


def link_2(svcs_container: Container) -> Iterator[Link2]:
    below = svcs_container.get(Link1)
    tally.opened += 1
    try:
        yield Link2(below)
    finally:
        tally.closed += 1


def link_3(svcs_container: Container) -> Iterator[Link3]:
    below = svcs_container.get(Link2)
    tally.opened += 1
    try:
        yield Link3(below)
    finally:
        tally.closed += 1


def link_4(svcs_container: Container) -> Iterator[Link4]:
    below = svcs_container.get(Link3)
    tally.opened += 1
    try:
        yield Link4(below)
    finally:
        tally.closed += 1


def link_5(svcs_container: Container) -> Iterator[Link5]:
    below = svcs_container.get(Link4)
    tally.opened += 1
    try:
        yield Link5(below)
    finally:
        tally.closed += 1


async def async_link_2(svcs_container: Container) -> AsyncIterator[Link2]:
    below = await svcs_container.aget(Link1)
    tally.opened += 1
    try:
        yield Link2(below)
    finally:
        tally.closed += 1


async def async_link_3(svcs_container: Container) -> AsyncIterator[Link3]:
    below = await svcs_container.aget(Link2)
    tally.opened += 1
    try:
        yield Link3(below)
    finally:
        tally.closed += 1


async def async_link_4(svcs_container: Container) -> AsyncIterator[Link4]:
    below = await svcs_container.aget(Link3)
    tally.opened += 1
    try:
        yield Link4(below)
    finally:
        tally.closed += 1


async def async_link_5(svcs_container: Container) -> AsyncIterator[Link5]:
    below = await svcs_container.aget(Link4)
    tally.opened += 1
    try:
        yield Link5(below)
    finally:
        tally.closed += 1


def item_service(svcs_container: Container) -> typed.ItemService:
    return typed.ItemService(svcs_container.get(Connection))


async def async_item_service(svcs_container: Container) -> typed.AsyncItemService:
    return typed.AsyncItemService(await svcs_container.aget(Connection))


def _registry() -> Registry:
    registry = Registry()
    registry.register_factory(Connection, typed.connection)
    registry.register_factory(typed.ItemService, item_service)
    registry.register_factory(typed.PlainItemService, typed.PlainItemService)
    registry.register_factory(Link1, typed.link_1)
    registry.register_factory(Link2, link_2)
    registry.register_factory(Link3, link_3)
    registry.register_factory(Link4, link_4)
    registry.register_factory(Link5, link_5)
    return registry


def _async_registry() -> Registry:
    registry = Registry()
    registry.register_factory(Connection, typed.async_connection)
    registry.register_factory(typed.AsyncItemService, async_item_service)
    registry.register_factory(Link1, typed.async_link_1)
    registry.register_factory(Link2, async_link_2)
    registry.register_factory(Link3, async_link_3)
    registry.register_factory(Link4, async_link_4)
    registry.register_factory(Link5, async_link_5)
    return registry


@contextmanager
def empty() -> Iterator[Run]:
    registry = _registry()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with Container(registry):
                pass

    yield run


@contextmanager
def one() -> Iterator[Run]:
    registry = _registry()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with Container(registry) as scope:
                scope.get(Connection)

    yield run


@contextmanager
def five() -> Iterator[Run]:
    registry = _registry()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with Container(registry) as scope:
                scope.get(Link5)

    yield run


@contextmanager
def full() -> Iterator[Run]:
    registry = _registry()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with Container(registry) as scope:
                scope.get(typed.ItemService).get_item(1)

    yield run


@contextmanager
def call() -> Iterator[Run]:
    with Container(_registry()) as scope:

        def run(times: int) -> None:
            for _ in repeat(None, times):
                scope.get(typed.PlainItemService).get_item(1)

        yield run


@contextmanager
def call_using() -> Iterator[Run]:
    with Container(_registry()) as scope:
        scope.get(typed.ItemService)

        def run(times: int) -> None:
            for _ in repeat(None, times):
                scope.get(typed.ItemService).get_item(1)

        yield run


@contextmanager
def failing() -> Iterator[Run]:
    registry = _registry()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            try:
                with Container(registry) as scope:
                    scope.get(Connection)
                    raise Failure
            except Failure:
                pass

    yield run


@asynccontextmanager
async def async_empty() -> AsyncIterator[AsyncRun]:
    registry = _async_registry()

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            async with Container(registry):
                pass

    yield run


@asynccontextmanager
async def async_one() -> AsyncIterator[AsyncRun]:
    registry = _async_registry()

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            async with Container(registry) as scope:
                await scope.aget(Connection)

    yield run


@asynccontextmanager
async def async_five() -> AsyncIterator[AsyncRun]:
    registry = _async_registry()

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            async with Container(registry) as scope:
                await scope.aget(Link5)

    yield run


@asynccontextmanager
async def async_full() -> AsyncIterator[AsyncRun]:
    registry = _async_registry()

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            async with Container(registry) as scope:
                await (await scope.aget(typed.AsyncItemService)).get_item(1)

    yield run


@contextmanager
def held_empty() -> Iterator[Holder]:
    registry = _registry()
    yield Holder(lambda: Container(registry), Container.close)


@contextmanager
def held_connection() -> Iterator[Holder]:
    registry = _registry()

    def open_one() -> Container:
        scope = Container(registry)
        scope.get(Connection)
        return scope

    yield Holder(open_one, Container.close)


def register_resources(count: int) -> Callable[[], None]:
    kinds: list[type[Any]] = [type(f"Filler{number}", (), {}) for number in range(count)]

    def register() -> None:
        registry = Registry()
        for kind in kinds:
            registry.register_factory(kind, kind)
        with Container(registry) as scope:
            scope.get(kinds[-1])

    return register


contender = Contender(
    name="svcs",
    sync={
        "empty": empty,
        "one": one,
        "five": five,
        "full": full,
        "call": call,
        "call_using": call_using,
        "failing": failing,
    },
    async_={
        "async_empty": async_empty,
        "async_one": async_one,
        "async_five": async_five,
        "async_full": async_full,
    },
    held={"held_empty": held_empty, "held_connection": held_connection},
    registering={"register_resources": register_resources},
)
