"""Shared by the unit tests: both halves of the engine behind one fixture, an event log, and no context left behind."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
import trio

from polydatum.process import managers

SYNC = "sync"
ASYNCIO = "asyncio"
MIXED = "mixed"  # async contexts on asyncio, whose parts are all sync
TRIO = "trio"


class Recorder(list[str]):
    """An event log that can be called, with parts that write to it."""

    def __call__(self, event: str) -> str:
        self.append(event)
        return event

    def part(self, name: str, value: Any = None) -> Callable[[Any], Iterator[Any]]:
        """A resource or context middleware that says when it opens, commits or rolls back, and ends."""

        def part(subject: Any) -> Iterator[Any]:
            self(f"{name} opens")
            try:
                yield name if value is None else value
            except BaseException as error:
                self(f"{name} sees {type(error).__name__}")
                raise
            else:
                self(f"{name} commits")
            finally:
                self(f"{name} ends")

        part.__name__ = part.__qualname__ = name
        return part


class Block:
    """``async with`` over a context of either half."""

    def __init__(self, context: Any, is_async: bool) -> None:
        self.context = context
        self.is_async = is_async

    async def __aenter__(self) -> Any:
        return await self.context.__aenter__() if self.is_async else self.context.__enter__()

    async def __aexit__(self, *raised: Any) -> Any:
        return await self.context.__aexit__(*raised) if self.is_async else self.context.__exit__(*raised)


class Drive:
    """Runs a scenario, an async function, over one half of the engine. In the sync half nothing in it ever suspends."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_async = name != SYNC
        self.has_async_parts = name in (ASYNCIO, TRIO)

    def run(self, scenario: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        async def checked() -> Any:
            try:
                result = await scenario(*args)
            except BaseException:
                leave_all()
                raise
            assert leave_all() == [], "the scenario left a context active"
            return result

        if self.name == TRIO:
            return trio.run(checked)
        if self.is_async:
            return asyncio.run(checked())
        coroutine = checked()
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        coroutine.close()
        raise AssertionError("the sync half suspended")

    # --- Contexts ---

    def block(self, context: Any) -> Block:
        """``async with drive.block(dm.context())``, or ``dm.dal()``."""
        return Block(context, self.is_async)

    async def open(self, context: Any) -> Any:
        return await context.aopen() if self.is_async else context.open()

    async def close(self, context: Any, exc: BaseException | None = None, **options: Any) -> Any:
        return await context.aclose(exc, **options) if self.is_async else context.close(exc, **options)

    async def close_manager(self, data_manager: Any) -> None:
        if self.is_async:
            await data_manager.aclose()
        else:
            data_manager.close()

    # --- Parts ---

    def part(self, factory: Callable[[Any], Iterator[Any]]) -> Any:
        """A generator function for this half: itself, or an async one that does the same."""
        if not self.has_async_parts:
            return factory

        async def part(subject: Any) -> AsyncIterator[Any]:
            generator: Any = factory(subject)
            resume: Callable[[], Any] = generator.__next__
            while True:
                try:
                    value = resume()
                except StopIteration:
                    return
                try:
                    yield value
                except BaseException as error:
                    resume = _throwing(generator, error)
                else:
                    resume = generator.__next__

        part.__name__ = part.__qualname__ = factory.__name__
        return part

    def function(self, fn: Callable[..., Any]) -> Any:
        """A function, method or hook for this half: itself, or a coroutine function that does the same."""
        if not self.has_async_parts:
            return fn

        async def function(*args: Any, **kwargs: Any) -> Any:
            return await self.value(fn(*args, **kwargs))

        function.__name__ = function.__qualname__ = fn.__name__
        return function

    async def value(self, given: Any) -> Any:
        """What a touch or call gave, awaited if need be."""
        return await given if inspect.isawaitable(given) else given


def _throwing(generator: Any, error: BaseException) -> Callable[[], Any]:
    return lambda: generator.throw(error)


def leave_all() -> list[Any]:
    """The contexts that are current here, of all managers; none is afterwards."""
    left = []
    for manager in list(managers):
        while (context := manager._current()) is not None:
            left.append(context)
            context.leave()
            if manager._current() is context:
                break
    return left


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """An async test with a `drive` runs by it."""
    drive = pyfuncitem.funcargs.get("drive")
    if not isinstance(drive, Drive) or not inspect.iscoroutinefunction(pyfuncitem.function):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    drive.run(lambda: pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(autouse=True)
def no_context_left() -> Iterator[None]:
    """Fails a test that leaves a context active."""
    yield
    assert [context for context in leave_all() if context.state != "closed"] == [], "the test left a context active"


@pytest.fixture(params=[SYNC, ASYNCIO, MIXED, TRIO])
def drive(request: pytest.FixtureRequest) -> Drive:
    """The test runs once over each half of the engine."""
    return Drive(request.param)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
