"""polydatum 0.9.1, the published package of the same name. It has no method middleware and no async."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any

from tests.benchmarks.contenders import Contender, Holder, Run, upstream_package
from tests.benchmarks.resources import (
    Failure,
    connection,
    inner,
    link_1,
    link_2,
    link_3,
    link_4,
    link_5,
    middle,
    outer,
)

upstream: Any = upstream_package.load()


class ItemService(upstream.Service):  # type: ignore[misc]
    def get_item(self, id: int) -> int:
        return self._ctx.connection.get(id)  # type: ignore[no-any-return]


class PlainItemService(upstream.Service):  # type: ignore[misc]
    def get_item(self, id: int) -> int:
        return id


class Finder(upstream.Service):  # type: ignore[misc]
    def find(self, id: int) -> int:
        return id


def _manager() -> Any:
    manager = upstream.DataManager()
    manager.register_resources(
        connection=connection, link_1=link_1, link_2=link_2, link_3=link_3, link_4=link_4, link_5=link_5
    )
    manager.register_services(items=ItemService(), plain_items=PlainItemService())
    return manager


@contextmanager
def empty() -> Iterator[Run]:
    manager = _manager()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with manager.context():
                pass

    yield run


@contextmanager
def one() -> Iterator[Run]:
    manager = _manager()

    def run(times: int) -> None:
        for _ in repeat(None, times):
            with manager.context() as context:
                context.connection  # noqa: B018

    yield run


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
    with _manager().dal() as dal:

        def run(times: int) -> None:
            for _ in repeat(None, times):
                dal.plain_items.get_item(1)

        yield run


@contextmanager
def nested_call() -> Iterator[Run]:
    manager = upstream.DataManager()
    manager.register_services(
        a=upstream.Service().register_services(b=upstream.Service().register_services(c=Finder()))
    )
    with manager.dal() as dal:

        def run(times: int) -> None:
            for _ in repeat(None, times):
                dal.a.b.c.find(1)

        yield run


@contextmanager
def call_using() -> Iterator[Run]:
    with _manager().dal() as dal:
        dal.items.get_item(1)

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
def held_empty() -> Iterator[Holder]:
    manager = _manager()

    def open_one() -> Any:
        context = manager.context()
        context.__enter__()
        return context

    yield Holder(open_one, lambda context: context.__exit__(None, None, None))


@contextmanager
def held_connection() -> Iterator[Holder]:
    manager = _manager()

    def open_one() -> Any:
        context = manager.context()
        context.__enter__().connection  # noqa: B018
        return context

    yield Holder(open_one, lambda context: context.__exit__(None, None, None))


def _resources(count: int) -> dict[str, Callable[[Any], Iterator[None]]]:
    def filler() -> Callable[[Any], Iterator[None]]:
        def resource(context: Any) -> Iterator[None]:
            yield

        return resource

    return {f"resource_{number}": filler() for number in range(count)}


def _services(count: int) -> dict[str, Any]:
    return {f"service_{number}": type(f"Service{number}", (upstream.Service,), {})() for number in range(count)}


def register_resources(count: int) -> Callable[[], None]:
    resources = _resources(count)

    def register() -> None:
        manager = upstream.DataManager()
        manager.register_resources(**resources)
        with manager.context():
            pass

    return register


def register_services(count: int) -> Callable[[], None]:
    services = _services(count)

    def register() -> None:
        manager = upstream.DataManager()
        manager.register_services(**services)
        with manager.dal():
            pass

    return register


contender = Contender(
    name="polydatum 0.9.1",
    sync={
        "empty": empty,
        "one": one,
        "five": five,
        "full": full,
        "call": call,
        "nested_call": nested_call,
        "call_using": call_using,
        "context_middleware": context_middleware,
        "failing": failing,
    },
    held={"held_empty": held_empty, "held_connection": held_connection},
    registering={"register_resources": register_resources, "register_services": register_services},
    ambient=True,
)
