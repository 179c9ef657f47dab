"""Our own library: the polydatum of this repository, with all its guarantees."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import repeat
from typing import Any

from polydatum import DataAccessLayer, DataManager, Service
from tests.benchmarks.contenders import AsyncRun, Contender, Holder, Run, SyncWork
from tests.benchmarks.resources import (
    Failure,
    Link1,
    Link2,
    Link3,
    Link4,
    Link5,
    Transaction,
    async_connection,
    connection,
    hook,
    inner,
    link_1,
    link_2,
    link_3,
    link_4,
    link_5,
    middle,
    outer,
    suspending_connection,
    tally,
)


class ItemService(Service[Any]):
    def get_item(self, id: int) -> int:
        return self._ctx.connection.get(id)  # type: ignore[no-any-return]


class AsyncItemService(Service[Any]):
    async def get_item(self, id: int) -> int:
        return (await self._ctx.async_connection).get(id)  # type: ignore[no-any-return]


class PlainItemService(Service[Any]):
    def get_item(self, id: int) -> int:
        return id


class Finder(Service[Any]):
    def find(self, id: int) -> int:
        return id


class Branch(Service[Any]):
    c = Finder()


class Root(Service[Any]):
    b = Branch()


class ShopDAL(DataAccessLayer):
    items = ItemService()
    async_items = AsyncItemService()
    plain_items = PlainItemService()
    a = Root()


async def async_link_1(context: Any) -> AsyncIterator[Link1]:
    tally.opened += 1
    try:
        yield Link1()
    finally:
        tally.closed += 1


async def async_link_2(context: Any) -> AsyncIterator[Link2]:
    below = await context.async_link_1
    tally.opened += 1
    try:
        yield Link2(below)
    finally:
        tally.closed += 1


async def async_link_3(context: Any) -> AsyncIterator[Link3]:
    below = await context.async_link_2
    tally.opened += 1
    try:
        yield Link3(below)
    finally:
        tally.closed += 1


async def async_link_4(context: Any) -> AsyncIterator[Link4]:
    below = await context.async_link_3
    tally.opened += 1
    try:
        yield Link4(below)
    finally:
        tally.closed += 1


async def async_link_5(context: Any) -> AsyncIterator[Link5]:
    below = await context.async_link_4
    tally.opened += 1
    try:
        yield Link5(below)
    finally:
        tally.closed += 1


def _manager() -> DataManager[ShopDAL, Any]:
    manager = DataManager(ShopDAL)
    manager.register_resources(
        connection=connection,
        link_1=link_1,
        link_2=link_2,
        link_3=link_3,
        link_4=link_4,
        link_5=link_5,
        async_connection=async_connection,
        async_link_1=async_link_1,
        async_link_2=async_link_2,
        async_link_3=async_link_3,
        async_link_4=async_link_4,
        async_link_5=async_link_5,
        suspending_connection=suspending_connection,
        transaction=Transaction,
    )
    return manager


@contextmanager
def empty() -> Iterator[Run]:
    manager = _manager()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with manager.context():
                pass

    yield run


def _one(manager: DataManager[Any, Any]) -> Run:
    def run(times: int) -> None:
        for _ in repeat(None, times):
            with manager.context() as context:
                context.connection  # noqa: B018

    return run


@contextmanager
def one() -> Iterator[Run]:
    yield _one(_manager())


@contextmanager
def five() -> Iterator[Run]:
    manager = _manager()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with manager.context() as context:
                context.link_5  # noqa: B018

    yield run


@contextmanager
def full() -> Iterator[Run]:
    manager = _manager()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with manager.dal() as dal:
                dal.items.get_item(1)

    yield run


@contextmanager
def call() -> Iterator[Run]:
    manager = _manager()
    with manager.dal() as dal:

        def run(times: int) -> None:
            for _ in repeat(None, times):
                dal.plain_items.get_item(1)

        yield run


@contextmanager
def nested_call() -> Iterator[Run]:
    manager = _manager()
    with manager.dal() as dal:

        def run(times: int) -> None:
            for _ in repeat(None, times):
                dal.a.b.c.find(1)

        yield run


@contextmanager
def call_using() -> Iterator[Run]:
    manager = _manager()
    with manager.dal() as dal:
        dal.items.get_item(1)

        def run(times: int) -> None:
            for _ in repeat(None, times):
                dal.items.get_item(1)

        yield run


@contextmanager
def method_functions() -> Iterator[Run]:
    def outer(call: Any, proceed: Callable[[Any], Any]) -> Any:
        return proceed(call)

    def middle(call: Any, proceed: Callable[[Any], Any]) -> Any:
        return proceed(call)

    def inner(call: Any, proceed: Callable[[Any], Any]) -> Any:
        return proceed(call)

    manager = DataManager()
    manager.register_services(items=PlainItemService())
    manager.register_method_middleware(outer, middle, inner)
    with manager.dal() as dal:

        def run(times: int) -> None:
            for _ in repeat(None, times):
                dal.items.get_item(1)

        yield run


@contextmanager
def method_generators() -> Iterator[Run]:
    def outer(call: Any) -> Any:
        result = yield
        return result

    def middle(call: Any) -> Any:
        result = yield
        return result

    def inner(call: Any) -> Any:
        result = yield
        return result

    manager = DataManager()
    manager.register_services(items=PlainItemService())
    manager.register_method_middleware(outer, middle, inner)
    with manager.dal() as dal:

        def run(times: int) -> None:
            for _ in repeat(None, times):
                dal.items.get_item(1)

        yield run


@contextmanager
def context_middleware() -> Iterator[Run]:
    manager = _manager()
    manager.register_context_middleware(outer, middle, inner)

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with manager.context():
                pass

    yield run


@contextmanager
def failing() -> Iterator[Run]:
    manager = _manager()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            try:
                with manager.context() as context:
                    context.connection  # noqa: B018
                    raise Failure
            except Failure:
                pass

    yield run


@contextmanager
def vetoed() -> Iterator[Run]:
    manager = _manager()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            context = manager.context()
            context.open()
            context.connection  # noqa: B018
            context.close(status=500)

    yield run


@contextmanager
def transactional() -> Iterator[Run]:
    manager = _manager()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with manager.context() as context:
                context.transaction  # noqa: B018

    yield run


@contextmanager
def session() -> Iterator[Run]:
    from polydatum.backends.sqlalchemy import SQLAlchemyBackend  # imported here, as other rows measure memory
    from tests.benchmarks.database import UPDATE, counters

    engine = counters()
    manager: DataManager[Any, Any] = DataManager()
    manager.register_resources(db=SQLAlchemyBackend(engine))

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with manager.context() as context:
                context.db.execute(UPDATE)

    yield run
    engine.dispose()


@contextmanager
def on_commit() -> Iterator[Run]:
    manager = _manager()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with manager.context() as context:
                context.on_commit(hook)

    yield run


@asynccontextmanager
async def async_empty() -> AsyncIterator[AsyncRun]:
    manager = _manager()

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            async with manager.context():
                pass

    yield run


@asynccontextmanager
async def async_one() -> AsyncIterator[AsyncRun]:
    manager = _manager()

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            async with manager.context() as context:
                await context.async_connection

    yield run


@asynccontextmanager
async def async_five() -> AsyncIterator[AsyncRun]:
    manager = _manager()

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            async with manager.context() as context:
                await context.async_link_5

    yield run


@asynccontextmanager
async def async_full() -> AsyncIterator[AsyncRun]:
    manager = _manager()

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            async with manager.dal() as dal:
                await dal.async_items.get_item(1)

    yield run


@asynccontextmanager
async def async_sync_resource() -> AsyncIterator[AsyncRun]:
    manager = _manager()

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            async with manager.context() as context:
                context.connection  # noqa: B018

    yield run


@asynccontextmanager
async def async_suspending() -> AsyncIterator[AsyncRun]:
    manager = _manager()

    async def run(times: int) -> None:
        for _ in repeat(None, times):
            async with manager.context() as context:
                await context.suspending_connection

    yield run


def _manager_of_one_resource() -> DataManager[Any, Any]:
    """Used for the bytes of a context, in which CPython reserves 8 B for each of a manager's first 20 resources."""
    manager: DataManager[Any, Any] = DataManager()
    manager.register_resources(connection=connection)
    return manager


@contextmanager
def held_empty() -> Iterator[Holder]:
    manager = _manager_of_one_resource()

    def open_one() -> Any:
        context = manager.context()
        context.open()
        return context

    yield Holder(open_one, lambda context: context.close())


@contextmanager
def held_connection(*, empty_before: int = 0) -> Iterator[Holder]:
    manager = _manager_of_one_resource()

    def open_one() -> Any:
        context = manager.context()
        context.open()
        context.connection  # noqa: B018
        return context

    for _ in range(empty_before):
        with manager.context():
            pass
    yield Holder(open_one, lambda context: context.close())


@contextmanager
def held_connection_later() -> Iterator[Holder]:
    with held_connection(empty_before=40) as holder:
        yield holder


def _resources(count: int) -> dict[str, Callable[[Any], Iterator[None]]]:
    def filler() -> Callable[[Any], Iterator[None]]:
        def resource(context: Any) -> Iterator[None]:
            yield

        return resource

    return {f"resource_{number}": filler() for number in range(count)}


def _services(count: int) -> dict[str, Service[Any]]:
    return {f"service_{number}": type(f"Service{number}", (Service,), {})() for number in range(count)}


def register_resources(count: int) -> Callable[[], None]:
    resources = _resources(count)

    def register() -> None:
        manager = DataManager()
        manager.register_resources(**resources)
        with manager.context():
            pass

    return register


def register_services(count: int) -> Callable[[], None]:
    services = _services(count)

    def register() -> None:
        manager = DataManager()
        manager.register_services(**services)
        with manager.dal():
            pass

    return register


def one_among(count: int) -> SyncWork:
    @contextmanager
    def work() -> Iterator[Run]:
        manager = _manager()
        manager.register_resources(**_resources(count))
        manager.register_services(**_services(count))
        yield _one(manager)

    return work


contender = Contender(
    name="polydatum",
    sync={
        "empty": empty,
        "one": one,
        "five": five,
        "full": full,
        "call": call,
        "nested_call": nested_call,
        "call_using": call_using,
        "method_functions": method_functions,
        "method_generators": method_generators,
        "context_middleware": context_middleware,
        "failing": failing,
        "vetoed": vetoed,
        "transactional": transactional,
        "session": session,
        "on_commit": on_commit,
    },
    async_={
        "async_empty": async_empty,
        "async_one": async_one,
        "async_five": async_five,
        "async_full": async_full,
        "async_sync_resource": async_sync_resource,
        "async_suspending": async_suspending,
    },
    held={
        "held_empty": held_empty,
        "held_connection": held_connection,
        "held_connection_later": held_connection_later,
    },
    registering={"register_resources": register_resources, "register_services": register_services},
    one_among=one_among,
    ambient=True,
)
