"""`BackendContract`: the behaviours required of every backend, as tests against a real server.

Subclass it, and provide a `BackendHost`:

    class TestShelf(BackendContract):
        @pytest.fixture
        def host(self):
            return ShelfHost()
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest

from polydatum.errors import PolydatumError
from polydatum.manager import DataManager

from .backend_hosts import BackendHost

_run = itertools.count()


class Failure(Exception):
    """The exception that user code raises in these tests."""


class Bench:
    """The manager of one test, with the host's backend as its resource."""

    def __init__(self, host: BackendHost, backend: Any = None) -> None:
        self.host = host
        self.backend = host.backend() if backend is None else backend
        self.manager: Any = DataManager()
        self.manager.register_resources(db=self.backend)
        self._prefix = f"key-{os.getpid()}-{next(_run)}"

    def key(self, name: str = "") -> str:
        """A key that no other test uses."""
        return f"{self._prefix}-{name}"

    def context(self, **options: Any) -> Any:
        """A context for ``async with``, whether the backend is sync or async."""
        context = self.manager.context(**options)
        return context if self.host.is_async else Sync(context)

    async def value(self, context: Any) -> Any:
        """What services get."""
        return await context.db if self.host.is_async else context.db

    def nested(self, context: Any) -> Any:
        return context.nested() if self.host.is_async else Sync(context.nested())

    async def write(self, context: Any, name: str = "", text: str = "tea") -> None:
        await settled(self.host.write(await self.value(context), self.key(name), text))

    async def read(self, context: Any, name: str = "") -> Any:
        return await settled(self.host.read(await self.value(context), self.key(name)))

    def look(self, name: str = "") -> str | None:
        return self.host.look(self.key(name))

    async def ping(self) -> Any:
        pings = await self.manager.aping() if self.host.is_async else self.manager.ping()
        return pings["db"]

    async def close(self) -> None:
        if self.host.is_async:
            await self.manager.aclose()
        else:
            self.manager.close()


class Sync:
    """Wraps a sync block for ``async with``."""

    def __init__(self, block: Any) -> None:
        self.block = block

    async def __aenter__(self) -> Any:
        return self.block.__enter__()

    async def __aexit__(self, *raised: Any) -> Any:
        return self.block.__exit__(*raised)


async def settled(result: Any) -> Any:
    """A result, awaited if it is awaitable."""
    return await result if isinstance(result, Awaitable) else result


def scenario(
    *needs: str,
) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[[Any, BackendHost], None]]:
    """A test that the host runs; it is skipped, with the host's reason, if the host lacks one of ``needs``."""

    def decorate(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[[Any, BackendHost], None]:
        def run(self: Any, host: BackendHost) -> None:
            for need in needs:
                if need in host.absent:
                    pytest.skip(f"no {need}: {host.absent[need]}")

            async def checked() -> None:
                bench = Bench(host)
                try:
                    await test(self, bench)
                finally:
                    await bench.close()

            host.run(checked())

        functools.update_wrapper(run, test)
        del run.__wrapped__  # type: ignore[attr-defined]  # otherwise pytest reads the signature of the test
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("self", "host")]
        )
        return run

    return decorate


class BackendContract:
    """The behaviours that all backends share. Needs pytest, and a real server."""

    @pytest.fixture
    def host(self) -> Iterator[BackendHost]:
        """The backend and its server; override it."""
        raise NotImplementedError("override the fixture 'host'")

    # --- The outcome --------------------------------------------------------------------------------------------------

    @scenario()
    async def test_what_is_written_is_kept(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            await bench.write(ctx)
        assert ctx.outcome == "committed"
        assert bench.look() == "tea"

    @scenario()
    async def test_what_was_kept_is_read(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            await bench.write(ctx)
        async with bench.context() as ctx:
            assert await bench.read(ctx) == "tea"
            assert await bench.read(ctx, "other") is None

    @scenario("isolation")
    async def test_nobody_sees_it_before(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            await bench.write(ctx)
            assert bench.look() is None
        assert bench.look() == "tea"

    @scenario("rollback")
    async def test_an_exception_undoes_it(self, bench: Bench) -> None:
        ctx: Any = None
        with pytest.raises(Failure):
            async with bench.context() as ctx:
                await bench.write(ctx)
                raise Failure
        assert ctx.outcome == "rolled_back"
        assert bench.look() is None

    @scenario("rollback")
    async def test_a_veto_undoes_it(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            await bench.write(ctx)
            ctx.set_rollback_only("no")
        assert ctx.outcome == "rolled_back"
        assert bench.look() is None

    @scenario("rollback")
    async def test_a_status_undoes_it(self, bench: Bench) -> None:
        ctx = bench.manager.context()
        if bench.host.is_async:
            await ctx.aopen()
            await bench.write(ctx)
            outcome = await ctx.aclose(status=409)
        else:
            ctx.open()
            await bench.write(ctx)
            outcome = ctx.close(status=409)
        assert outcome == "rolled_back"
        assert bench.look() is None

    @scenario("rollback")
    async def test_a_failing_before_commit_hook_undoes_it(self, bench: Bench) -> None:
        def hook() -> None:
            raise Failure

        with pytest.raises(Failure):
            async with bench.context() as ctx:
                await bench.write(ctx)
                ctx.before_commit(hook)
        assert bench.look() is None

    @scenario()
    async def test_contexts_come_one_after_the_other(self, bench: Bench) -> None:
        """However a context ended, it does not affect the next one."""
        for number in range(6):
            try:
                async with bench.context() as ctx:
                    await bench.write(ctx, str(number), str(number))
                    if number % 2:
                        raise Failure
            except Failure:
                pass
        for number in (0, 2, 4):
            assert bench.look(str(number)) == str(number)

    # --- Savepoints ---------------------------------------------------------------------------------------------------

    @scenario("savepoints")
    async def test_a_failed_block_is_undone_alone(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            await bench.write(ctx, "before")
            with pytest.raises(Failure):
                async with bench.nested(ctx):
                    await bench.write(ctx, "inside")
                    raise Failure
            await bench.write(ctx, "after")
        assert [bench.look(name) for name in ("before", "inside", "after")] == ["tea", None, "tea"]

    @scenario("savepoints")
    async def test_a_kept_block_is_kept(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            await bench.write(ctx, "before")
            async with bench.nested(ctx):
                await bench.write(ctx, "inside")
        assert [bench.look(name) for name in ("before", "inside")] == ["tea", "tea"]

    @scenario("savepoints")
    async def test_a_context_undoes_its_blocks(self, bench: Bench) -> None:
        with pytest.raises(Failure):
            async with bench.context() as ctx:
                await bench.value(ctx)
                async with bench.nested(ctx):
                    await bench.write(ctx, "inside")
                raise Failure
        assert bench.look("inside") is None

    @scenario("rollback", "savepoints")
    async def test_a_failed_block_that_opens_it(self, bench: Bench) -> None:
        """The resource is used again afterwards."""
        async with bench.context() as ctx:
            with pytest.raises(Failure):
                async with bench.nested(ctx):
                    await bench.write(ctx, "inside")
                    raise Failure
            await bench.write(ctx, "after")
        assert [bench.look(name) for name in ("inside", "after")] == [None, "tea"]

    # --- Read-only ----------------------------------------------------------------------------------------------------

    @scenario("read_only")
    async def test_a_read_only_context_refuses_writes(self, bench: Bench) -> None:
        """The error is the server's or ours; the next context may write."""
        with pytest.raises(Exception):
            async with bench.context(read_only=True) as ctx:
                assert await bench.read(ctx) is None
                await bench.write(ctx)
        assert bench.look() is None
        async with bench.context() as ctx:
            await bench.write(ctx)
        assert bench.look() == "tea"

    @scenario("read_only")
    async def test_a_read_only_context_reads(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            await bench.write(ctx)
        async with bench.context(read_only=True) as ctx:
            assert await bench.read(ctx) == "tea"
        assert ctx.outcome == "committed"
        async with bench.context() as ctx:
            await bench.write(ctx, "after")
        assert bench.look("after") == "tea"

    # --- The client ---------------------------------------------------------------------------------------------------

    @scenario("counts")
    async def test_nothing_connects_before_it_is_used(self, bench: Bench) -> None:
        async with bench.context():
            assert bench.host.connections() == (0, 0)

    @scenario("counts")
    async def test_no_connection_outlives_the_manager(self, bench: Bench) -> None:
        """And none is in a transaction between contexts."""
        for number in range(5):
            async with bench.context() as ctx:
                await bench.write(ctx, str(number))
        held, in_transaction = bench.host.connections()
        assert held <= 1
        assert in_transaction == 0
        await bench.close()
        assert gone(bench.host, 0) == (0, 0)

    @scenario()
    async def test_it_works_again_after_the_manager_was_closed(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            await bench.write(ctx, "before")
        await bench.close()
        async with bench.context() as ctx:
            await bench.write(ctx, "after")
        assert bench.look("after") == "tea"

    @scenario("given")
    async def test_a_given_client_is_never_closed(self, bench: Bench) -> None:
        backend, client = bench.host.given()
        other = Bench(bench.host, backend)
        try:
            for name in ("before", "after"):
                async with other.context() as ctx:
                    await other.write(ctx, name)
                await other.close()
                assert other.look(name) == "tea"
        finally:
            await settled(bench.host.dispose(client))

    @scenario()
    async def test_ping(self, bench: Bench) -> None:
        ping = await bench.ping()
        assert ping.ok
        assert ping.error is None

    @scenario()
    async def test_a_sync_ping(self, bench: Bench) -> None:
        """An async backend is pinged in a new event loop, unless its client belongs to another loop."""
        ping = bench.manager.ping()["db"]
        assert ping.ok or (bench.host.is_async and ping.error == "AsyncResourceError")

    @scenario("unreachable")
    async def test_ping_without_a_server(self, bench: Bench) -> None:
        """It reports the failure soon, and raises nothing."""
        other = Bench(bench.host, bench.host.unreachable())
        started = monotonic()
        ping = await other.ping()
        assert not ping.ok
        assert ping.error
        assert monotonic() - started < 10
        await other.close()

    @scenario("unreachable")
    async def test_without_a_server_the_context_rolls_back(self, bench: Bench) -> None:
        other = Bench(bench.host, bench.host.unreachable())
        ctx: Any = None
        with pytest.raises(Exception) as failure:
            async with other.context() as ctx:
                await other.write(ctx)
        assert not isinstance(failure.value, PolydatumError)
        assert ctx.outcome == "rolled_back"
        await other.close()

    @scenario()
    async def test_no_secret_is_shown(self, bench: Bench) -> None:
        shown = repr(bench.backend) + repr(bench.manager) + str(bench.manager.describe())
        assert type(bench.backend).__name__ in repr(bench.backend)
        if bench.host.secret is not None:
            assert bench.host.secret not in shown

    @scenario("fork")
    async def test_a_forked_child_makes_its_own(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            await bench.write(ctx, "parent")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                self._in_child(bench)
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert bench.look("child") == "tea"
        async with bench.context() as ctx:
            await bench.write(ctx, "after")
        assert bench.look("after") == "tea"

    def _in_child(self, bench: Bench) -> None:
        async def work() -> None:
            async with bench.context() as ctx:
                await bench.write(ctx, "child")
            await bench.close()

        if bench.host.is_async:
            asyncio.events._set_running_loop(None)  # the parent's loop does not run in the child
        bench.host.run(work())

    # --- Many at once -------------------------------------------------------------------------------------------------

    @scenario()
    async def test_many_at_once_do_not_meet(self, bench: Bench) -> None:
        """Each of several threads or tasks reads what it wrote itself."""

        async def one(number: int) -> None:
            for turn in range(3):
                name = f"{number}-{turn}"
                async with bench.context() as ctx:
                    await bench.write(ctx, name, name)
                async with bench.context() as ctx:
                    assert await bench.read(ctx, name) == name

        if bench.host.is_async:
            await asyncio.gather(*(one(number) for number in range(8)))
        else:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda number: bench.host.run(one(number)), range(8)))

    @scenario("cancel")
    async def test_a_cancelled_operation_rolls_back(self, bench: Bench) -> None:
        """Its connection is dropped or recovered: the next context gets its own replies."""
        begun = asyncio.Event()
        contexts = []

        async def work() -> None:
            async with bench.context() as ctx:
                contexts.append(ctx)
                # A new key each time: the server may still hold the locks of the last write.
                await bench.write(ctx, f"cancelled-{len(contexts)}")
                begun.set()
                await bench.host.slow(await bench.value(ctx))

        for _ in range(3):
            begun.clear()
            task = asyncio.create_task(work())
            await begun.wait()
            for _ in range(20):
                await asyncio.sleep(0.001)  # until the operation has been sent
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with bench.context() as ctx:
                await bench.write(ctx, f"after-{len(contexts)}", "rice")
            assert bench.look(f"after-{len(contexts)}") == "rice"
            async with bench.context() as ctx:
                assert await bench.read(ctx, f"after-{len(contexts)}") == "rice"
        assert {str(ctx.outcome) for ctx in contexts} == {"rolled_back"}
        if "counts" not in bench.host.absent:
            held, in_transaction = gone(bench.host, 2)
            assert held <= 2  # of four; a pool may have replaced one that it no longer needs
            assert in_transaction == 0
        if "rollback" not in bench.host.absent:
            assert [bench.look(f"cancelled-{number}") for number in (1, 2, 3)] == [None] * 3


def gone(host: BackendHost, held: int, patience: float = 20.0) -> tuple[int, int]:
    """The connections, once at most ``held`` are left: a server notices a closed one late."""
    deadline = monotonic() + patience
    while (found := host.connections())[0] > held or found[1]:
        if monotonic() > deadline:
            break
    return found
