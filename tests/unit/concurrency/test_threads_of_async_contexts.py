"""Sync resources in the worker threads of async contexts, and sync endpoints that are cancelled while they run on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from polydatum import AsyncResourceError, ContextClosedError, DataManager, ResourceTimeoutError

Manager = DataManager[Any, Any]

pytestmark = pytest.mark.timeout(20)

on_both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def managed(limit: float = 60, **resources: Any) -> Manager:
    manager: Manager = DataManager(teardown_timeout=limit)
    manager.register_resources(**resources)
    return manager


class Threads:
    """Where sync resources opened and closed."""

    def __init__(self) -> None:
        self.opened: dict[str, int] = {}
        self.closed: dict[str, int] = {}

    def resource(self, name: str, while_closing: Callable[[], Any] = lambda: None) -> Callable[[Any], Iterator[str]]:
        def generator(ctx: Any) -> Iterator[str]:
            self.opened[name] = threading.get_ident()
            try:
                yield name
            finally:
                while_closing()
                self.closed[name] = threading.get_ident()

        return generator


# --- Where it closes --------------------------------------------------------------------------------------------------


@on_both
def test_what_opened_on_the_loop_closes_on_the_loop(backend: str) -> None:
    """If nothing opened elsewhere, sync steps run on the event loop's thread."""
    threads = Threads()

    async def main() -> None:
        async with managed(a=threads.resource("a"), b=threads.resource("b")).context() as ctx:
            assert (ctx.a, ctx.b) == ("a", "b")

    anyio.run(main, backend=backend)
    assert threads.closed == threads.opened == dict.fromkeys("ba", threading.get_ident())


@on_both
@pytest.mark.parametrize("raising", [False, True])
def test_what_opened_in_a_worker_thread_closes_in_a_thread(backend: str, raising: bool) -> None:
    """And the event loop runs meanwhile: the teardown is released by a task of the same loop."""
    go = threading.Event()
    threads = Threads()

    async def main() -> None:
        closing = anyio.Event()
        run_on_the_loop = run_soon_from_threads()

        def while_closing() -> None:
            run_on_the_loop(closing.set)
            assert go.wait(10), "the event loop was blocked"

        manager = managed(db=threads.resource("db", while_closing), on_loop=threads.resource("on_loop"))

        async def release() -> None:
            await closing.wait()
            go.set()

        async def work() -> None:
            async with manager.context() as ctx:
                assert ctx.on_loop == "on_loop"
                assert await anyio.to_thread.run_sync(lambda: ctx.db) == "db"
                if raising:
                    raise LookupError

        async with anyio.create_task_group() as group:
            group.start_soon(release)
            if raising:
                with pytest.raises(LookupError):
                    await work()
            else:
                await work()

    anyio.run(main, backend=backend)
    assert threading.get_ident() not in threads.closed.values()
    assert list(threads.closed) == ["db", "on_loop"]


def run_soon_from_threads() -> Callable[[Callable[[], Any]], Any]:
    """What calls a function on the running event loop, from any thread."""
    import trio

    if trio.lowlevel.in_trio_run():
        return trio.lowlevel.current_trio_token().run_sync_soon
    return asyncio.get_running_loop().call_soon_threadsafe


@on_both
def test_sync_and_async_steps_alternate(backend: str) -> None:
    """Runs of sync steps go to a thread, async ones stay in the context's task; the order is the reverse of opening."""
    log: list[tuple[str, bool]] = []
    loop_thread = threading.get_ident()

    def note(name: str) -> None:
        log.append((name, threading.get_ident() == loop_thread))

    def sync(name: str) -> Callable[[Any], Iterator[str]]:
        def generator(ctx: Any) -> Iterator[str]:
            yield name
            note(name)

        return generator

    def async_(name: str) -> Callable[[Any], AsyncIterator[str]]:
        async def generator(ctx: Any) -> AsyncIterator[str]:
            yield name
            await anyio.lowlevel.checkpoint()
            note(name)

        return generator

    async def main() -> None:
        manager = managed(a=sync("a"), b=sync("b"), c=async_("c"), d=sync("d"), e=async_("e"))
        manager.register_context_middleware(sync("sync middleware"), async_("async middleware"))
        async with manager.context() as ctx:
            for name in "abd":
                await anyio.to_thread.run_sync(getattr, ctx, name)
                if name != "a":
                    await getattr(ctx, {"b": "c", "d": "e"}[name])
        assert ctx.outcome == "committed"

    anyio.run(main, backend=backend)
    on_loop = {"async middleware", "e", "c"}
    names = ["async middleware", "sync middleware", "e", "d", "c", "b", "a"]
    assert log == [(name, name in on_loop) for name in names]


def test_the_runner_of_the_adapter_is_used() -> None:
    """`Context.close_in` decides in which thread; the runner is called once per run of sync steps."""
    threads = Threads()
    calls = 0

    async def main() -> None:
        nonlocal calls
        with ThreadPoolExecutor(1) as pool:
            (ident,) = pool.map(lambda _: threading.get_ident(), [0])

            async def in_thread(fn: Callable[[], Any]) -> Any:
                nonlocal calls
                calls += 1
                return await asyncio.get_running_loop().run_in_executor(pool, fn)

            ctx = managed(a=threads.resource("a"), b=threads.resource("b")).context()
            await ctx.aopen()
            await asyncio.to_thread(lambda: (ctx.a, ctx.b))
            ctx.close_in(in_thread)
            assert await ctx.aclose() == "committed"
            assert set(threads.closed.values()) == {ident}

    asyncio.run(main())
    assert calls == 1


def test_a_resource_may_name_the_thread_that_its_client_belongs_to() -> None:
    async def main() -> None:
        with ThreadPoolExecutor(1) as pool:
            closed: list[int] = []

            async def in_pool(fn: Callable[[], Any]) -> Any:
                return await asyncio.get_running_loop().run_in_executor(pool, copy_context().run, fn)

            def db(ctx: Any) -> Iterator[int]:
                ctx.close_in(in_pool)
                yield threading.get_ident()
                closed.append(threading.get_ident())

            async with managed(db=db).context() as ctx:
                opened = await in_pool(lambda: ctx.db)
            assert closed == [opened]

    asyncio.run(main())


def test_a_runner_that_fails_does_not_stop_the_unwinding() -> None:
    """Every step is taken, whatever is raised: here the adapter's threads are gone."""
    threads = Threads()

    async def in_thread(fn: Callable[[], Any]) -> Any:
        raise OSError("no threads any more")

    async def main() -> None:
        ctx = managed(a=threads.resource("a"), b=threads.resource("b")).context()
        await ctx.aopen()
        await asyncio.to_thread(lambda: (ctx.a, ctx.b))
        ctx.close_in(in_thread)
        try:
            await ctx.aclose()
        except OSError:
            pass  # it may be raised, or noted; the promise is that the context closes
        assert list(threads.closed) == ["b", "a"]
        assert ctx.state == "closed"

    asyncio.run(main())


def test_a_runner_that_fails_at_the_end_is_heard_although_all_is_kept() -> None:
    threads = Threads()

    async def in_thread(fn: Callable[[], Any]) -> Any:
        await asyncio.to_thread(fn)
        raise OSError("no answer from the thread")

    async def main() -> None:
        ctx = managed(db=threads.resource("db")).context()
        await ctx.aopen()
        await asyncio.to_thread(lambda: ctx.db)
        with pytest.raises(OSError, match="no answer"):
            await ctx.aclose(in_thread=in_thread)
        assert ctx.outcome == "partial"

    asyncio.run(main())
    assert list(threads.closed) == ["db"]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("how", ["natively", "by a scope of anyio's", "by both"])
def test_a_cancel_while_a_thread_closes_is_raised_when_it_has_closed(how: str, fails: bool) -> None:
    """It came too late to change anything."""
    inside, go_on = threading.Event(), threading.Event()

    def while_closing() -> None:
        inside.set()
        assert go_on.wait(10)
        if fails:
            raise OSError("the disk is full")

    threads = Threads()

    async def main() -> None:
        ctx: Any = managed(db=threads.resource("db", while_closing)).context()
        scope = anyio.CancelScope()
        left: list[BaseException] = []

        async def work() -> None:
            with scope:
                try:
                    async with ctx:
                        await asyncio.to_thread(lambda: ctx.db)
                except BaseException as error:
                    left.append(error)
                    raise

        task = asyncio.create_task(work())
        await asyncio.to_thread(inside.wait, 10)
        if how != "natively":
            scope.cancel()
        if how != "by a scope of anyio's":
            task.cancel()
        await asyncio.sleep(0)
        assert ctx.state == "closing"
        go_on.set()
        await asyncio.wait([task])
        assert [type(error) for error in left] == [asyncio.CancelledError]
        assert isinstance(left[0].__context__, OSError) is fails
        assert ctx.outcome == ("rolled_back" if fails else "committed")

    asyncio.run(main())


@on_both
@pytest.mark.parametrize("rule", [None, lambda exc, status: exc is not None])
def test_while_a_thread_closes_what_is_open_still_is_at_hand_and_what_is_closed_is_not(
    backend: str, rule: Callable[..., bool] | None
) -> None:
    """Whether by the policy, where there is a rule, or without."""
    found: list[Any] = []

    def first(ctx: Any) -> Iterator[str]:
        yield "first"
        try:
            found.append(ctx.second)
        except ContextClosedError as error:
            found.append(type(error))

    def second(ctx: Any) -> Iterator[str]:
        yield "second"
        found.append(ctx.first)

    async def main() -> None:
        manager = managed(first=first, second=second)
        async with manager.context(rollback_on=rule) as ctx:
            await anyio.to_thread.run_sync(lambda: (ctx.first, ctx.second))

    anyio.run(main, backend=backend)
    assert found == ["first", ContextClosedError]


@on_both
def test_steps_in_threads_are_taken_though_the_limit_is_used_up(backend: str) -> None:
    """A sync step is not bounded by the teardown limit, and no step is left out because another used it up."""
    threads = Threads()

    async def slow(ctx: Any) -> AsyncIterator[str]:
        try:
            yield "slow"
        finally:
            await anyio.sleep_forever()

    async def main() -> None:
        ctx = managed(0.02, db=threads.resource("db"), slow=slow).context()
        with pytest.raises(ResourceTimeoutError, match="closing resource 'slow'"):
            async with ctx:
                await anyio.to_thread.run_sync(lambda: ctx.db)
                await ctx.slow
        assert ctx.state == "closed"

    anyio.run(main, backend=backend)
    assert list(threads.closed) == ["db"]


# --- Cancelled sync endpoints -----------------------------------------------------------------------------------------


class Endpoint:
    """A sync endpoint that runs on in its thread after its task was cancelled."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.go_on = threading.Event()
        self.over = threading.Event()
        self.results: list[Any] = []

    def run(self, *touches: Callable[[], Any]) -> None:
        self.started.set()
        assert self.go_on.wait(10)
        for touch in touches:
            try:
                self.results.append(touch())
            except BaseException as error:
                self.results.append(type(error))
        self.over.set()


async def cancelled_endpoint(manager: Manager, endpoint: Endpoint, opens: Callable[[Any], Awaitable[Any]]) -> Any:
    """Cancel a task that waits for a sync endpoint; the context, when it has closed."""
    ctx = manager.context()

    async def work() -> None:
        async with ctx:
            await opens(ctx)
            await asyncio.to_thread(endpoint.run, lambda: ctx.state, lambda: ctx.db, lambda: ctx.never, lambda: ctx.pg)

    task = asyncio.create_task(work())
    await asyncio.to_thread(endpoint.started.wait, 10)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    return ctx


@pytest.mark.parametrize("opened", ["in the thread", "on the loop", "never"])
@pytest.mark.parametrize("when", ["closing", "closed"])
def test_a_native_cancel_of_a_sync_endpoint(opened: str, when: str) -> None:
    """The context leaves ``open`` at once: any further touch in the thread raises, nothing commits or opens again."""
    endpoint = Endpoint()
    log: list[str] = []

    def db(ctx: Any) -> Iterator[str]:
        log.append("open")
        try:
            yield "db"
            log.append("commit")
        finally:
            log.append("close")

    def never(ctx: Any) -> Iterator[str]:
        log.append("open never")
        yield "never"

    async def pg(ctx: Any) -> AsyncIterator[str]:
        try:
            yield "pg"
        finally:
            if when == "closing":
                endpoint.go_on.set()
                await asyncio.to_thread(endpoint.over.wait, 10)

    async def opens(ctx: Any) -> None:
        if opened == "in the thread":
            await asyncio.to_thread(lambda: ctx.db)
        elif opened == "on the loop":
            assert ctx.db == "db"
        assert await ctx.pg == "pg"

    async def main() -> None:
        ctx = await cancelled_endpoint(managed(db=db, never=never, pg=pg), endpoint, opens)
        endpoint.go_on.set()
        await asyncio.to_thread(endpoint.over.wait, 10)
        assert ctx.outcome == "rolled_back"

    asyncio.run(main())
    assert endpoint.results[:3] == [when, ContextClosedError, ContextClosedError]
    assert endpoint.results[3] in (ContextClosedError, AsyncResourceError)
    assert log == ([] if opened == "never" else ["open", "close"])


@pytest.mark.parametrize("with_runner", [False, True])
def test_a_native_cancel_while_a_sync_endpoint_opens_a_resource(with_runner: bool) -> None:
    """The close waits for the opener and closes what it opened in a thread: it did not open on the event loop's."""
    threads = Threads()
    inside, go = threading.Event(), threading.Event()
    results: list[Any] = []

    def db(ctx: Any) -> Iterator[str]:
        inside.set()
        assert go.wait(10)
        yield from threads.resource("db")(ctx)

    async def in_thread(fn: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(fn)

    async def main() -> None:
        ctx = managed(db=db).context()

        def endpoint() -> None:
            try:
                results.append(ctx.db)
            except ContextClosedError as error:
                results.append(type(error))

        async def work() -> None:
            await ctx.aopen()
            try:
                await asyncio.to_thread(endpoint)
            except asyncio.CancelledError as cancel:
                asyncio.get_running_loop().call_soon(go.set)
                if with_runner:
                    ctx.close_in(in_thread)
                await ctx.aclose(cancel)
                raise

        task = asyncio.create_task(work())
        await asyncio.to_thread(inside.wait, 10)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert ctx.outcome == "rolled_back"

    asyncio.run(main())
    assert results == [ContextClosedError]
    assert list(threads.closed) == ["db"]
    assert threads.closed["db"] != threading.get_ident()


# --- Async resources where nothing can be awaited ---------------------------------------------------------------------


class NeverRuns:
    """Async resources of every shape, none of which may run."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def generator(self, ctx: Any) -> AsyncIterator[str]:
        self.ran.append("generator")
        yield "generator"

    def manager(self, ctx: Any) -> Any:
        ran = self.ran

        class Manager_:
            async def __aenter__(self) -> str:
                ran.append("manager")
                return "manager"

            async def __aexit__(self, *exc_info: object) -> None: ...

        return Manager_()


@pytest.mark.parametrize("shape", ["generator", "manager"])
def test_an_async_resource_in_a_sync_context(shape: str) -> None:
    """Refused when it is touched, before it runs; the error names the fix."""
    never = NeverRuns()
    with managed(pg=getattr(never, shape)).context() as ctx:
        with pytest.raises(AsyncResourceError, match="async with") as caught:
            _ = ctx.pg
        assert isinstance(caught.value, TypeError)
        assert "'pg'" in str(caught.value)
    assert never.ran == []


@on_both
@pytest.mark.parametrize("shape", ["generator", "manager"])
def test_an_async_resource_in_a_sync_endpoint(backend: str, shape: str) -> None:
    """Refused in a worker thread of an async context, too; before it is open and afterwards."""
    never = NeverRuns()

    async def main() -> None:
        async with managed(pg=getattr(never, shape)).context() as ctx:

            def endpoint() -> None:
                with pytest.raises(AsyncResourceError, match="make the endpoint async"):
                    _ = ctx.pg

            await anyio.to_thread.run_sync(endpoint)
            assert never.ran == []
            assert await ctx.pg == shape
            await anyio.to_thread.run_sync(endpoint)

    anyio.run(main, backend=backend)


MISUSES: list[Callable[[Any], Any]] = [
    lambda pg: pg.execute,
    lambda pg: pg.execute("SELECT 1"),
    lambda pg: pg(),
    lambda pg: pg["key"],
    lambda pg: pg.__setitem__("key", 1),
    lambda pg: list(pg),
    lambda pg: len(pg),
    lambda pg: bool(pg),
    lambda pg: "key" in pg,
    lambda pg: pg.__enter__(),
    lambda pg: pg.__aenter__(),
    lambda pg: pg.__aiter__(),
]


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("misuse", MISUSES)
def test_an_async_resource_used_without_await(misuse: Callable[[Any], Any], opened: bool) -> None:
    """Opened or not, the name is an awaitable; any other use raises an error that shows how to write it."""

    async def main() -> None:
        async with managed(pg=NeverRuns().generator).context() as ctx:
            if opened:
                await ctx.pg
            with pytest.raises(AsyncResourceError, match=r"pg = await self\._ctx\.pg"):
                misuse(ctx.pg)

    asyncio.run(main())


def test_an_async_with_on_the_name_of_an_async_resource() -> None:
    """The likeliest misuse: ``async with ctx.pg``."""

    async def main() -> None:
        async with managed(pg=NeverRuns().generator).context() as ctx:
            with pytest.raises(AsyncResourceError, match="await"):
                async with ctx.pg:
                    pass
            with pytest.raises(AsyncResourceError, match="await"):
                with ctx.pg:
                    pass

    asyncio.run(main())
