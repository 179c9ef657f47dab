"""What the source of users' functions tells."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from polydatum.sources import first_line, runs_on_after_bare_yield, signature

pool: Any = None


# --- Teardown that does not run when a request fails ---------------------------------------------------------------


def bare(context: Any) -> Iterator[Any]:
    conn = pool.get()
    yield conn
    pool.put(conn)


def assigned(context: Any) -> Iterator[Any]:
    given = yield
    print(given)


def annotated(context: Any) -> Iterator[Any]:
    given: Any = yield
    print(given)


async def async_bare(context: Any) -> AsyncIterator[Any]:
    yield 1
    await pool.close()


def in_a_branch(context: Any) -> Iterator[Any]:
    if context:
        yield 1
        pool.put(1)
    else:
        yield 2


def after_branches(context: Any) -> Iterator[Any]:
    if context:
        yield 1
    else:
        yield 2
    pool.put(1)


def in_an_else(context: Any) -> Iterator[Any]:
    if context:
        pass
    else:
        yield 2
        pool.put(1)


def after_a_loop(context: Any) -> Iterator[Any]:
    for one in context:
        yield one, 1
    pool.put(1)


def in_a_loop(context: Any) -> Iterator[Any]:
    while context:
        yield 1
        pool.put(1)


async def in_an_async_loop(context: Any) -> AsyncIterator[Any]:
    async for one in context:
        yield one
        pool.put(1)


def in_an_expression(context: Any) -> Iterator[Any]:
    print((yield 1))
    pool.put(1)


class Callee:
    def __call__(self, context: Any) -> Iterator[Any]:
        yield 1
        pool.put(1)

    def method(self, context: Any) -> Iterator[Any]:
        yield 1
        pool.put(1)


# --- Teardown that does --------------------------------------------------------------------------------------------


def with_finally(context: Any) -> Iterator[Any]:
    conn = pool.get()
    try:
        yield conn
        conn.commit()
    finally:
        pool.put(conn)
    print("after")


def with_except(context: Any) -> Iterator[Any]:
    try:
        yield 1
    except Exception:
        raise
    else:
        pool.put(1)


def in_a_block(context: Any) -> Iterator[Any]:
    with contextlib.closing(pool) as conn:
        yield conn
        conn.commit()


async def in_an_async_block(context: Any) -> AsyncIterator[Any]:
    async with pool as conn:
        yield conn
        await conn.commit()


def at_the_end(context: Any) -> Iterator[Any]:
    pool.get()
    yield 1


def in_a_guarded_branch(context: Any) -> Iterator[Any]:
    if context:
        with pool:
            yield 1
    else:
        try:
            yield 2
        finally:
            pool.put(1)
    print("after")


def with_an_inner_function(context: Any) -> Iterator[Any]:
    def inner() -> Iterator[int]:
        yield 1
        yield 2

    yield inner


def around_an_inner_function(context: Any) -> Iterator[Any]:
    if context:

        def inner() -> Iterator[int]:
            yield 1

        print([inner, lambda: (yield)])
    try:
        yield 1
    finally:
        pass


def delegating(context: Any) -> Iterator[Any]:
    yield from with_finally(context)


UNGUARDED = [
    bare,
    assigned,
    annotated,
    async_bare,
    in_a_branch,
    after_branches,
    in_an_else,
    after_a_loop,
    in_a_loop,
    in_an_async_loop,
    in_an_expression,
    Callee(),
    Callee().method,
    functools.partial(bare),
]
GUARDED = [
    with_finally,
    with_except,
    in_a_block,
    in_an_async_block,
    at_the_end,
    in_a_guarded_branch,
    with_an_inner_function,
    around_an_inner_function,
    delegating,
]


@pytest.mark.parametrize("factory", UNGUARDED)
def test_unguarded(factory: Any) -> None:
    """Code after the yield that stands outside ``try`` and ``with``."""
    assert runs_on_after_bare_yield(factory)


@pytest.mark.parametrize("factory", GUARDED)
def test_guarded(factory: Any) -> None:
    """Nothing after it, or guarded."""
    assert not runs_on_after_bare_yield(factory)


def test_no_source() -> None:
    """Where there is nothing to read, nothing is claimed."""
    namespace: dict[str, Any] = {}
    exec("def made(context):\n    yield 1\n    print()\n", namespace)
    for factory in (namespace["made"], print, 3, [lambda context: (yield), 1][0]):
        assert not runs_on_after_bare_yield(factory)


# --- What describe() shows -----------------------------------------------------------------------------------------


def test_first_line() -> None:
    """Of a docstring, if there is one."""

    def documented() -> None:
        """The first.

        The second.
        """

    assert first_line(documented) == "The first."
    assert first_line(bare) == ""


def test_signature() -> None:
    """As text; of what has none, that."""

    def fn(a: int, *, b: str = "x") -> None: ...

    assert signature(fn) == "(a: 'int', *, b: 'str' = 'x') -> 'None'"
    assert signature(type("Odd", (), {"__signature__": 3})) == "(...)"
    assert signature(3) == "(...)"
