"""Contexts that suspend wherever a context can, and a journal that tells whether each of them ended as it should."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from polydatum import Context, DataManager
from tests.unit.cancellation.driving import task, turn, wait


class Journal:
    """What happened in one run, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.tasks: set[int] = set()
        self.own_task = 0
        self.context: Any = None
        self.left: Any = "never looked"  # the context that was current afterwards
        self.body_ended = False

    def note(self, event: str, name: str) -> None:
        self.events.append((event, name))
        self.tasks.add(id(task()))

    def names(self, event: str) -> list[str]:
        return [name for happened, name in self.events if happened == event]


class Transaction:
    """A transactional object whose every method suspends."""

    def __init__(self, journal: Journal, name: str, kind: str) -> None:
        self.kind = kind
        self._journal = journal
        self._name = name

    async def _do(self, event: str) -> None:
        await wait()
        self._journal.note(event, self._name)
        await turn()

    async def prepare(self) -> None:
        await self._do("prepared")

    async def commit(self) -> None:
        await self._do("committed")

    async def rollback(self) -> None:
        await self._do("rolled back")

    async def close(self) -> None:
        await self._do("closed")


class Scenario:
    """A manager, a body, and what they promise; the same for every way of cancelling."""

    name: str
    outcome = "committed"  # uncancelled
    error: str | None = None  # uncancelled
    transactions: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.journal = Journal()
        self.manager: DataManager[Any, Any] = DataManager(teardown_timeout=60)
        self.register(self.manager)

    def __repr__(self) -> str:
        return self.name

    def register(self, manager: DataManager[Any, Any]) -> None:
        raise NotImplementedError

    async def body(self, ctx: Any) -> None:
        raise NotImplementedError

    def wish(self, ctx: Context) -> None:
        """Register hooks, before the context opens."""

    async def work(self) -> None:
        """One run: a context from its opening to its end."""
        self.journal = Journal()
        self.journal.own_task = id(task())
        ctx = self.journal.context = self.manager.context()
        self.wish(ctx)
        try:
            async with ctx:
                try:
                    await self.body(ctx)
                finally:
                    self.journal.body_ended = True
        finally:
            self.journal.left = self.manager.get_active_context()

    # --- What scenarios are made of -----------------------------------------------------------------------------------

    def resource(self, name: str, *needs: str) -> Callable[[Any], AsyncIterator[str]]:
        """An async generator that suspends before, between and after all it does."""

        async def generator(ctx: Any) -> AsyncIterator[str]:
            for needed in needs:
                await getattr(ctx, needed)
            await wait()
            self.journal.note("opened", name)
            try:
                yield name
                await turn()
                self.journal.note("resumed", name)
            finally:
                await wait()
                await turn()
                self.journal.note("closed", name)

        return generator

    def sync_resource(self, name: str) -> Callable[[Any], Iterator[str]]:
        def generator(ctx: Any) -> Iterator[str]:
            self.journal.note("opened", name)
            try:
                yield name
                self.journal.note("resumed", name)
            finally:
                self.journal.note("closed", name)

        return generator

    def manager_resource(self, name: str) -> Callable[[Any], contextlib.AbstractAsyncContextManager[str]]:
        @contextlib.asynccontextmanager
        async def factory(ctx: Any) -> AsyncIterator[str]:
            await turn()
            self.journal.note("opened", name)
            try:
                yield name
                self.journal.note("resumed", name)
            finally:
                await turn()
                self.journal.note("closed", name)

        return factory

    def transaction(self, name: str, kind: str) -> Callable[[Any], Transaction]:
        """A callable that makes a transactional object: closed by its own ``close``."""

        def factory(ctx: Any) -> Transaction:
            self.journal.note("opened", name)
            return Transaction(self.journal, name, kind)

        return factory

    def hook(self, name: str) -> Callable[[], Awaitable[None]]:
        async def hook() -> None:
            await wait()
            await turn()
            self.journal.note("ran", name)

        return hook


class Everything(Scenario):
    """Every kind of step, so that the policy plans them: middleware, hooks, transactions, four kinds of resource."""

    name = "everything"
    transactions = ("tx", "mail")

    def register(self, manager: DataManager[Any, Any]) -> None:
        manager.register_context_middleware(
            self.resource("outer middleware"), self.sync_resource("sync middleware"), self.resource("inner middleware")
        )
        manager.register_resources(
            a=self.resource("a"),
            b=self.resource("b", "a"),
            tx=self.transaction("tx", "authority"),
            mail=self.transaction("mail", "effect"),
            cm=self.manager_resource("cm"),
            **{name: self.sync_resource(name) for name in ("sync1", "sync2", "sync3")},
        )

    def wish(self, ctx: Context) -> None:
        ctx.before_commit(self.hook("before_commit"))
        ctx.on_commit(self.hook("on_commit"))
        ctx.on_rollback(self.hook("on_rollback"))

    async def body(self, ctx: Any) -> None:
        assert (ctx.sync1, ctx.sync2) == ("sync1", "sync2")
        await ctx.b
        await ctx.tx
        assert ctx.sync3 == "sync3"
        await wait()
        await ctx.mail
        await ctx.cm
        await turn()


class Plain(Scenario):
    """No hooks, no transactions: the clean path."""

    name = "plain"

    def register(self, manager: DataManager[Any, Any]) -> None:
        manager.register_context_middleware(self.resource("middleware"))
        manager.register_resources(
            a=self.resource("a"),
            b=self.resource("b", "a"),
            cm=self.manager_resource("cm"),
            sync=self.sync_resource("sync"),
        )

    async def body(self, ctx: Any) -> None:
        await ctx.b
        assert ctx.sync == "sync"
        await ctx.cm
        await wait()


class Bare(Scenario):
    """One resource and nothing else: the shortest clean path."""

    name = "bare"

    def register(self, manager: DataManager[Any, Any]) -> None:
        manager.register_resources(a=self.resource("a"))

    async def body(self, ctx: Any) -> None:
        await ctx.a
        await wait()


class Raising(Plain):
    """The body raises."""

    name = "raising"
    outcome = "rolled_back"
    error = "LookupError"

    async def body(self, ctx: Any) -> None:
        await super().body(ctx)
        raise LookupError("nothing found")


class Vetoed(Everything):
    """The body asks for a rollback and raises nothing."""

    name = "vetoed"
    outcome = "rolled_back"

    async def body(self, ctx: Any) -> None:
        await super().body(ctx)
        ctx.set_rollback_only("because")


class Forgiving(Everything):
    """The body raises, and asks for a commit all the same."""

    name = "committing on error"
    error = "LookupError"

    async def body(self, ctx: Any) -> None:
        ctx.commit_on_error()
        await super().body(ctx)
        await wait()
        raise LookupError("counted")


SCENARIOS: list[type[Scenario]] = [Bare, Plain, Raising, Everything, Vetoed, Forgiving]
