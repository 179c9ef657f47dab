"""What a callable is, read off its code."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from polydatum.callables import (
    is_async_generator_function,
    is_coroutine_function,
    is_generator_function,
    is_routine,
    name_of,
    unwrapped,
)


def plain() -> None: ...


def generator() -> Iterator[int]:
    yield 1


async def coroutine() -> None: ...


async def async_generator() -> AsyncIterator[int]:
    yield 1


def callee(fn: Callable[[], Any]) -> Any:
    """An object that is called like a function."""
    return type("Callee", (), {"__call__": fn})()


def twice_partial(fn: Callable[..., Any]) -> Any:
    return functools.partial(functools.partial(fn))


class Methods:
    plain = plain
    generator = generator
    coroutine = coroutine
    async_generator = async_generator
    partial = functools.partialmethod(generator)


SPELLINGS: list[Callable[[Any], Any]] = [
    lambda fn: fn,
    functools.partial,
    twice_partial,
    callee,
    lambda fn: functools.partial(callee(fn)),
    lambda fn: callee(fn).__call__,
    lambda fn: getattr(Methods(), fn.__name__),
    lambda fn: getattr(Methods, fn.__name__),
    lambda fn: callee(functools.partial(fn)),
]


@pytest.mark.parametrize("spelling", range(len(SPELLINGS)))
@pytest.mark.parametrize("fn", [plain, generator, coroutine, async_generator])
def test_kinds(fn: Any, spelling: int) -> None:
    """Seen on the object, its partial, its ``__call__``, and a mix of them."""
    target = SPELLINGS[spelling](fn)
    assert is_generator_function(target) is (fn is generator)
    assert is_coroutine_function(target) is (fn is coroutine)
    assert is_async_generator_function(target) is (fn is async_generator)
    assert unwrapped(target) is fn


@pytest.mark.parametrize("target", [Methods, print, len, min, str.upper, object(), 3, None, contextlib.closing])
def test_everything_else(target: Any) -> None:
    """Classes, builtins and what cannot be called are of no kind."""
    assert not is_generator_function(target)
    assert not is_coroutine_function(target)
    assert not is_async_generator_function(target)


def test_never_through_wrapped() -> None:
    """A decorator may have made something else of a function."""

    @functools.wraps(generator)
    def decorated() -> None: ...

    assert not is_generator_function(decorated)
    assert not is_generator_function(contextlib.contextmanager(generator))


def test_marked_coroutine_functions() -> None:
    """A plain function that says it gives a coroutine is believed, as frameworks mark their wrappers."""

    def marked() -> Any:
        return coroutine()

    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(marked)
    else:
        marked._is_coroutine = asyncio.coroutines._is_coroutine
    assert is_coroutine_function(marked)


def test_routines() -> None:
    """Functions and methods of any sort; classes and callable objects are none."""
    for routine in (plain, len, str.upper, Methods().plain, staticmethod(plain), classmethod(plain)):
        assert is_routine(routine)
    for other in (Methods, callee(plain), 3):
        assert not is_routine(other)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (plain, "plain"),
        (functools.partial(plain), "plain"),
        (twice_partial(plain), "plain"),
        (callee(plain), "Callee"),
        (Methods().plain, "plain"),
        (Methods, "Methods"),
        (len, "len"),
        (3, "int"),
    ],
)
def test_names(target: Any, name: str) -> None:
    """For messages: the function's name, or the class's."""
    assert name_of(target) == name
