"""The teardown limit: a step that hangs is given up, and everything else still closes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from polydatum import DataManager, ResourceTimeoutError

Manager = DataManager[Any, Any]

LIMIT = 0.02
GENEROUS = 5.0  # seconds in which what takes one LIMIT has to be over

on_both = pytest.mark.parametrize("backend", ["asyncio", "trio"])
both_ways = pytest.mark.parametrize("by_policy", [False, True])


def run(main: Callable[[], Coroutine[Any, Any, Any]], backend: str) -> Any:
    started = monotonic()
    result = anyio.run(main, backend=backend)
    assert monotonic() - started < GENEROUS
    return result


def managed(*, by_policy: bool = False, **resources: Any) -> Manager:
    """A manager; ``by_policy``: its contexts never end by the clean path."""
    rule = (lambda exc, status: exc is not None) if by_policy else None
    manager: Manager = DataManager(rollback_on=rule, teardown_timeout=LIMIT)
    manager.register_resources(**resources)
    return manager


class Log(list[str]):
    def hanging(self, name: str) -> Callable[[Any], AsyncIterator[str]]:
        async def generator(ctx: Any) -> AsyncIterator[str]:
            try:
                yield name
            finally:
                try:
                    await anyio.sleep_forever()
                finally:
                    self.append(name)

        return generator

    def sync(self, name: str) -> Callable[[Any], Iterator[str]]:
        def generator(ctx: Any) -> Iterator[str]:
            try:
                yield name
            finally:
                self.append(name)

        return generator

    def quick(self, name: str) -> Callable[[Any], AsyncIterator[str]]:
        async def generator(ctx: Any) -> AsyncIterator[str]:
            try:
                yield name
            finally:
                self.append(name)

        return generator


@on_both
@both_ways
def test_a_hanging_teardown_is_given_up(backend: str, by_policy: bool) -> None:
    """It is cancelled, the others close, and ResourceTimeoutError, a TimeoutError, names it."""
    log = Log()

    async def main() -> None:
        ctx = managed(
            by_policy=by_policy, first=log.sync("first"), slow=log.hanging("slow"), last=log.quick("last")
        ).context()
        with pytest.raises(TimeoutError, match="closing resource 'slow'") as caught:
            async with ctx:
                assert ctx.first == "first"
                await ctx.slow
                await ctx.last
        assert type(caught.value) is ResourceTimeoutError
        assert caught.value.limit == LIMIT
        assert ctx.state == "closed"
        assert ctx.outcome != "committed"

    run(main, backend)
    assert log == ["last", "slow", "first"]


@on_both
@both_ways
def test_the_limit_is_a_total(backend: str, by_policy: bool) -> None:
    """Ten steps that hang take one limit together; each is named."""
    log = Log()
    names = [f"slow{number}" for number in range(10)]

    async def main() -> None:
        ctx = managed(by_policy=by_policy, **{name: log.hanging(name) for name in names}).context()
        with pytest.raises(ResourceTimeoutError):
            async with ctx:
                for name in names:
                    await getattr(ctx, name)
        assert [record.where for record in ctx.outcome.errors] == [
            f"closing resource '{name}'" for name in reversed(names)
        ]

    run(main, backend)
    assert log == names[::-1]


@on_both
@both_ways
def test_a_hanging_middleware_is_given_up(backend: str, by_policy: bool) -> None:
    """The resources behind it are closed, and told of the failure."""
    log = Log()
    seen: list[BaseException] = []

    async def db(ctx: Any) -> AsyncIterator[str]:
        try:
            yield "db"
        except BaseException as error:
            seen.append(error)
            raise

    async def main() -> None:
        manager = managed(by_policy=by_policy, db=db)
        manager.register_context_middleware(log.hanging("middleware"))
        ctx = manager.context()
        with pytest.raises(ResourceTimeoutError):
            async with ctx:
                await ctx.db
        assert ctx.outcome == "unknown"  # its commit may have been in flight

    run(main, backend)
    assert log == ["middleware"]
    assert [type(error) for error in seen] == [ResourceTimeoutError]


@on_both
@both_ways
def test_a_step_that_waits_again_when_it_is_given_up(backend: str, by_policy: bool) -> None:
    """It gets no more time, its finally blocks run, and no warning is left behind."""
    log = Log()

    async def stubborn(ctx: Any) -> AsyncIterator[str]:
        try:
            yield "stubborn"
            await anyio.sleep_forever()
        finally:
            try:
                await anyio.sleep_forever()
            finally:
                log.append("stubborn")

    async def main() -> None:
        ctx = managed(by_policy=by_policy, first=log.quick("first"), stubborn=stubborn).context()
        with pytest.raises(ResourceTimeoutError):
            async with ctx:
                await ctx.first
                await ctx.stubborn
        assert ctx.state == "closed"

    run(main, backend)
    assert log == ["stubborn", "first"]


@both_ways
def test_a_step_that_swallows_its_cancel_is_given_up(by_policy: bool) -> None:
    """Even one that catches everything and goes on waiting; the finalizer of the loop finds nothing to complain about."""
    log = Log()
    complaints: list[Any] = []

    async def stubborn(ctx: Any) -> AsyncIterator[str]:
        yield "stubborn"
        try:
            await anyio.sleep_forever()
        except BaseException:
            log.append("swallowed")
        await anyio.sleep_forever()

    async def main() -> None:
        import asyncio

        asyncio.get_running_loop().set_exception_handler(lambda loop, complaint: complaints.append(complaint))
        ctx = managed(by_policy=by_policy, first=log.quick("first"), stubborn=stubborn).context()
        with pytest.raises(ResourceTimeoutError):
            async with ctx:
                await ctx.first
                await ctx.stubborn
        assert ctx.state == "closed"

    run(main, "asyncio")
    assert log == ["swallowed", "first"]
    assert complaints == []


@on_both
def test_a_hanging_teardown_of_a_cancelled_context(backend: str) -> None:
    """The cancel outranks the timeout, which is in the outcome's errors."""
    log = Log()

    async def db(ctx: Any) -> AsyncIterator[str]:
        try:
            yield "db"
        finally:
            try:
                await anyio.sleep_forever()
            finally:
                log.append("db")

    async def main() -> None:
        ctx = managed(db=db).context()
        with anyio.CancelScope() as scope:
            async with ctx:
                await ctx.db
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert ctx.outcome == "rolled_back"
        assert ResourceTimeoutError in {record.type for record in ctx.outcome.errors}

    run(main, backend)
    assert log == ["db"]


@on_both
def test_a_hanging_teardown_under_a_scope_that_is_cancelled_meanwhile(backend: str) -> None:
    """The limit holds although the scope around it cancels again and again; also inside a scope of the step's own."""
    log = Log()
    cancel: list[Callable[[], None]] = []

    async def db(ctx: Any) -> AsyncIterator[str]:
        try:
            yield "db"
        finally:
            with anyio.CancelScope():
                cancel[0]()
                try:
                    await anyio.sleep(GENEROUS)
                finally:
                    log.append("db")

    async def main() -> None:
        ctx = managed(db=db).context()
        with anyio.CancelScope() as scope:
            cancel.append(scope.cancel)
            async with ctx:
                await ctx.db
        assert scope.cancelled_caught
        assert ResourceTimeoutError in {record.type for record in ctx.outcome.errors}

    run(main, backend)
    assert log == ["db"]


class Transaction:
    kind = "authority"

    def __init__(self) -> None:
        self.log: list[str] = []

    async def prepare(self) -> None:
        self.log.append("prepare")

    async def commit(self) -> None:
        self.log.append("commit sent")
        await anyio.sleep_forever()

    async def rollback(self) -> None:
        self.log.append("rollback")

    async def close(self) -> None:
        self.log.append("close")


@on_both
def test_a_hanging_commit_is_not_called_rolled_back(backend: str) -> None:
    """A COMMIT that was sent and given up may have been kept: the outcome does not pretend to know."""
    transaction = Transaction()

    async def main() -> None:
        ctx = managed(tx=lambda ctx: transaction).context()
        with pytest.raises(ResourceTimeoutError, match="committing resource 'tx'"):
            async with ctx:
                await ctx.tx
        assert ctx.outcome == "unknown"

    run(main, backend)
    assert transaction.log[:2] == ["prepare", "commit sent"]
    assert transaction.log[-1] == "close"


@on_both
@pytest.mark.parametrize("event", ["on_commit", "on_rollback"])
def test_a_hanging_hook_after_the_end_changes_nothing(
    backend: str, event: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is given up, logged and kept in the errors; outcome and answer stand."""

    async def hang() -> None:
        await anyio.sleep_forever()

    async def main() -> None:
        ctx = managed().context()
        async with ctx:
            getattr(ctx, event)(hang)
            if event == "on_rollback":
                ctx.set_rollback_only()
        assert ctx.outcome == ("committed" if event == "on_commit" else "rolled_back")
        assert [record.type for record in ctx.outcome.errors] == [ResourceTimeoutError]

    run(main, backend)
    assert "teardown limit" in caplog.text


def test_a_slow_sync_step_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """It cannot be interrupted; the log says that it took too long, and the context has committed."""
    manager: Manager = DataManager(teardown_timeout=1e-9)
    manager.register_resources(db=Log().sync("db"))
    with caplog.at_level(logging.ERROR, logger="polydatum"):
        with manager.context() as ctx:
            assert ctx.db == "db"
    assert ctx.outcome == "committed"
    assert "cannot be interrupted" in caplog.text


@on_both
def test_a_limit_that_is_not_reached_leaves_no_trace(backend: str) -> None:
    """Steps that suspend within the limit succeed, and nothing fires later."""

    async def db(ctx: Any) -> AsyncIterator[str]:
        yield "db"
        await anyio.lowlevel.checkpoint()

    async def main() -> None:
        manager: Manager = DataManager(teardown_timeout=GENEROUS)
        manager.register_resources(db=db)
        async with manager.context() as ctx:
            await ctx.db
        assert ctx.outcome == "committed"
        assert ctx.outcome.errors == ()

    run(main, backend)
