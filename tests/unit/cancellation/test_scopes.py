"""Cancel scopes of anyio and trio: around a context, and inside one of its teardowns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from polydatum import DataManager
from tests.unit.cancellation.driving import turn

Manager = DataManager[Any, Any]
Main = Callable[[], Coroutine[Any, Any, Any]]

BACKENDS = ["asyncio", "trio"]
on_both = pytest.mark.parametrize("backend", BACKENDS)


def run(main: Main, backend: str) -> Any:
    return anyio.run(main, backend=backend)


def managed(*, by_policy: bool = False, limit: float = 60, **resources: Any) -> Manager:
    """A manager; ``by_policy``: its contexts never end by the clean path."""
    rule = (lambda exc, status: exc is not None) if by_policy else None
    manager: Manager = DataManager(rollback_on=rule, teardown_timeout=limit)
    manager.register_resources(**resources)
    return manager


# --- Around a context -------------------------------------------------------------------------------------------------


@on_both
@pytest.mark.parametrize("by_policy", [False, True])
@pytest.mark.parametrize("swallowed", [False, True])
def test_a_scope_cancelled_in_the_body(backend: str, by_policy: bool, swallowed: bool) -> None:
    """It rolls back, each teardown completes all its awaits, and the scope catches its cancel; swallowed or not."""
    log: list[str] = []

    async def db(ctx: Any) -> AsyncIterator[str]:
        try:
            yield "db"
            log.append("resumed")
        finally:
            for number in range(3):
                await anyio.lowlevel.checkpoint()
                log.append(str(number))

    async def main() -> Any:
        ctx = managed(by_policy=by_policy, db=db).context()
        with anyio.CancelScope() as scope:
            async with ctx:
                await ctx.db
                scope.cancel()
                try:
                    await anyio.sleep_forever()
                except anyio.get_cancelled_exc_class():
                    if not swallowed:
                        raise
            raise AssertionError("the context swallowed the cancel")
        assert scope.cancelled_caught
        await anyio.lowlevel.checkpoint()
        return ctx.outcome

    assert run(main, backend) == "rolled_back"
    assert log == ["0", "1", "2"]


@on_both
@pytest.mark.parametrize("raising", [False, True])
def test_a_scope_cancelled_in_the_last_line_of_the_body(backend: str, raising: bool) -> None:
    """Cancelled before the first step, delivered or not: it rolls back, and not even commit_on_error() helps."""

    async def main() -> Any:
        ctx = managed().context()
        with anyio.CancelScope() as scope:
            async with ctx:
                ctx.commit_on_error()
                scope.cancel()
                if raising:
                    raise LookupError("nothing found")
        assert scope.cancelled_caught
        return ctx.outcome

    assert run(main, backend) == "rolled_back"


@on_both
@pytest.mark.parametrize("raising", [False, True])
def test_a_context_in_which_nothing_takes_part_leaves_a_cancel_alone(backend: str, raising: bool) -> None:
    """There is nothing to keep or to take back: the scope sees what it would see without a context."""

    async def main() -> Any:
        ctx = managed().context()
        with anyio.CancelScope() as scope:
            try:
                async with ctx:
                    scope.cancel()
                    if raising:
                        raise LookupError("nothing found")
            except LookupError:
                assert raising
        assert not scope.cancelled_caught
        return ctx.outcome

    assert run(main, backend) == ("rolled_back" if raising else "committed")


@on_both
@pytest.mark.parametrize("by_policy", [False, True])
def test_a_scope_cancelled_while_closing(backend: str, by_policy: bool) -> None:
    """All three resources close and it has committed; then the cancel reaches its scope, and nothing lingers."""
    log: list[str] = []
    cancel: list[Callable[[], None]] = []

    def resource(name: str) -> Callable[[Any], AsyncIterator[str]]:
        async def generator(ctx: Any) -> AsyncIterator[str]:
            yield name
            await anyio.lowlevel.checkpoint()
            cancel[0]()
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
            log.append(name)

        return generator

    async def main() -> Any:
        ctx = managed(by_policy=by_policy, a=resource("a"), b=resource("b"), c=resource("c")).context()
        with anyio.CancelScope() as outer:
            with anyio.CancelScope() as scope:
                cancel.append(scope.cancel)
                async with ctx:
                    for name in "abc":
                        await getattr(ctx, name)
            assert scope.cancelled_caught
            await anyio.lowlevel.checkpoint()
        assert not outer.cancelled_caught
        await anyio.lowlevel.checkpoint()
        return ctx.outcome

    assert run(main, backend) == "committed"
    assert log == ["c", "b", "a"]


@on_both
@pytest.mark.parametrize("in_body", [False, True])
def test_fail_after_around_a_context(backend: str, in_body: bool) -> None:
    """A deadline of anyio's becomes a TimeoutError outside, whenever it passes."""
    expire: list[Callable[[], None]] = []

    async def db(ctx: Any) -> AsyncIterator[str]:
        yield "db"
        expire[0]()
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()

    async def main() -> Any:
        ctx = managed(db=db).context()
        with pytest.raises(TimeoutError):
            with anyio.fail_after(60) as scope:
                expire.append(lambda: setattr(scope, "deadline", -1))
                async with ctx:
                    await ctx.db
                    if in_body:
                        expire[0]()
                        await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()
        return ctx.outcome

    assert run(main, backend) == ("rolled_back" if in_body else "committed")


@on_both
def test_contexts_in_a_task_group_that_is_cancelled(backend: str) -> None:
    """Each context of the group rolls back in its own task; no error comes out."""
    log: list[int] = []

    async def db(ctx: Any) -> AsyncIterator[str]:
        try:
            yield "db"
        finally:
            await turn()
            log.append(ctx.meta.user)

    manager = managed(db=db)
    contexts = [manager.context(meta={"user": number}) for number in range(10)]

    async def work(number: int) -> None:
        async with contexts[number] as ctx:
            await ctx.db
            await anyio.sleep_forever()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(work, number)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()

    run(main, backend)
    assert sorted(log) == list(range(10))
    assert {ctx.outcome for ctx in contexts} == {"rolled_back"}


def test_a_trio_nursery_around_a_context_whose_sibling_fails() -> None:
    """The nursery cancels the context's task: it rolls back, and only the sibling's error comes out."""

    async def sibling() -> None:
        raise LookupError("sibling")

    async def main() -> Any:
        ctx = managed().context()
        with pytest.raises(ExceptionGroup) as caught:
            async with trio.open_nursery() as nursery:
                async with ctx:
                    nursery.start_soon(sibling)
                    await trio.sleep_forever()
        assert [type(error) for error in caught.value.exceptions] == [LookupError]
        return ctx.outcome

    assert trio.run(main) == "rolled_back"


def test_a_trio_nursery_inside_a_context_that_is_cancelled() -> None:
    """What a cancelled nursery raises counts as a cancellation, even in commit_on_error()'s eyes."""

    async def main() -> Any:
        ctx = managed().context()
        with trio.CancelScope() as scope:
            async with ctx:
                ctx.commit_on_error()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.sleep_forever)
                    nursery.start_soon(trio.sleep_forever)
                    scope.cancel()
        assert scope.cancelled_caught
        return ctx.outcome

    assert trio.run(main) == "rolled_back"


# --- Inside a teardown ------------------------------------------------------------------------------------------------


@on_both
@pytest.mark.parametrize("by_policy", [False, True])
@pytest.mark.parametrize("outer", ["untouched", "cancelled in the body", "cancelled in the teardown"])
def test_a_scope_of_a_step_expires(backend: str, by_policy: bool, outer: str) -> None:
    """``move_on_after`` in a teardown works as ever, whatever happens to the scopes around the context."""
    log: list[Any] = []
    cancel: list[Callable[[], None]] = []

    async def db(ctx: Any) -> AsyncIterator[str]:
        try:
            yield "db"
        finally:
            with anyio.move_on_after(60) as own:
                if outer == "cancelled in the teardown":
                    cancel[0]()
                await anyio.lowlevel.checkpoint()
                await anyio.lowlevel.checkpoint()
                own.deadline = -1
                await anyio.sleep(3)  # not for ever: if the scope does not work, this is a failure and no hang
            await anyio.lowlevel.checkpoint()
            log.append(own.cancelled_caught)

    async def main() -> None:
        ctx = managed(by_policy=by_policy, limit=1, db=db).context()
        with anyio.CancelScope() as scope:
            cancel.append(scope.cancel)
            async with ctx:
                await ctx.db
                if outer == "cancelled in the body":
                    scope.cancel()
                    await anyio.sleep_forever()
        assert scope.cancelled_caught is (outer != "untouched")
        await anyio.lowlevel.checkpoint()
        assert ctx.outcome == ("rolled_back" if outer == "cancelled in the body" else "committed")
        assert ctx.outcome.errors == () or outer == "cancelled in the body"

    run(main, backend)
    assert log == [True]


@pytest.mark.parametrize("by_policy", [False, True])
@pytest.mark.parametrize("cancelled", ["before the scope", "inside the scope"])
def test_a_scope_of_a_step_expires_after_a_native_cancel(by_policy: bool, cancelled: str) -> None:
    """A cancel from outside is remembered, the step's own scope works, and the cancel is raised at the end."""
    log: list[Any] = []
    cancel: list[Callable[[], Any]] = []

    async def db(ctx: Any) -> AsyncIterator[str]:
        yield "db"
        if cancelled == "before the scope":
            asyncio.get_running_loop().call_soon(cancel[0])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        with anyio.move_on_after(60) as own:
            if cancelled == "inside the scope":
                asyncio.get_running_loop().call_soon(cancel[0])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            own.deadline = -1
            await anyio.sleep(3)
        await asyncio.sleep(0)
        log.append(own.cancelled_caught)

    async def main() -> None:
        ctx = managed(by_policy=by_policy, limit=1, db=db).context()

        async def work() -> None:
            async with ctx:
                await ctx.db

        task = asyncio.create_task(work())
        cancel.append(task.cancel)
        await asyncio.wait([task])
        assert task.cancelled()
        assert task.cancelling() == 1
        assert ctx.outcome == "committed"

    asyncio.run(main())
    assert log == [True]


@on_both
def test_the_children_of_a_step_end_before_it_goes_on(backend: str) -> None:
    """When a step's own scope cancels what it waits for, the step goes on only when that has ended."""
    log: list[str] = []

    async def child() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
            log.append("child")

    async def db(ctx: Any) -> AsyncIterator[str]:
        yield "db"
        with anyio.CancelScope() as own:
            async with anyio.create_task_group() as group:
                group.start_soon(child)
                await anyio.wait_all_tasks_blocked()
                own.cancel()
        log.append("step")

    async def main() -> None:
        async with managed(db=db).context() as ctx:
            await ctx.db

    run(main, backend)
    assert log == ["child", "step"]


def test_a_gather_of_a_step_ends_before_the_step_goes_on() -> None:
    """The same for asyncio's gather: the step goes on when its children have ended, and none is left."""
    log: list[str] = []

    async def child() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            log.append("child")

    async def db(ctx: Any) -> AsyncIterator[str]:
        yield "db"
        with anyio.CancelScope() as own:
            asyncio.get_running_loop().call_soon(own.cancel)
            await asyncio.gather(child(), child())
        log.append("step")

    async def main() -> None:
        async with managed(db=db).context() as ctx:
            await ctx.db
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    assert log == ["child", "child", "step"]


@on_both
def test_an_anyio_lock_held_over_the_yield_under_a_cancelled_scope(backend: str) -> None:
    """Its owner releases it, although the scope is cancelled."""

    async def main() -> None:
        lock = anyio.Lock()

        async def db(ctx: Any) -> AsyncIterator[str]:
            async with lock:
                try:
                    yield "db"
                finally:
                    await anyio.lowlevel.checkpoint()

        ctx = managed(db=db).context()
        with anyio.CancelScope() as scope:
            async with ctx:
                await ctx.db
                scope.cancel()
                await anyio.sleep_forever()
        assert not lock.locked()
        assert ctx.outcome == "rolled_back"

    run(main, backend)
