"""wireup: scopes that the caller passes on, resources injected by type."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import repeat

from wireup import AsyncContainer, SyncContainer, create_async_container, create_sync_container, injectable

from tests.benchmarks import typed_resources as typed
from tests.benchmarks.contenders import AsyncRun, Contender, Holder, Run
from tests.benchmarks.resources import Connection, Failure, Link5

scoped = injectable(lifetime="scoped")


def _container() -> SyncContainer:
    things = (typed.connection, typed.ItemService, typed.PlainItemService, *typed.CHAIN)
    return create_sync_container(injectables=[scoped(thing) for thing in things])


def _async_container() -> AsyncContainer:
    things = (typed.async_connection, typed.AsyncItemService, *typed.ASYNC_CHAIN)
    return create_async_container(injectables=[scoped(thing) for thing in things])


@contextmanager
def empty() -> Iterator[Run]:
    container = _container()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with container.enter_scope():
                pass

    yield run


@contextmanager
def one() -> Iterator[Run]:
    container = _container()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with container.enter_scope() as scope:
                scope.get(Connection)

    yield run


@contextmanager
def five() -> Iterator[Run]:
    container = _container()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with container.enter_scope() as scope:
                scope.get(Link5)

    yield run


@contextmanager
def full() -> Iterator[Run]:
    container = _container()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with container.enter_scope() as scope:
                scope.get(typed.ItemService).get_item(1)

    yield run


@contextmanager
def call() -> Iterator[Run]:
    with _container().enter_scope() as scope:

        def run(times: int) -> None:
            for _ in repeat(None, times):
                scope.get(typed.PlainItemService).get_item(1)

        yield run


@contextmanager
def call_using() -> Iterator[Run]:
    with _container().enter_scope() as scope:
        scope.get(typed.ItemService)

        def run(times: int) -> None:
            for _ in repeat(None, times):
                scope.get(typed.ItemService).get_item(1)

        yield run


@contextmanager
def failing() -> Iterator[Run]:
    container = _container()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            try:
                with container.enter_scope() as scope:
                    scope.get(Connection)
                    raise Failure
            except Failure:
                pass

    yield run


@asynccontextmanager
async def async_empty() -> AsyncIterator[AsyncRun]:
    container = _async_container()

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            async with container.enter_scope():
                pass

    yield run


@asynccontextmanager
async def async_one() -> AsyncIterator[AsyncRun]:
    container = _async_container()

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            async with container.enter_scope() as scope:
                await scope.get(Connection)

    yield run


@asynccontextmanager
async def async_five() -> AsyncIterator[AsyncRun]:
    container = _async_container()

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            async with container.enter_scope() as scope:
                await scope.get(Link5)

    yield run


@asynccontextmanager
async def async_full() -> AsyncIterator[AsyncRun]:
    container = _async_container()

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            async with container.enter_scope() as scope:
                await (await scope.get(typed.AsyncItemService)).get_item(1)

    yield run


@contextmanager
def held_empty() -> Iterator[Holder]:
    container = _container()

    def open_one() -> object:
        scope = container.enter_scope()
        scope.__enter__()
        return scope

    yield Holder(open_one, lambda scope: scope.__exit__(None, None, None))


@contextmanager
def held_connection() -> Iterator[Holder]:
    container = _container()

    def open_one() -> object:
        scope = container.enter_scope()
        scope.__enter__().get(Connection)
        return scope

    yield Holder(open_one, lambda scope: scope.__exit__(None, None, None))


contender = Contender(
    name="wireup",
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
)
