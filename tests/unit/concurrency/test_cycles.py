"""Resources that need each other to open: an error that names the loop, never a deadlock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from polydatum import DataManager, ResourceCycleError, ResourceError

Manager = DataManager[Any, Any]

pytestmark = pytest.mark.timeout(20)  # a deadlock is a failure, soon

on_both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def managed(**resources: Any) -> Manager:
    manager: Manager = DataManager()
    manager.register_resources(**resources)
    return manager


def needing(*names: str) -> Callable[[Any], Iterator[str]]:
    def generator(ctx: Any) -> Iterator[str]:
        for name in names:
            getattr(ctx, name)
        yield "value"

    return generator


def async_needing(*names: str) -> Callable[[Any], AsyncIterator[str]]:
    async def generator(ctx: Any) -> AsyncIterator[str]:
        await anyio.lowlevel.checkpoint()
        for name in names:
            await getattr(ctx, name)
        yield "value"

    return generator


LOOPS = [
    pytest.param({"a": ["a"]}, ["a", "a"], id="itself"),
    pytest.param({"a": ["b"], "b": ["a"]}, ["a", "b", "a"], id="two"),
    pytest.param({"a": ["b"], "b": ["c"], "c": ["d"], "d": ["a"]}, ["a", "b", "c", "d", "a"], id="four"),
    pytest.param({"a": ["b"], "b": ["c"], "c": ["b"]}, ["b", "c", "b"], id="beside the way"),
]


def same_loop(found: tuple[str, ...], expected: list[str]) -> bool:
    """Whether both are the same loop, wherever they start."""
    if found[0] != found[-1] or len(found) != len(expected):
        return False
    turned = [list(found[start:-1]) + list(found[:start]) for start in range(len(found) - 1)]
    return expected[:-1] in turned or expected[:-1] in [turn[::-1] for turn in turned]


@pytest.mark.parametrize(("needs", "loop"), LOOPS)
def test_a_loop_in_one_thread(needs: dict[str, list[str]], loop: list[str]) -> None:
    """Touching any resource that leads into the loop raises; the context goes on and can still commit."""
    with managed(**{name: needing(*needed) for name, needed in needs.items()}).context() as ctx:
        with pytest.raises(ResourceCycleError) as caught:
            _ = ctx.a
        assert isinstance(caught.value, ResourceError)
        assert same_loop(caught.value.names, loop), caught.value.names
        assert " -> ".join(caught.value.names) in str(caught.value)
        assert not any(name in ctx for name in needs)
    assert ctx.outcome == "committed"


@on_both
@pytest.mark.parametrize(("needs", "loop"), LOOPS)
def test_a_loop_in_one_task(backend: str, needs: dict[str, list[str]], loop: list[str]) -> None:
    """The same for async resources."""

    async def main() -> None:
        async with managed(**{name: async_needing(*needed) for name, needed in needs.items()}).context() as ctx:
            with pytest.raises(ResourceCycleError) as caught:
                await ctx.a
            assert same_loop(caught.value.names, loop), caught.value.names
            assert not any(name in ctx for name in needs)

    anyio.run(main, backend=backend)


@on_both
def test_a_loop_across_two_tasks(backend: str) -> None:
    """Each task opens one resource and then needs the other's: one of them gets the error, and nobody waits for ever."""
    errors: list[BaseException] = []

    async def main() -> None:
        meeting = {"a": anyio.Event(), "b": anyio.Event()}

        def needing_the_other(mine: str, other: str) -> Callable[[Any], AsyncIterator[str]]:
            async def generator(ctx: Any) -> AsyncIterator[str]:
                meeting[mine].set()
                await meeting[other].wait()
                await getattr(ctx, other)
                yield mine

            return generator

        async with managed(a=needing_the_other("a", "b"), b=needing_the_other("b", "a")).context() as ctx:

            async def touch(name: str) -> None:
                try:
                    await getattr(ctx, name)
                except ResourceCycleError as error:
                    errors.append(error)

            async with anyio.create_task_group() as group:
                group.start_soon(touch, "a")
                group.start_soon(touch, "b")

    anyio.run(main, backend=backend)
    assert errors
    for error in errors:
        assert isinstance(error, ResourceCycleError)
        assert set(error.names) == {"a", "b"}


def loop_across_threads(*names: str) -> None:
    """As many threads as names: each opens one resource, and then needs the next one's."""
    meeting = threading.Barrier(len(names))
    first_attempts = set(names)

    def needing_the_next(mine: str, other: str) -> Callable[[Any], Iterator[str]]:
        def generator(ctx: Any) -> Iterator[str]:
            if mine in first_attempts:
                first_attempts.discard(mine)
                meeting.wait(10)
            getattr(ctx, other)
            yield mine

        return generator

    following = [*names[1:], names[0]]
    resources = {mine: needing_the_next(mine, other) for mine, other in zip(names, following, strict=True)}
    with managed(**resources).context() as ctx:

        def touch(name: str) -> None:
            with pytest.raises(ResourceCycleError) as caught:
                getattr(ctx, name)
            assert set(caught.value.names) == set(names)

        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(touch, names))


def test_a_loop_across_two_threads() -> None:
    """The same for threads, many times over."""
    for _ in range(20):
        loop_across_threads("a", "b")


def test_a_loop_across_three_threads() -> None:
    """Three openers in a ring: found over two hops."""
    for _ in range(20):
        loop_across_threads("a", "b", "c")


@on_both
def test_child_tasks_of_an_opener_count_as_the_opener(backend: str) -> None:
    """A loop that goes through a task group inside of a setup is found."""

    async def a(ctx: Any) -> AsyncIterator[str]:
        async with anyio.create_task_group() as group:

            async def child() -> None:
                await ctx.b

            group.start_soon(child)
        yield "a"

    async def main() -> None:
        async with managed(a=a, b=async_needing("a")).context() as ctx:
            with pytest.RaisesGroup(ResourceCycleError):
                await ctx.a

    anyio.run(main, backend=backend)


def test_threads_of_an_opener_count_as_the_opener() -> None:
    """A loop that goes through asyncio.to_thread inside of a setup is found."""

    async def a(ctx: Any) -> AsyncIterator[str]:
        await asyncio.to_thread(lambda: ctx.b)
        yield "a"

    def b(ctx: Any) -> Iterator[str]:
        _ = ctx.c
        yield "b"

    def c(ctx: Any) -> Iterator[str]:
        _ = ctx.b
        yield "c"

    async def main() -> None:
        async with managed(a=a, b=b, c=c).context() as ctx:
            with pytest.raises(ResourceCycleError) as caught:
                await ctx.a
            assert same_loop(caught.value.names, ["b", "c", "b"])

    asyncio.run(main())


@on_both
def test_needing_the_same_resource_is_no_loop(backend: str) -> None:
    """Two resources that open at once and need the same third one: one waits for the other, both open."""

    async def main() -> None:
        async with managed(a=async_needing("c"), b=async_needing("c"), c=async_needing()).context() as ctx:

            async def touch(name: str) -> None:
                assert await getattr(ctx, name) == "value"

            async with anyio.create_task_group() as group:
                for name in "abcab":
                    group.start_soon(touch, name)
            assert all(name in ctx for name in "abc")

    anyio.run(main, backend=backend)


def test_the_same_names_in_two_contexts_are_no_loop() -> None:
    """A resource may open the one of the same name in an inner, independent context."""
    depth = 0

    def a(ctx: Any) -> Iterator[int]:
        nonlocal depth
        depth += 1
        if depth < 3:
            with manager.context() as inner:
                yield inner.a
        else:
            yield depth

    manager = managed(a=a)
    with manager.context() as ctx:
        assert ctx.a == 3


def test_closing_from_inside_an_opening_does_not_wait_for_itself() -> None:
    """A setup that closes its own context would wait for its own end: an error that says so, and all is closed."""
    log: list[str] = []

    def other(ctx: Any) -> Iterator[str]:
        try:
            yield "other"
        finally:
            log.append("other closed")

    def db(ctx: Any) -> Iterator[str]:
        _ = ctx.other
        ctx.close()
        yield "db"

    ctx = managed(db=db, other=other).context()
    ctx.open()
    with pytest.raises(ResourceCycleError, match="db -> db"):
        _ = ctx.db
    assert ctx.state == "closed"
    assert log == ["other closed"]
