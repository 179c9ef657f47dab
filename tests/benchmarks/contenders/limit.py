"""The limit: what a careful author writes by hand for a single case, without a library.

The context is ambient (a ContextVar), every resource is closed in a ``finally``, and an exception is
thrown into the generator. It opens eagerly and supports no threads, cancellation or outcomes.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar, Token
from itertools import repeat
from typing import Any

from tests.benchmarks.contenders import AsyncRun, Contender, Holder, Run
from tests.benchmarks.resources import (
    Connection,
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


class HandContext:
    """Holds the facts of a request, as every context does, and the resources opened for it."""

    connection: Connection
    link_1: Link1
    link_2: Link2
    link_3: Link3
    link_4: Link4
    link_5: Link5

    def __init__(self, meta: Mapping[str, Any] | None) -> None:
        self.meta = meta


current: ContextVar[Any] = ContextVar("current")


class ItemService:
    def get_item(self, id: int) -> int:
        return current.get().connection.get(id)  # type: ignore[no-any-return]


class AsyncItemService:
    async def get_item(self, id: int) -> int:
        return current.get().connection.get(id)  # type: ignore[no-any-return]


class PlainItemService:
    def get_item(self, id: int) -> int:
        return id


class Node:
    """A namespace for services."""

    def __init__(self, **children: Any) -> None:
        vars(self).update(children)


class Finder:
    def find(self, id: int) -> int:
        return id


items = ItemService()
async_items = AsyncItemService()


@contextmanager
def empty() -> Iterator[Run]:
    def run(times: int) -> None:
        for _ in repeat(None, times):
            token = current.set(HandContext(None))
            try:
                pass
            finally:
                current.reset(token)

    yield run


@contextmanager
def one() -> Iterator[Run]:
    def run(times: int) -> None:
        for _ in repeat(None, times):
            context = HandContext(None)
            token = current.set(context)
            try:
                opened = connection(context)
                context.connection = next(opened)
                try:
                    pass
                finally:
                    next(opened, None)
            finally:
                current.reset(token)

    yield run


@contextmanager
def five() -> Iterator[Run]:
    def run(times: int) -> None:
        for _ in repeat(None, times):
            context = HandContext(None)
            token = current.set(context)
            try:
                first = link_1(context)
                context.link_1 = next(first)
                try:
                    second = link_2(context)
                    context.link_2 = next(second)
                    try:
                        third = link_3(context)
                        context.link_3 = next(third)
                        try:
                            fourth = link_4(context)
                            context.link_4 = next(fourth)
                            try:
                                fifth = link_5(context)
                                context.link_5 = next(fifth)
                                try:
                                    pass
                                finally:
                                    next(fifth, None)
                            finally:
                                next(fourth, None)
                        finally:
                            next(third, None)
                    finally:
                        next(second, None)
                finally:
                    next(first, None)
            finally:
                current.reset(token)

    yield run


@contextmanager
def full() -> Iterator[Run]:
    def run(times: int) -> None:
        for _ in repeat(None, times):
            context = HandContext(None)
            token = current.set(context)
            try:
                opened = connection(context)
                context.connection = next(opened)
                try:
                    items.get_item(1)
                finally:
                    next(opened, None)
            finally:
                current.reset(token)

    yield run


def _calls_of(dal: Any) -> Run:
    def run(times: int) -> None:
        for _ in repeat(None, times):
            dal.items.get_item(1)

    return run


@contextmanager
def call() -> Iterator[Run]:
    yield _calls_of(Node(items=PlainItemService()))


@contextmanager
def nested_call() -> Iterator[Run]:
    dal = Node(a=Node(b=Node(c=Finder())))

    def run(times: int) -> None:
        for _ in repeat(None, times):
            dal.a.b.c.find(1)  # type: ignore[attr-defined]

    yield run


@contextmanager
def call_using() -> Iterator[Run]:
    context = HandContext(None)
    token = current.set(context)
    opened = connection(context)
    context.connection = next(opened)
    try:
        yield _calls_of(Node(items=items))
    finally:
        next(opened, None)
        current.reset(token)


def _decorate(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method in three decorators that do nothing."""

    def decorate_inner(method: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any) -> Any:
            return method(*args)

        return inner

    def decorate_middle(method: Callable[..., Any]) -> Callable[..., Any]:
        def middle(*args: Any) -> Any:
            return method(*args)

        return middle

    def decorate_outer(method: Callable[..., Any]) -> Callable[..., Any]:
        def outer(*args: Any) -> Any:
            return method(*args)

        return outer

    return decorate_outer(decorate_middle(decorate_inner(method)))


class DecoratedItemService:
    @_decorate
    def get_item(self, id: int) -> int:
        return id


@contextmanager
def call_through_decorators() -> Iterator[Run]:
    yield _calls_of(Node(items=DecoratedItemService()))


@contextmanager
def context_middleware() -> Iterator[Run]:
    def run(times: int) -> None:
        for _ in repeat(None, times):
            context = HandContext(None)
            token = current.set(context)
            try:
                first = outer(context)
                next(first)
                try:
                    second = middle(context)
                    next(second)
                    try:
                        third = inner(context)
                        next(third)
                        try:
                            pass
                        finally:
                            next(third, None)
                    finally:
                        next(second, None)
                finally:
                    next(first, None)
            finally:
                current.reset(token)

    yield run


@contextmanager
def failing() -> Iterator[Run]:
    def run(times: int) -> None:
        for _ in repeat(None, times):
            try:
                context = HandContext(None)
                token = current.set(context)
                try:
                    opened = connection(context)
                    context.connection = next(opened)
                    try:
                        raise Failure
                    except BaseException as error:
                        opened.throw(error)  # type: ignore[attr-defined]
                        raise
                finally:
                    current.reset(token)
            except Failure:
                pass

    yield run


class Veto(Exception):
    """Thrown into the resource when the status requires a rollback."""


@contextmanager
def vetoed() -> Iterator[Run]:
    def run(times: int) -> None:
        for _ in repeat(None, times):
            context = HandContext(None)
            token = current.set(context)
            try:
                opened = connection(context)
                context.connection = next(opened)
                try:
                    opened.throw(Veto())  # type: ignore[attr-defined]
                except Veto:
                    pass
            finally:
                current.reset(token)

    yield run


@contextmanager
def transactional() -> Iterator[Run]:
    def run(times: int) -> None:
        for _ in repeat(None, times):
            context = HandContext(None)
            token = current.set(context)
            try:
                transaction = Transaction(context)
                try:
                    transaction.prepare()
                    transaction.commit()
                except BaseException:
                    transaction.rollback()
                    raise
                finally:
                    transaction.close()
            finally:
                current.reset(token)

    yield run


@contextmanager
def session() -> Iterator[Run]:
    from sqlalchemy.orm import sessionmaker  # imported here, as other rows measure memory

    from tests.benchmarks.database import UPDATE, counters

    engine = counters()
    sessions = sessionmaker(engine, expire_on_commit=False)

    def run(times: int) -> None:
        for _ in repeat(None, times):
            token = current.set(HandContext(None))
            try:
                with sessions() as session:
                    session.execute(UPDATE)
                    session.commit()
            finally:
                current.reset(token)

    yield run
    engine.dispose()


@contextmanager
def on_commit() -> Iterator[Run]:
    def run(times: int) -> None:
        for _ in repeat(None, times):
            token = current.set(HandContext(None))
            hooks: list[Callable[[], None]] = []
            try:
                hooks.append(hook)
            finally:
                current.reset(token)
            for registered in hooks:
                registered()

    yield run


@asynccontextmanager
async def async_empty() -> AsyncIterator[AsyncRun]:
    async def run(times: int) -> None:
        for _ in repeat(None, times):
            token = current.set(HandContext(None))
            try:
                pass
            finally:
                current.reset(token)

    yield run


@asynccontextmanager
async def async_one() -> AsyncIterator[AsyncRun]:
    async def run(times: int) -> None:
        for _ in repeat(None, times):
            context = HandContext(None)
            token = current.set(context)
            try:
                opened = async_connection(context)
                context.connection = await anext(opened)
                try:
                    pass
                finally:
                    await anext(opened, None)
            finally:
                current.reset(token)

    yield run


async def async_link_1(context: HandContext) -> AsyncIterator[Link1]:
    tally.opened += 1
    try:
        yield Link1()
    finally:
        tally.closed += 1


async def async_link_2(context: HandContext) -> AsyncIterator[Link2]:
    below = context.link_1
    tally.opened += 1
    try:
        yield Link2(below)
    finally:
        tally.closed += 1


async def async_link_3(context: HandContext) -> AsyncIterator[Link3]:
    below = context.link_2
    tally.opened += 1
    try:
        yield Link3(below)
    finally:
        tally.closed += 1


async def async_link_4(context: HandContext) -> AsyncIterator[Link4]:
    below = context.link_3
    tally.opened += 1
    try:
        yield Link4(below)
    finally:
        tally.closed += 1


async def async_link_5(context: HandContext) -> AsyncIterator[Link5]:
    below = context.link_4
    tally.opened += 1
    try:
        yield Link5(below)
    finally:
        tally.closed += 1


@asynccontextmanager
async def async_five() -> AsyncIterator[AsyncRun]:
    async def run(times: int) -> None:
        for _ in repeat(None, times):
            context = HandContext(None)
            token = current.set(context)
            try:
                first = async_link_1(context)
                context.link_1 = await anext(first)
                try:
                    second = async_link_2(context)
                    context.link_2 = await anext(second)
                    try:
                        third = async_link_3(context)
                        context.link_3 = await anext(third)
                        try:
                            fourth = async_link_4(context)
                            context.link_4 = await anext(fourth)
                            try:
                                fifth = async_link_5(context)
                                context.link_5 = await anext(fifth)
                                try:
                                    pass
                                finally:
                                    await anext(fifth, None)
                            finally:
                                await anext(fourth, None)
                        finally:
                            await anext(third, None)
                    finally:
                        await anext(second, None)
                finally:
                    await anext(first, None)
            finally:
                current.reset(token)

    yield run


@asynccontextmanager
async def async_full() -> AsyncIterator[AsyncRun]:
    async def run(times: int) -> None:
        for _ in repeat(None, times):
            context = HandContext(None)
            token = current.set(context)
            try:
                opened = async_connection(context)
                context.connection = await anext(opened)
                try:
                    await async_items.get_item(1)
                finally:
                    await anext(opened, None)
            finally:
                current.reset(token)

    yield run


@asynccontextmanager
async def async_suspending() -> AsyncIterator[AsyncRun]:
    async def run(times: int) -> None:
        for _ in repeat(None, times):
            context = HandContext(None)
            token = current.set(context)
            try:
                opened = suspending_connection(context)
                context.connection = await anext(opened)
                try:
                    pass
                finally:
                    await anext(opened, None)
            finally:
                current.reset(token)

    yield run


class HeldContext:
    """A context that stays open has to keep its token, and its generator if it has opened the resource."""

    __slots__ = ("connection", "generator", "token")

    connection: Connection
    generator: Iterator[Connection]
    token: Token[Any]


@contextmanager
def held_empty() -> Iterator[Holder]:
    def open_one() -> HeldContext:
        context = HeldContext()
        context.token = current.set(context)
        return context

    def close_one(context: HeldContext) -> None:
        current.reset(context.token)

    yield Holder(open_one, close_one)


@contextmanager
def held_connection() -> Iterator[Holder]:
    def open_one() -> HeldContext:
        context = HeldContext()
        context.token = current.set(context)
        context.generator = connection(context)
        context.connection = next(context.generator)
        return context

    def close_one(context: HeldContext) -> None:
        next(context.generator, None)
        current.reset(context.token)

    yield Holder(open_one, close_one)


contender = Contender(
    name="limit",
    sync={
        "empty": empty,
        "one": one,
        "five": five,
        "full": full,
        "call": call,
        "nested_call": nested_call,
        "call_using": call_using,
        "method_functions": call_through_decorators,
        "method_generators": call_through_decorators,
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
        "async_sync_resource": async_one,
        "async_suspending": async_suspending,
    },
    held={
        "held_empty": held_empty,
        "held_connection": held_connection,
        "held_connection_later": held_connection,
    },
    ambient=True,
)
