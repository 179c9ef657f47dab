"""The shapes of resources and context middleware, one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from polydatum import YieldedTwiceError
from polydatum.kinds import (
    ASYNC_GENERATOR,
    ASYNC_MANAGER,
    ASYNC_TRANSACTION,
    CALLABLE,
    GENERATOR,
    MANAGER,
    TRANSACTION,
    Kind,
    is_rethrown,
    is_transactional,
    kind_of,
    kind_of_result,
)


def test_a_kind_by_itself_opens_nothing() -> None:
    """Each kind says how."""
    for use in (Kind().open, Kind().end):
        with pytest.raises(NotImplementedError):
            use(None, None)


def test_kind_of() -> None:
    """Generators of both sorts are seen at once; every other callable has to be called first."""

    def generator(context: Any) -> Iterator[int]:
        yield 1

    async def async_generator(context: Any) -> AsyncIterator[int]:
        yield 1

    assert kind_of(generator) is GENERATOR
    assert kind_of(async_generator) is ASYNC_GENERATOR
    assert kind_of(print) is CALLABLE
    assert kind_of(dict) is CALLABLE
    assert kind_of(3) is None


class Steps:
    """The transactional protocol."""

    kind = "authority"

    def prepare(self) -> None: ...

    commit = rollback = close = prepare


class AsyncSteps(Steps):
    async def commit(self) -> None: ...  # type: ignore[override]


class Sync:
    def __enter__(self) -> None: ...

    def __exit__(self, *raised: object) -> None: ...


class Async:
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *raised: object) -> None: ...


class Both(Sync, Async): ...


class Half:
    def __enter__(self) -> None: ...

    async def __aenter__(self) -> None: ...


@pytest.mark.parametrize(
    ("made", "in_sync", "in_async"),
    [
        (Steps(), TRANSACTION, TRANSACTION),
        (AsyncSteps(), ASYNC_TRANSACTION, ASYNC_TRANSACTION),
        (Sync(), MANAGER, MANAGER),
        (Async(), ASYNC_MANAGER, ASYNC_MANAGER),
        (Both(), MANAGER, ASYNC_MANAGER),
        (Half(), None, None),
        (3, None, None),
        (Sync, None, None),
    ],
)
def test_judge(made: Any, in_sync: Any, in_async: Any) -> None:
    """What a callable made: a transaction, a manager of one sort or both, or nothing of use."""
    assert kind_of_result(made, in_async=False) is in_sync
    assert kind_of_result(made, in_async=True) is in_async


def test_is_transactional() -> None:
    """Its kind is one of two words."""
    assert is_transactional(Steps())
    assert not is_transactional(type("Other", (), {"kind": "table"})())
    assert not is_transactional(object())


@pytest.mark.parametrize("error", [StopIteration(), StopAsyncIteration(), KeyError()])
def test_is_rethrown(error: Exception) -> None:
    """Python wraps a StopIteration that leaves a generator: it is the one that was thrown in."""
    wrapped = RuntimeError()
    wrapped.__cause__ = error
    assert is_rethrown(error, error)
    assert is_rethrown(wrapped, error) is not isinstance(error, KeyError)
    assert not is_rethrown(RuntimeError(), error)


def test_a_second_yield() -> None:
    """The generator is closed; what that raises comes first."""

    def twice() -> Iterator[int]:
        try:
            yield 1
        finally:
            raise KeyError("while closing")

    generator = twice()
    next(generator)
    assert isinstance(GENERATOR.second_yield(generator), KeyError)
    with pytest.raises(YieldedTwiceError, match="twice"):
        GENERATOR.refuse_second_yield(twice())


class Failing:
    """A manager of both sorts whose exit says what it is told to say."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __enter__(self) -> Failing:
        return self

    def __exit__(self, kind: Any, error: Any, tb: Any) -> Any:
        if self.answer == "reraise":
            raise error
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def __aenter__(self) -> Failing:
        return self

    async def __aexit__(self, *raised: Any) -> Any:
        return self.__exit__(*raised)


@pytest.mark.parametrize("kind", [MANAGER, ASYNC_MANAGER])
def test_ends_of_managers(kind: Any) -> None:
    """True if it swallowed the cause, False if it let it through or raised it again; its own errors are raised."""

    def ended(answer: Any, cause: Any) -> Any:
        async def run() -> Any:
            opened = kind.open(lambda _: Failing(answer), None)
            _, handle = await opened if kind.is_async else opened
            result = kind.end(handle, cause)
            return await result if kind.is_async else result

        return asyncio.run(run())

    cause = KeyError()
    assert ended(True, cause) is True
    assert ended(None, cause) is False
    assert ended("reraise", cause) is False
    assert ended(None, None) is False
    assert ended(True, None) is False
    with pytest.raises(OSError):
        ended(OSError(), cause)
    with pytest.raises(OSError):
        ended(OSError(), None)
