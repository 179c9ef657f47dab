"""Branches that only a rare order of events, or odd code of users, reaches."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import copy_context
from typing import Any

import anyio
import pytest

from polydatum import (
    AsyncResourceError,
    ConfigurationError,
    ContextClosedError,
    DataAccessLayer,
    DataManager,
    InvalidResourceError,
    InvalidServiceError,
    MetaReadOnlyError,
    ResourceTimeoutError,
    Service,
    ValueResource,
)
from polydatum.shield import current_anyio_scope


def test_a_cached_value_that_somebody_deleted() -> None:
    """Its resource closes all the same, in sync and async contexts."""
    log: list[str] = []

    def db(context: Any) -> Iterator[str]:
        yield "db"
        log.append("db closed")

    async def pg(context: Any) -> AsyncIterator[str]:
        yield "pg"
        log.append("pg closed")

    dm = DataManager()
    dm.register_resources(db=db, pg=pg)

    async def main() -> Any:
        async with dm.context() as ctx:
            assert (ctx.db, await ctx.pg) == ("db", "pg")
            vars(ctx).pop("db")
            vars(ctx).pop("_async_pg")
        return ctx

    assert asyncio.run(main()).outcome == "committed"
    with dm.context() as ctx:
        assert ctx.db == "db"
        vars(ctx).pop("db")
    assert ctx.outcome == "committed"
    assert log == ["pg closed", "db closed", "db closed"]


def test_another_thread_opens_it_just_before_the_claim() -> None:
    """Whoever claims a resource looks whether it is open by now."""
    opened: list[int] = []

    def db(context: Any) -> Iterator[int]:
        opened.append(threading.get_ident())
        yield len(opened)

    dm = DataManager()
    dm.register_resources(db=db)

    class Raced(dict[Any, Any]):
        """Claims before whose first one another thread has opened the resource."""

        raced = False

        def setdefault(self, key: Any, default: Any = None) -> Any:
            if not self.raced:
                self.raced = True
                thread = threading.Thread(target=lambda: key[1].db)
                thread.start()
                thread.join(10)
            return super().setdefault(key, default)

    dm._registry.resources["db"].under_way = Raced()
    with dm.context() as ctx:
        assert ctx.db == 1
    assert len(opened) == 1


def test_a_class_in_place_of_a_service() -> None:
    """Forgotten parentheses are found when the manager is made."""

    class Items(Service):
        def name(self) -> str:
            return "items"

    class ShopDAL(DataAccessLayer):
        items = Items

    with pytest.raises(InvalidServiceError, match=r"class Items; write Items\(\)"):
        DataManager(ShopDAL)


def test_an_instance_in_place_of_the_dal_class() -> None:
    """The manager makes the DAL itself."""

    class ShopDAL(DataAccessLayer):
        pass

    with pytest.raises(ConfigurationError, match=r"not an instance: DataManager\(ShopDAL\)"):
        DataManager(ShopDAL())  # type: ignore[call-overload]


def test_a_hook_that_cannot_be_called() -> None:
    """``ctx.on_commit(print("x"))`` registers None: said at once."""
    with DataManager().context() as ctx, pytest.raises(TypeError, match="NoneType is not callable"):
        ctx.on_commit(None)  # type: ignore[type-var]


def test_a_service_that_hides_one_of_its_class() -> None:
    """An instance may take a nested service of its class away."""

    class Photos(Service):
        pass

    class Items(Service):
        photos: Any = Photos()

        def __init__(self) -> None:
            self.photos = None

    dm = DataManager()
    dm.register_services(items=Items())
    assert dm.describe()["services"]["items"]["services"] == {}


class Awaited:
    """An awaitable that is no coroutine, as some drivers give."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def __await__(self) -> Any:
        self.log.append("awaited")
        return iter(())


async def _coroutine(log: list[str]) -> None:
    log.append("awaited")


@pytest.mark.parametrize("make", [Awaited, _coroutine])
def test_a_hook_that_only_looks_sync(make: Any) -> None:
    """What it returns is awaited in an async context; in a sync one it has failed, and nothing is committed."""
    log: list[str] = []
    dm = DataManager()

    async def main() -> Any:
        async with dm.context() as ctx:
            ctx.before_commit(lambda: make(log))
            ctx.on_commit(lambda: make(log))
        return ctx

    assert asyncio.run(main()).outcome == "committed"
    assert log == ["awaited", "awaited"]
    ctx = dm.context()
    with pytest.raises(AsyncResourceError, match="^running before_commit hook .* returned an awaitable"), ctx:
        ctx.before_commit(lambda: make(log))
    assert ctx.outcome == "rolled_back"
    assert log == ["awaited", "awaited"]


def test_a_transaction_that_only_looks_sync() -> None:
    """Its steps are awaited: nothing is called committed that was not."""
    log: list[str] = []

    class Transaction:
        kind = "authority"

        def prepare(self) -> Any:
            return _coroutine(log)

        commit = rollback = close = prepare

    dm = DataManager()
    dm.register_resources(db=lambda context: Transaction())

    async def main() -> Any:
        async with dm.context() as ctx:
            assert isinstance(ctx.db, Transaction)
        return ctx

    assert asyncio.run(main()).outcome == "committed"
    assert log == ["awaited"] * 3  # prepare, commit, close


class HalfATransaction:
    kind = "authority"

    def commit(self) -> None: ...


def test_a_transactional_value_that_lacks_steps() -> None:
    """Is refused with what it lacks, and closed; a value that only has such a kind is a value like any other."""
    log: list[str] = []

    def half(context: Any) -> Iterator[Any]:
        try:
            yield HalfATransaction()
        finally:
            log.append("closed")

    async def async_half(context: Any) -> AsyncIterator[Any]:
        try:
            yield HalfATransaction()
        finally:
            log.append("closed")

    class Effect:
        kind = "effect"

    dm = DataManager()
    dm.register_resources(half=half, async_half=async_half, effect=ValueResource(Effect()))
    lacks = r"no prepare, rollback, close\(\)"
    with dm.context() as ctx:
        with pytest.raises(InvalidResourceError, match=lacks):
            _ = ctx.half
        assert isinstance(ctx.effect, Effect)

    async def main() -> None:
        async with dm.context() as ctx:
            with pytest.raises(InvalidResourceError, match=lacks):
                await ctx.async_half

    asyncio.run(main())
    assert log == ["closed", "closed"]


def test_a_teardown_uses_a_resource_that_another_thread_opened() -> None:
    """It was taken out of that thread's reach, not out of the unwinding's."""
    seen: list[str] = []

    def first(context: Any) -> Iterator[str]:
        yield "first"

    def second(context: Any) -> Iterator[str]:
        try:
            yield context.first
        finally:
            seen.append(context.first)

    dm = DataManager()
    dm.register_resources(first=first, second=second)

    async def in_new_thread(job: Any) -> Any:
        results: list[Any] = []
        thread = threading.Thread(target=copy_context().run, args=(lambda: results.append(job()),))
        thread.start()
        thread.join(10)
        return results[0]

    async def main() -> None:
        ctx = await dm.context().aopen()
        await in_new_thread(lambda: ctx.second)
        ctx.close_in(in_new_thread)
        await ctx.aclose()

    asyncio.run(main())
    assert seen == ["first"]


def test_meta_is_the_contexts_own() -> None:
    """The caller's dict may change, what is no mapping is refused, and it is made once."""
    facts = {"user": "ann"}
    dm = DataManager()
    with dm.context(facts) as ctx:
        facts["user"] = "eve"
        assert ctx.meta.user == "ann"
        with pytest.raises(MetaReadOnlyError):
            ctx.meta.__init__({"user": "eve"})  # type: ignore[misc]
    with pytest.raises(TypeError, match="not list"):
        dm.context([1])  # type: ignore[arg-type]


def test_a_call_through_a_closed_context_that_is_kept_current() -> None:
    """With method middleware it is refused before the middleware runs."""

    class Items(Service):
        def name(self) -> str:
            return "items"

    dm = DataManager()
    dm.register_services(items=Items())

    @dm.method_middleware
    def through(call: Any) -> Any:
        return (yield)

    ctx = dm.context()
    ctx.open()
    dal = ctx.dal
    ctx.close(keep_current=True)
    with pytest.raises(ContextClosedError, match=r"items\.name"):
        dal.items.name()
    ctx.leave()


def test_services_registered_inside_an_override() -> None:
    """Are no part of it, and stay; the override stays over what it replaces."""

    class Items(Service):
        label = "real"

        def name(self) -> str:
            return self.label

    class Fake(Items):
        label = "fake"

    dm = DataManager()
    dm.register_services(items=Items())
    with dm.override(services={"items": Fake()}):
        dm.register_services(more=Items())
        with dm.dal() as dal:
            assert (dal.items.name(), dal.more.name()) == ("fake", "real")
    with dm.dal() as dal:
        assert (dal.items.name(), dal.more.name()) == ("real", "real")


def test_overrides_of_two_threads_end_in_any_order() -> None:
    """Each takes back what is its own."""
    dm = DataManager()
    dm.register_resources(rate=ValueResource(1))
    one, two = dm.override(resources={"rate": ValueResource(2)}), dm.override(resources={"rate": ValueResource(3)})
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    with dm.context() as ctx:
        assert ctx.rate == 3
    two.__exit__(None, None, None)
    with dm.context() as ctx:
        assert ctx.rate == 1


def test_a_service_cannot_be_called_dal() -> None:
    """No path could reach it."""
    with pytest.raises(InvalidServiceError, match="paths begin with 'dal'"):
        DataManager().register_services(dal=Service())


def test_no_scope_is_seen_without_anyio(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shield looks anyio up, and does without."""
    monkeypatch.delitem(sys.modules, "anyio._backends._asyncio", raising=False)
    assert current_anyio_scope(object()) is None


def test_a_native_cancel_inside_a_shielded_scope_of_a_step() -> None:
    """The step completes, the cancel is raised at the end."""
    log: list[str] = []

    async def db(context: Any) -> AsyncIterator[str]:
        yield "db"
        with anyio.CancelScope(), anyio.CancelScope(shield=True):
            asyncio.get_running_loop().call_soon(task.cancel)
            await asyncio.sleep(0.01)
        log.append("closed")

    dm = DataManager()
    dm.register_resources(db=db)

    async def work() -> None:
        async with dm.context() as ctx:
            await ctx.db

    async def main() -> None:
        nonlocal task
        task = asyncio.create_task(work())
        with pytest.raises(asyncio.CancelledError):
            await task

    task: Any = None
    asyncio.run(main())
    assert log == ["closed"]


def test_late_use_does_not_reach_an_open_outer_context() -> None:
    """Though other contexts come and go above the closed one that was kept current."""
    dm = DataManager()
    outer, kept, passing = dm.context(), dm.context(), dm.context()
    outer.open()
    kept.open()
    kept.close(keep_current=True)
    with passing:
        assert dm.get_active_context() is passing
    passing = dm.context()
    passing.open()
    passing.close()
    assert dm.get_active_context() is None
    kept.leave()
    assert dm.get_active_context() is outer
    outer.close()


@pytest.mark.parametrize("how", ["swallows", "raises", "turns", "stubborn"])
def test_odd_steps_that_are_given_up(how: str) -> None:
    """Whatever a step does when its time is up, it is over, and the others still close."""
    log: list[str] = []

    async def odd(context: Any) -> AsyncIterator[str]:
        yield "odd"
        if how == "turns":
            while True:  # noqa: ASYNC110
                await asyncio.sleep(0)
        while how == "stubborn":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                log.append("told")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("told")
            if how == "raises":
                raise LookupError from None

    def other(context: Any) -> Iterator[str]:
        try:
            yield "other"
        finally:
            log.append("other closed")

    dm = DataManager(teardown_timeout=0.01)
    dm.register_resources(other=other, odd=odd)

    async def main() -> None:
        async with dm.context() as ctx:
            assert ctx.other == "other"
            await ctx.odd

    with pytest.raises(ResourceTimeoutError):
        asyncio.run(main())
    assert log[-1] == "other closed"
