"""Resources and middleware of every form, which pass their points one by one and misbehave where they are told to.

Each function makes a factory to register: ``(points, name, kind)``, the kind being that of a transactional one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

from .shapes import AUTHORITY, EFFECT, GENERATOR, MANAGER, NO_YIELD, SWALLOW, TWO_YIELDS, YIELDED


class Points(Protocol):
    """Where parts report that they pass a point: a fault strikes there, or a misbehaviour is asked for."""

    def reach(self, point: str, cause: BaseException | None = None) -> str | None: ...

    async def areach(self, point: str, cause: BaseException | None = None) -> str | None: ...


# --- Sync ------------------------------------------------------------------------------------------------------------


def generator(points: Points, name: str, value: Any) -> Callable[[Any], Any]:
    setup, resumed, thrown = f"{name}.setup", f"{name}.resumed", f"{name}.thrown"

    def part(context: Any) -> Iterator[Any]:
        if points.reach(setup) == NO_YIELD:
            return
        try:
            yield value
        except BaseException as cause:
            kind = points.reach(thrown, cause)
            if kind == SWALLOW:
                return
            if kind == TWO_YIELDS:
                yield
            raise
        else:
            if points.reach(resumed) == TWO_YIELDS:
                yield

    return part


class Manager:
    """A context manager."""

    def __init__(self, points: Points, name: str) -> None:
        self.points = points
        self.name = name

    def __enter__(self) -> str:
        self.points.reach(f"{self.name}.setup")
        return self.name

    def __exit__(self, exc_type: Any, exc: BaseException | None, traceback: Any) -> bool:
        return self.points.reach(f"{self.name}.{'resumed' if exc is None else 'thrown'}", exc) == SWALLOW


class Transaction:
    """A transactional object."""

    def __init__(self, points: Points, name: str, kind: str) -> None:
        self.points = points
        self.name = name
        self.kind = kind

    def prepare(self) -> None:
        self.points.reach(f"{self.name}.prepare")

    def commit(self) -> None:
        self.points.reach(f"{self.name}.commit")

    def rollback(self) -> None:
        self.points.reach(f"{self.name}.rollback")

    def close(self) -> None:
        self.points.reach(f"{self.name}.close")


# --- The same, async -------------------------------------------------------------------------------------------------


def async_generator(points: Points, name: str, value: Any) -> Callable[[Any], Any]:
    setup, resumed, thrown = f"{name}.setup", f"{name}.resumed", f"{name}.thrown"

    async def part(context: Any) -> AsyncIterator[Any]:
        if await points.areach(setup) == NO_YIELD:
            return
        try:
            yield value
        except BaseException as cause:
            kind = await points.areach(thrown, cause)
            if kind == SWALLOW:
                return
            if kind == TWO_YIELDS:
                yield
            raise
        else:
            if await points.areach(resumed) == TWO_YIELDS:
                yield

    return part


class AsyncManager:
    """A context manager."""

    def __init__(self, points: Points, name: str) -> None:
        self.points = points
        self.name = name

    async def __aenter__(self) -> str:
        await self.points.areach(f"{self.name}.setup")
        return self.name

    async def __aexit__(self, exc_type: Any, exc: BaseException | None, traceback: Any) -> bool:
        return await self.points.areach(f"{self.name}.{'resumed' if exc is None else 'thrown'}", exc) == SWALLOW


class AsyncTransaction:
    """A transactional object."""

    def __init__(self, points: Points, name: str, kind: str) -> None:
        self.points = points
        self.name = name
        self.kind = kind

    async def prepare(self) -> None:
        await self.points.areach(f"{self.name}.prepare")

    async def commit(self) -> None:
        await self.points.areach(f"{self.name}.commit")

    async def rollback(self) -> None:
        await self.points.areach(f"{self.name}.rollback")

    async def close(self) -> None:
        await self.points.areach(f"{self.name}.close")


# --- By form ---------------------------------------------------------------------------------------------------------


def made_by_call(points: Points, name: str, make: Callable[[], Any]) -> Callable[[Any], Any]:
    """A callable that makes a transactional object, or something that is no resource."""

    def part(context: Any) -> Any:
        return None if points.reach(f"{name}.setup") == NO_YIELD else make()

    return part


def forms(generator: Any, manager: Any, transaction: Any) -> dict[str, Callable[[Points, str, str], Any]]:
    def called(points: Points, name: str, kind: str) -> Any:
        return made_by_call(points, name, lambda: transaction(points, name, kind))

    return {
        GENERATOR: lambda points, name, kind: generator(points, name, name),
        MANAGER: lambda points, name, kind: lambda context: manager(points, name),
        AUTHORITY: called,
        EFFECT: called,
        YIELDED: lambda points, name, kind: generator(points, name, transaction(points, name, kind)),
    }


PARTS = forms(generator, Manager, Transaction)
ASYNC_PARTS = forms(async_generator, AsyncManager, AsyncTransaction)
