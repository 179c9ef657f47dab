"""modern-di: containers that the caller passes on; resources are creators with finalizers, not generators.

It has no async creators, so the async rows, whose resources suspend when they open, have no equivalent.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any

from modern_di import Container, Group, Scope, providers

from tests.benchmarks import typed_resources as typed
from tests.benchmarks.contenders import Contender, Holder, Run
from tests.benchmarks.resources import Connection, Failure, Link1, Link2, Link3, Link4, Link5, tally


def make_connection() -> Connection:
    tally.opened += 1
    return Connection()


def make_link_1() -> Link1:
    tally.opened += 1
    return Link1()


def make_link_2(below: Link1) -> Link2:
    tally.opened += 1
    return Link2(below)


def make_link_3(below: Link2) -> Link3:
    tally.opened += 1
    return Link3(below)


def make_link_4(below: Link3) -> Link4:
    tally.opened += 1
    return Link4(below)


def make_link_5(below: Link4) -> Link5:
    tally.opened += 1
    return Link5(below)


def finalize(resource: object) -> None:
    tally.closed += 1


def _resource(creator: Callable[..., Any]) -> Any:
    return providers.Factory(creator=creator, scope=Scope.REQUEST, cache=providers.CacheSettings(finalizer=finalize))


class Things(Group):
    connection = _resource(make_connection)
    link_1 = _resource(make_link_1)
    link_2 = _resource(make_link_2)
    link_3 = _resource(make_link_3)
    link_4 = _resource(make_link_4)
    link_5 = _resource(make_link_5)
    item_service = providers.Factory(creator=typed.ItemService, scope=Scope.REQUEST, cache=True)
    plain_item_service = providers.Factory(creator=typed.PlainItemService, scope=Scope.REQUEST, cache=True)


def _container() -> Container:
    container = Container(groups=[Things])
    container.open()
    return container


@contextmanager
def empty() -> Iterator[Run]:
    container = _container()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with container.build_child_container(scope=Scope.REQUEST):
                pass

    yield run


@contextmanager
def one() -> Iterator[Run]:
    container = _container()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with container.build_child_container(scope=Scope.REQUEST) as scope:
                scope.resolve(Connection)

    yield run


@contextmanager
def five() -> Iterator[Run]:
    container = _container()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with container.build_child_container(scope=Scope.REQUEST) as scope:
                scope.resolve(Link5)

    yield run


@contextmanager
def full() -> Iterator[Run]:
    container = _container()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with container.build_child_container(scope=Scope.REQUEST) as scope:
                scope.resolve(typed.ItemService).get_item(1)

    yield run


@contextmanager
def call() -> Iterator[Run]:
    with _container().build_child_container(scope=Scope.REQUEST) as scope:

        def run(times: int) -> None:
            for _ in repeat(None, times):
                scope.resolve(typed.PlainItemService).get_item(1)

        yield run


@contextmanager
def call_using() -> Iterator[Run]:
    with _container().build_child_container(scope=Scope.REQUEST) as scope:
        scope.resolve(typed.ItemService)

        def run(times: int) -> None:
            for _ in repeat(None, times):
                scope.resolve(typed.ItemService).get_item(1)

        yield run


@contextmanager
def failing() -> Iterator[Run]:
    container = _container()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            try:
                with container.build_child_container(scope=Scope.REQUEST) as scope:
                    scope.resolve(Connection)
                    raise Failure
            except Failure:
                pass

    yield run


@contextmanager
def held_empty() -> Iterator[Holder]:
    container = _container()

    def open_one() -> Container:
        return container.build_child_container(scope=Scope.REQUEST).__enter__()

    yield Holder(open_one, Container.close_sync)


@contextmanager
def held_connection() -> Iterator[Holder]:
    container = _container()

    def open_one() -> Container:
        scope = container.build_child_container(scope=Scope.REQUEST).__enter__()
        scope.resolve(Connection)
        return scope

    yield Holder(open_one, Container.close_sync)


contender = Contender(
    name="modern-di",
    sync={
        "empty": empty,
        "one": one,
        "five": five,
        "full": full,
        "call": call,
        "call_using": call_using,
        "failing": failing,
    },
    held={"held_empty": held_empty, "held_connection": held_connection},
)
