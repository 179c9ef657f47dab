"""dishka: scopes that the caller passes on, resources injected by type; locks off, its fastest form."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import repeat

from dishka import AsyncContainer, Container, Provider, Scope, make_async_container, make_container

from tests.benchmarks import typed_resources as typed
from tests.benchmarks.contenders import AsyncRun, Contender, Holder, Run
from tests.benchmarks.resources import Connection, Failure, Link5


def _container() -> Container:
    provider = Provider(scope=Scope.REQUEST)
    for thing in (typed.connection, typed.ItemService, typed.PlainItemService, *typed.CHAIN):
        provider.provide(thing)
    return make_container(provider, lock_factory=None)


def _async_container() -> AsyncContainer:
    provider = Provider(scope=Scope.REQUEST)
    for thing in (typed.async_connection, typed.AsyncItemService, *typed.ASYNC_CHAIN):
        provider.provide(thing)
    return make_async_container(provider, lock_factory=None)


@contextmanager
def empty() -> Iterator[Run]:
    container = _container()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with container():
                pass

    yield run


@contextmanager
def one() -> Iterator[Run]:
    container = _container()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with container() as scope:
                scope.get(Connection)

    yield run


@contextmanager
def five() -> Iterator[Run]:
    container = _container()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with container() as scope:
                scope.get(Link5)

    yield run


@contextmanager
def full() -> Iterator[Run]:
    container = _container()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with container() as scope:
                scope.get(typed.ItemService).get_item(1)

    yield run


@contextmanager
def call() -> Iterator[Run]:
    with _container()() as scope:

        def run(times: int) -> None:
            for _ in repeat(None, times):
                scope.get(typed.PlainItemService).get_item(1)

        yield run


@contextmanager
def call_using() -> Iterator[Run]:
    with _container()() as scope:
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
                with container() as scope:
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
            async with container():
                pass

    yield run


@asynccontextmanager
async def async_one() -> AsyncIterator[AsyncRun]:
    container = _async_container()

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            async with container() as scope:
                await scope.get(Connection)

    yield run


@asynccontextmanager
async def async_five() -> AsyncIterator[AsyncRun]:
    container = _async_container()

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            async with container() as scope:
                await scope.get(Link5)

    yield run


@asynccontextmanager
async def async_full() -> AsyncIterator[AsyncRun]:
    container = _async_container()

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            async with container() as scope:
                await (await scope.get(typed.AsyncItemService)).get_item(1)

    yield run


@contextmanager
def held_empty() -> Iterator[Holder]:
    container = _container()

    def open_one() -> object:
        scope = container()
        scope.__enter__()
        return scope

    yield Holder(open_one, lambda scope: scope.__exit__(None, None, None))


@contextmanager
def held_connection() -> Iterator[Holder]:
    container = _container()

    def open_one() -> object:
        scope = container()
        scope.__enter__().get(Connection)
        return scope

    yield Holder(open_one, lambda scope: scope.__exit__(None, None, None))


contender = Contender(
    name="dishka",
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
