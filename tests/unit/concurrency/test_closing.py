"""Closing while others open, close or go on: what waits for what, in which order, and what late users get."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from polydatum import Context, ContextClosedError, ContextError, DataManager, NoActiveContextError, Service

Manager = DataManager[Any, Any]

pytestmark = pytest.mark.timeout(20)

on_both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def managed(**resources: Any) -> Manager:
    manager: Manager = DataManager()
    manager.register_resources(**resources)
    return manager


class Log(list[str]):
    def sync(self, name: str, *needs: str) -> Callable[[Any], Iterator[str]]:
        def generator(ctx: Any) -> Iterator[str]:
            for needed in needs:
                getattr(ctx, needed)
            self.append(f"open {name}")
            try:
                yield name
            finally:
                self.append(f"close {name}")

        return generator

    def async_(self, name: str, *needs: str) -> Callable[[Any], AsyncIterator[str]]:
        async def generator(ctx: Any) -> AsyncIterator[str]:
            for needed in needs:
                await getattr(ctx, needed)
            await anyio.lowlevel.checkpoint()
            self.append(f"open {name}")
            try:
                yield name
            finally:
                await anyio.lowlevel.checkpoint()
                self.append(f"close {name}")

        return generator

    def opened(self) -> list[str]:
        return [entry.removeprefix("open ") for entry in self if entry.startswith("open ")]

    def closed(self) -> list[str]:
        return [entry.removeprefix("close ") for entry in self if entry.startswith("close ")]


# --- Order ------------------------------------------------------------------------------------------------------------


def test_dependencies_close_last() -> None:
    """Order of opening is the order in which opens completed, not the order of first touch."""
    log = Log()
    with managed(a=log.sync("a", "b"), b=log.sync("b", "c"), c=log.sync("c")).context() as ctx:
        assert ctx.a == "a"
    assert log.opened() == ["c", "b", "a"]
    assert log.closed() == ["a", "b", "c"]


@on_both
def test_what_opens_at_once_closes_in_reverse_of_completion(backend: str) -> None:
    """Twenty tasks with dependencies among them."""
    log = Log()
    needs = {f"r{number}": [f"r{needed}" for needed in {number // 2, number // 3} - {number}] for number in range(20)}

    async def main() -> None:
        async with managed(**{name: log.async_(name, *needed) for name, needed in needs.items()}).context() as ctx:

            async def touch(name: str) -> None:
                assert await getattr(ctx, name) == name

            async with anyio.create_task_group() as group:
                for name in reversed(needs):
                    group.start_soon(touch, name)

    anyio.run(main, backend=backend)
    assert sorted(log.opened()) == sorted(needs)
    assert log.closed() == log.opened()[::-1]


@on_both
@pytest.mark.parametrize("vetoed", [False, True])
def test_sync_and_async_resources_in_turns(backend: str, vetoed: bool) -> None:
    """Every resource closes, however sync and async ones follow each other."""
    log = Log()
    names = ["s1", "s2", "a3", "s4", "s5", "a6", "a7", "s8"]
    resources = {name: (log.sync if name.startswith("s") else log.async_)(name) for name in names}

    async def main() -> None:
        async with managed(**resources).context() as ctx:
            for name in names:
                value = getattr(ctx, name)
                assert (value if name.startswith("s") else await value) == name
            if vetoed:
                ctx.set_rollback_only()
            else:
                ctx.on_commit(lambda: log.append("committed"))

    anyio.run(main, backend=backend)
    assert log.closed() == names[::-1]


# --- Openers under way ------------------------------------------------------------------------------------------------


def test_closing_waits_for_an_opener_in_another_thread() -> None:
    """What it opened is closed by the close; the opener gets ContextClosedError instead of a value."""
    log: list[str] = []
    inside, go = threading.Event(), threading.Event()

    def db(ctx: Any) -> Iterator[str]:
        inside.set()
        assert go.wait(10)
        try:
            yield "db"
            log.append("resumed")
        finally:
            log.append("closed")

    ctx = managed(db=db).context()
    ctx.open()
    with ThreadPoolExecutor(2) as pool:
        opener = pool.submit(lambda: ctx.db)
        assert inside.wait(10)
        closer = pool.submit(ctx.close)
        while ctx.state == "open":
            pass
        assert not closer.done()
        go.set()
        assert closer.result(10) == "committed"
        with pytest.raises(ContextClosedError):
            opener.result(10)
    assert log == ["resumed", "closed"]


@on_both
def test_closing_waits_for_an_opener_in_another_task(backend: str) -> None:
    """The same for tasks: closed in the closer's task, within the teardown limit."""
    log = Log()
    results: list[Any] = []

    async def main() -> None:
        go = anyio.Event()

        async def db(ctx: Any) -> AsyncIterator[str]:
            await go.wait()
            log.append("open db")
            try:
                yield "db"
            finally:
                log.append("close db")

        ctx = managed(db=db).context()

        async def touch() -> None:
            try:
                results.append(await ctx.db)
            except ContextClosedError as error:
                results.append(error)

        async with anyio.create_task_group() as group:
            async with ctx:
                group.start_soon(touch)
                group.start_soon(touch)
                await anyio.wait_all_tasks_blocked()

                async def release() -> None:
                    await anyio.wait_all_tasks_blocked()
                    assert ctx.state == "closing"
                    go.set()

                group.start_soon(release)
        assert ctx.outcome == "committed"

    anyio.run(main, backend=backend)
    assert log == ["open db", "close db"]
    assert [type(result) for result in results] == [ContextClosedError] * 2


def test_an_opener_that_completes_just_when_the_close_begins() -> None:
    """Between the claim of the close and its look at what is open, an open completes: it is closed, nothing fails."""
    log: list[str] = []
    inside, go, opened = threading.Event(), threading.Event(), threading.Event()

    def db(ctx: Any) -> Iterator[str]:
        inside.set()
        assert go.wait(10)
        try:
            yield "db"
        finally:
            log.append("closed")

    class Meddling(Context):
        """Lets the opener complete at the very moment when the close has been claimed."""

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "_state" and value == "closing":
                go.set()
                opened.wait(1)

    manager: Manager = DataManager(context_class=Meddling)
    manager.register_resources(db=db)
    ctx = manager.context()
    ctx.open()

    def touch() -> Any:
        try:
            return ctx.db
        finally:
            opened.set()

    with ThreadPoolExecutor(1) as pool:
        opener = pool.submit(touch)
        assert inside.wait(10)
        assert ctx.close() == "committed"
        with pytest.raises(ContextClosedError):
            opener.result(10)
    assert log == ["closed"]


@on_both
def test_an_opener_that_outlasts_the_limit_closes_what_it_opened(backend: str) -> None:
    """The close gives up waiting; the late opener finds the context closed, and leaves nothing open."""
    log = Log()
    results: list[Any] = []

    async def main() -> None:
        go = anyio.Event()

        async def db(ctx: Any) -> AsyncIterator[str]:
            await go.wait()
            log.append("open db")
            try:
                yield "db"
            finally:
                log.append("close db")

        manager: Manager = DataManager(teardown_timeout=0.01)
        manager.register_resources(db=db)
        ctx = manager.context()

        async def touch() -> None:
            try:
                results.append(await ctx.db)
            except ContextClosedError as error:
                results.append(error)

        async with anyio.create_task_group() as group:
            with pytest.raises(TimeoutError, match="waiting for resource 'db' to open"):
                async with ctx:
                    group.start_soon(touch)
                    await anyio.wait_all_tasks_blocked()
            assert ctx.state == "closed"
            go.set()

    anyio.run(main, backend=backend)
    assert log == ["open db", "close db"]
    assert [type(result) for result in results] == [ContextClosedError]


# --- Second closers ---------------------------------------------------------------------------------------------------


def test_a_second_closer_in_another_thread_waits() -> None:
    """It gets the same outcome, and no error, though the first closer gets one."""
    inside, go = threading.Event(), threading.Event()

    def db(ctx: Any) -> Iterator[str]:
        yield "db"
        inside.set()
        assert go.wait(10)
        raise OSError("commit failed")

    ctx = managed(db=db).context()
    ctx.open()
    assert ctx.db == "db"
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(ctx.close)
        assert inside.wait(10)
        others = [pool.submit(ctx.close) for _ in range(3)]
        assert not any(other.done() for other in others)
        go.set()
        with pytest.raises(OSError, match="commit failed"):
            first.result(10)
        outcomes = [other.result(10) for other in others]
    assert all(outcome is ctx.outcome for outcome in outcomes)
    assert ctx.close() is ctx.outcome
    assert ctx.outcome == "rolled_back"


def test_a_block_that_ends_while_another_thread_closes_waits() -> None:
    """Its own end is no unwinding that it would be inside of."""
    inside, go = threading.Event(), threading.Event()
    states: list[str] = []

    def db(ctx: Any) -> Iterator[str]:
        yield "db"
        inside.set()
        assert go.wait(10)

    ctx = managed(db=db).context()

    def block() -> None:
        with ctx:
            assert ctx.db == "db"
            other = pool.submit(ctx.close)
            assert inside.wait(10)
            go_on.set()
        states.append(ctx.state)
        assert other.result(10) is ctx.outcome

    go_on = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        left = pool.submit(block)
        assert go_on.wait(10)
        assert states == []
        go.set()
        left.result(10)
    assert states == ["closed"]
    assert ctx.outcome == "committed"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_block_that_ends_while_another_task_closes_waits(backend: str) -> None:
    async def main() -> None:
        go, inside = anyio.Event(), anyio.Event()

        async def db(ctx: Any) -> AsyncIterator[str]:
            yield "db"
            inside.set()
            await go.wait()

        ctx = managed(db=db).context()

        async def release() -> None:
            await anyio.wait_all_tasks_blocked()
            assert ctx.state == "closing"
            go.set()

        async with anyio.create_task_group() as group:
            async with ctx:
                await ctx.db
                group.start_soon(ctx.aclose)
                await inside.wait()
                group.start_soon(release)
            assert ctx.state == "closed"
        assert ctx.outcome == "committed"

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("event", ["before_commit", "on_commit", "on_rollback"])
def test_a_hook_that_a_close_in_another_thread_has_just_missed_is_refused(
    event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would never be called, and nobody would know."""
    ctx = managed().context()
    ctx.open()

    def meanwhile(context: Any, hook: Any) -> Any:
        thread = threading.Thread(target=ctx.close)
        thread.start()
        thread.join(10)
        return hook

    monkeypatch.setattr("polydatum.wishing._checked", meanwhile)
    with pytest.raises(ContextClosedError, match=event):
        getattr(ctx, event)(lambda: None)


def test_many_closers_at_once() -> None:
    """Ten threads close at the same moment: one does it, all get the same outcome."""
    for _ in range(50):
        log = Log()
        ctx = managed(db=log.sync("db")).context()
        ctx.open()
        assert ctx.db == "db"
        barrier = threading.Barrier(10)

        def close(ctx: Any = ctx, barrier: threading.Barrier = barrier) -> Any:
            barrier.wait()
            return ctx.close()

        with ThreadPoolExecutor(10) as pool:
            outcomes = list(pool.map(lambda _, close=close: close(), range(10)))
        assert outcomes == ["committed"] * 10
        assert log == ["open db", "close db"]


@on_both
def test_a_second_closer_in_another_task_waits(backend: str) -> None:
    """The same for tasks; one that is cancelled while it waits disturbs nobody."""
    outcomes: list[Any] = []

    async def main() -> None:
        go = anyio.Event()

        async def db(ctx: Any) -> AsyncIterator[str]:
            yield "db"
            await go.wait()

        ctx = managed(db=db).context()
        await ctx.aopen()
        await ctx.db
        scope = anyio.CancelScope()

        async def close() -> None:
            outcomes.append(await ctx.aclose())

        async def cancelled() -> None:
            with scope:
                await close()

        async with anyio.create_task_group() as group:
            group.start_soon(close)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(cancelled)
            group.start_soon(close)
            await anyio.wait_all_tasks_blocked()
            assert outcomes == []
            scope.cancel()
            await anyio.wait_all_tasks_blocked()
            go.set()
        assert scope.cancelled_caught
        outcomes.append(await ctx.aclose())
        assert all(outcome is ctx.outcome for outcome in outcomes)

    anyio.run(main, backend=backend)
    assert outcomes == ["committed"] * 3


def test_closing_from_inside_the_unwinding_is_refused() -> None:
    """A middleware that closes its own context would wait for itself: an error instead."""

    def middleware(ctx: Any) -> Iterator[None]:
        yield
        ctx.close()

    manager = managed()
    manager.register_context_middleware(middleware)
    with pytest.raises(ContextError, match="inside its own unwinding"):
        with manager.context():
            pass


# --- Elsewhere --------------------------------------------------------------------------------------------------------


def test_closing_in_another_thread_than_opening() -> None:
    """The opener's thread still has the closed context current: use raises, and leaving restores the outer one."""
    log = Log()

    class Items(Service[Any]):
        def get(self) -> Any:
            return self._ctx.db

    manager = managed(db=log.sync("db"))
    manager.register_services(items=Items())
    with manager.context() as outer:
        inner = manager.context()
        inner.open()
        assert inner.dal.items.get() == "db"
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(inner.close, None, status=201).result(10) == "committed"
        assert log == ["open db", "close db"]
        assert manager.get_active_context() is None
        with pytest.raises(ContextClosedError, match=r"status 201.*committed"):
            manager.get_dal().items.get()
        with pytest.raises(ContextClosedError):
            _ = inner.db
        inner.leave()
        assert manager.get_active_context() is outer
        inner.leave()
        assert manager.get_active_context() is outer
    with pytest.raises(NoActiveContextError):
        manager.get_dal().items.get()


def test_leaving_a_block_that_was_closed_elsewhere() -> None:
    """The end of the ``with`` raises nothing, and the outer context is current again."""
    manager = managed(db=Log().sync("db"))
    with manager.context() as outer:
        with manager.context() as inner:
            assert inner.db == "db"
            with ThreadPoolExecutor(1) as pool:
                pool.submit(inner.close).result(10)
        assert manager.get_active_context() is outer


@on_both
def test_closing_in_another_task_than_opening(backend: str) -> None:
    """As when an adapter closes in the task that sends: everything closes there, and the opener's variable is not touched."""
    log = Log()

    async def main() -> None:
        manager = managed(db=log.async_("db"))
        ctx = manager.context()
        await ctx.aopen()
        await ctx.db

        async def close() -> None:
            assert await ctx.aclose(status=200) == "committed"
            assert manager.get_active_context() is None

        async with anyio.create_task_group() as group:
            group.start_soon(close)
        assert log == ["open db", "close db"]
        with pytest.raises(ContextClosedError):
            await ctx.db
        ctx.leave()
        with pytest.raises(NoActiveContextError):
            manager.require_active_context()

    anyio.run(main, backend=backend)


def test_closing_the_outer_context_before_the_inner_one() -> None:
    """The inner one stays current and usable."""
    log = Log()
    manager = managed(db=log.sync("db"))
    outer, inner = manager.context(), manager.context()
    outer.open()
    inner.open()
    outer.close()
    active: Any = manager.get_active_context()
    assert active is inner
    assert inner.db == "db"
    inner.close()
    assert manager.get_active_context() is None


@on_both
def test_a_task_that_outlives_its_context(backend: str) -> None:
    """It keeps a context that is closed: every use says so, and nothing falls through to an outer one."""
    errors: list[BaseException] = []

    async def main() -> None:
        manager = managed(db=Log().async_("db"), sync=Log().sync("sync"))
        closed = anyio.Event()

        async def late(ctx: Any) -> None:
            await closed.wait()
            uses: list[Callable[[], Any]] = [lambda: ctx.sync, lambda: ctx.db, manager.require_active_context]
            for use in uses:
                with pytest.raises(ContextClosedError) as caught:
                    use()
                errors.append(caught.value)
            assert manager.get_active_context() is None

        async with anyio.create_task_group() as group:
            async with manager.context():
                async with manager.context() as ctx:
                    await ctx.db
                    group.start_soon(late, ctx)
                    await anyio.lowlevel.checkpoint()
                closed.set()
                await anyio.wait_all_tasks_blocked()

    anyio.run(main, backend=backend)
    assert len(errors) == 3
    assert all(isinstance(error, RuntimeError) and not isinstance(error, AttributeError) for error in errors)


def test_an_awaitable_that_was_kept_raises_after_the_close() -> None:
    """An async resource's awaitable does not outlive its context."""

    async def main() -> None:
        async with managed(db=Log().async_("db")).context() as ctx:
            kept = ctx.db
            assert await kept == "db"
        with pytest.raises(ContextClosedError):
            await kept

    asyncio.run(main())
