"""Backends: one client per process or event loop, for all contexts of a manager."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from polydatum import (
    AsyncBackend,
    AsyncResourceError,
    Backend,
    DataManager,
    ForkedResourceError,
    InvalidResourceError,
    UnknownResourceError,
)
from tests.forking import fork
from tests.unit.ledgers import AsyncLedger, Ledger


class Shelf:
    """A client: it keeps what was committed, and knows whether it was closed."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.closed = False
        self.answers = True


class Failed(Exception):
    """What a body raises."""


class Ledgers(Backend[Shelf]):
    """Ledgers over a shelf."""

    def __init__(self, client: Shelf | None = None) -> None:
        super().__init__(client)
        self.made: list[Shelf] = []
        self.begun: list[tuple[str, bool]] = []

    def connect(self) -> Shelf:
        self.made.append(Shelf())
        return self.made[-1]

    def disconnect(self, client: Shelf) -> None:
        client.closed = True

    def begin(self, context: Any, client: Shelf, name: str) -> Ledger:
        self.begun.append((name, context.read_only))
        return Ledger(client.kept)

    def ping(self, client: Shelf) -> None:
        if not client.answers:
            raise ConnectionError("postgresql://ann:secret@127.0.0.1 is down")


class AsyncLedgers(AsyncBackend[Shelf]):
    """Their async twin."""

    def __init__(self, client: Shelf | None = None) -> None:
        super().__init__(client)
        self.sync = Ledgers()

    @property
    def made(self) -> list[Shelf]:
        return self.sync.made

    @property
    def begun(self) -> list[tuple[str, bool]]:
        return self.sync.begun

    async def connect(self) -> Shelf:
        return self.sync.connect()

    async def disconnect(self, client: Shelf) -> None:
        self.sync.disconnect(client)

    async def begin(self, context: Any, client: Shelf, name: str) -> AsyncLedger:
        self.sync.begin(context, client, name)
        return AsyncLedger(client.kept)

    async def ping(self, client: Shelf) -> None:
        self.sync.ping(client)


def backend_for(drive: Any, client: Shelf | None = None) -> Any:
    return AsyncLedgers(client) if drive.has_async_parts else Ledgers(client)


async def test_contexts_share_one_client(drive: Any) -> None:
    """Made on first touch, closed with the manager, made anew after that."""
    backend = backend_for(drive)
    dm = DataManager()
    dm.register_resources(db=backend)
    assert dm.get_resource("db") is backend
    async with drive.block(dm.context()):
        pass
    assert backend.made == []
    for entry in ("tea", "rice"):
        async with drive.block(dm.context()) as ctx:
            (await drive.value(ctx.db)).append(entry)
    (client,) = backend.made
    assert client.kept == ["tea", "rice"]
    assert await drive.value(dm.get_client("db")) is client
    await drive.close_manager(dm)
    assert client.closed
    async with drive.block(dm.context()) as ctx:
        await drive.value(ctx.db)
    assert len(backend.made) == 2
    await drive.close_manager(dm)


async def test_a_given_client_is_never_closed(drive: Any) -> None:
    client = Shelf()
    dm = DataManager()
    dm.register_resources(db=backend_for(drive, client))
    async with drive.block(dm.context()) as ctx:
        (await drive.value(ctx.db)).append("tea")
    assert await drive.value(dm.get_client("db")) is client
    await drive.close_manager(dm)
    assert client.kept == ["tea"]
    assert not client.closed


async def test_it_learns_its_name_and_whether_to_write(drive: Any) -> None:
    backend = backend_for(drive)
    dm = DataManager()
    dm.register_resources(db=backend)
    async with drive.block(dm.context(read_only=True)) as ctx:
        assert ctx.read_only
        await drive.value(ctx.db)
    async with drive.block(dm.dal(read_only=True)):
        await drive.value(dm.require_active_context().db)
    async with drive.block(dm.context()) as ctx:
        assert not ctx.read_only
        await drive.value(ctx.db)
    assert backend.begun == [("db", True), ("db", True), ("db", False)]
    await drive.close_manager(dm)


async def test_ping(drive: Any) -> None:
    """What failed is told by the name of the error's class: its message may hold a password."""
    backend = backend_for(drive)
    dm = DataManager()
    dm.register_resources(db=backend, other=lambda context: contextlib.nullcontext(1))
    pings = await dm.aping() if drive.is_async else dm.ping()
    assert list(pings) == ["db"]
    assert pings["db"].ok
    assert pings["db"].error is None
    assert pings["db"].seconds >= 0
    backend.made[0].answers = False
    pings = await dm.aping() if drive.is_async else dm.ping()
    assert not pings["db"].ok
    assert pings["db"].error == "ConnectionError"
    assert "secret" not in str(pings)
    await drive.close_manager(dm)


def test_the_client_of_what_is_no_backend() -> None:
    """It says whether there is no such resource, or one without a client."""
    dm = DataManager()
    dm.register_resources(other=lambda context: contextlib.nullcontext(1), db=Ledgers())
    with pytest.raises(UnknownResourceError, match=r"no resource 'missing' is registered \(registered: db, other\)"):
        dm.get_client("missing")
    with pytest.raises(InvalidResourceError, match=r"resource 'other': it is not a backend, so it has no client"):
        dm.get_client("other")


def test_each_loop_has_its_own_client() -> None:
    backend = AsyncLedgers()
    dm = DataManager()
    dm.register_resources(db=backend)

    async def scenario() -> None:
        async with dm.context() as ctx:
            await ctx.db
        await dm.aclose()

    asyncio.run(scenario())
    asyncio.run(scenario())
    assert [client.closed for client in backend.made] == [True, True]


def test_an_async_backend_needs_an_async_context() -> None:
    dm = DataManager()
    dm.register_resources(db=AsyncLedgers())
    with dm.context() as ctx:
        with pytest.raises(AsyncResourceError, match="cannot be opened in a sync context"):
            _ = ctx.db


def test_an_async_backend_begins_something_async() -> None:
    class Wrong(AsyncLedgers):
        async def begin(self, context: Any, client: Shelf, name: str) -> Any:
            return Ledger([])

    async def scenario() -> None:
        dm = DataManager()
        dm.register_resources(db=Wrong())
        async with dm.context() as ctx:
            with pytest.raises(Exception, match="'db'"):
                await ctx.db

    asyncio.run(scenario())


def test_what_event_loops_share_outlasts_them() -> None:
    """Until the manager is closed, by whichever loop."""
    events = []

    class Sharing(AsyncLedgers):
        @contextmanager
        def shared(self) -> Iterator[None]:
            events.append("shared")
            yield
            events.append("left")

        async def connect(self) -> Shelf:
            events.append("connected")
            return await super().connect()

        async def disconnect(self, client: Shelf) -> None:
            events.append("disconnected")

    dm = DataManager()
    dm.register_resources(db=Sharing())

    async def use_once() -> None:
        async with dm.context() as ctx:
            await ctx.db

    for _ in range(2):
        asyncio.run(use_once())
    assert events == ["shared", "connected", "disconnected", "connected", "disconnected"]
    asyncio.run(dm.aclose())
    assert events.pop() == "left"


def test_backends_are_replaced_and_overridden_by_anything() -> None:
    """A test puts a plain resource in a backend's place, or a backend in a plain resource's."""
    dm = DataManager()
    dm.register_resources(db=Ledgers())

    def fake(context: Any) -> Iterator[str]:
        yield "fake"

    other = Ledgers()
    with dm.override(resources={"db": fake}):
        with dm.context() as ctx:
            assert ctx.db == "fake"
        assert dm.ping() == {}
    with dm.override(resources={"db": other}):
        with dm.context() as ctx:
            assert ctx.db == []
    assert len(other.made) == 1
    dm.replace_resource("db", fake)
    with dm.context() as ctx:
        assert ctx.db == "fake"
    dm.close()


class Overriding:
    """``async with`` over a block of `DataManager.override`, in the way of either half."""

    def __init__(self, drive: Any, block: Any) -> None:
        self.block = block
        self.is_async = drive.is_async

    async def __aenter__(self) -> None:
        await self.block.__aenter__() if self.is_async else self.block.__enter__()

    async def __aexit__(self, *raised: Any) -> Any:
        return await self.block.__aexit__(*raised) if self.is_async else self.block.__exit__(*raised)


async def test_what_an_override_opened_is_closed_with_it(drive: Any, recorder: Any) -> None:
    """The clients of its backends and its app resources, in reverse; what is registered stays open."""
    real, fake = backend_for(drive), backend_for(drive)
    dm = DataManager()
    dm.register_resources(db=real)
    dm.register_app_resources(
        engine=drive.part(recorder.part("engine")), settings=drive.part(recorder.part("settings"))
    )

    async def touch() -> None:
        async with drive.block(dm.context()) as ctx:
            await drive.value(ctx.db)
            await drive.value(ctx.engine)
            await drive.value(ctx.settings)

    await touch()
    recorder.clear()
    block = dm.override(
        resources={name: drive.part(recorder.part(f"fake {name}")) for name in ("engine", "settings")} | {"db": fake}
    )
    async with Overriding(drive, block):
        await touch()
    assert ([client.closed for client in fake.made], [client.closed for client in real.made]) == ([True], [False])
    assert [event for event in recorder if event.endswith("ends")] == ["fake settings ends", "fake engine ends"]
    async with Overriding(drive, block):  # a decorator, say, of a function that is called again
        await touch()
    assert [client.closed for client in fake.made] == [True, True]
    await drive.close_manager(dm)
    assert [client.closed for client in real.made] == [True]


async def test_overrides_close_what_is_their_own(drive: Any) -> None:
    """An inner block leaves the outer one's client open."""
    outer, inner = backend_for(drive), backend_for(drive)
    dm = DataManager()
    dm.register_resources(db=backend_for(drive))

    async def touch() -> None:
        async with drive.block(dm.context()) as ctx:
            await drive.value(ctx.db)

    async with Overriding(drive, dm.override(resources={"db": outer})):
        await touch()
        async with Overriding(drive, dm.override(resources={"db": inner})):
            await touch()
        assert [client.closed for client in (*outer.made, *inner.made)] == [False, True]
        await touch()
    assert [client.closed for client in outer.made] == [True]


@pytest.mark.parametrize("fails", ["close", "body and close"])
async def test_an_override_whose_client_does_not_close(drive: Any, fails: str, caplog: Any) -> None:
    """It is over all the same. What the body raised comes first."""

    def broken(manager: Any) -> Iterator[int]:
        yield 1
        raise OSError("no disk")

    def sound(manager: Any) -> Iterator[int]:
        yield 0

    dm: Any = DataManager()
    dm.register_app_resources(engine=drive.part(sound))
    with pytest.raises(Failed if "body" in fails else OSError) as raised:
        async with Overriding(drive, dm.override(resources={"engine": drive.part(broken)})):
            await drive.value(dm.engine)
            if "body" in fails:
                raise Failed
    notes = "".join(raised.value.__notes__)
    assert "closing resource 'engine'" in notes
    assert ("no disk" in notes) is ("body" in fails)
    assert ("no disk" in caplog.text) is ("body" in fails)
    assert await drive.value(dm.engine) == 0
    await drive.close_manager(dm)


def test_async_clients_of_a_sync_override_stay_open() -> None:
    """Nothing can be awaited at its end: `aclose` closes them, or the end of the event loop."""
    fake = AsyncLedgers()
    dm = DataManager()
    dm.register_resources(db=AsyncLedgers())

    async def scenario() -> None:
        with dm.override(resources={"db": fake}):
            await ause(dm)
        assert [client.closed for client in fake.made] == [False]
        await dm.aclose()
        assert [client.closed for client in fake.made] == [True]

    asyncio.run(scenario())


def test_an_override_decorates() -> None:
    dm: Any = DataManager()
    dm.register_resources(db=Ledgers())
    fake = Ledgers()

    @dm.override(resources={"db": fake})
    def work() -> None:
        use(dm)

    work()
    work()
    assert [client.closed for client in fake.made] == [True, True]


def test_the_base_class_says_what_to_define() -> None:
    backend = Backend[Any]()
    with pytest.raises(NotImplementedError):
        backend.connect()
    with pytest.raises(NotImplementedError):
        backend.begin(None, None, "db")
    backend.ping(None)
    backend.disconnect(None)


def test_the_async_base_class_says_what_to_define() -> None:
    async def scenario() -> None:
        backend = AsyncBackend[Any]()
        with pytest.raises(NotImplementedError):
            await backend.connect()
        with pytest.raises(NotImplementedError):
            await backend.begin(None, None, "db")
        await backend.ping(None)
        await backend.disconnect(None)

    asyncio.run(scenario())


def test_a_subclass_may_forget_the_constructor() -> None:
    class Forgetful(Ledgers):
        def __init__(self) -> None:
            self.made: list[Shelf] = []
            self.begun: list[tuple[str, bool]] = []

    dm = DataManager()
    dm.register_resources(db=Forgetful())
    use(dm)
    dm.close()


# --- Forks ------------------------------------------------------------------------------------------------------------


def in_child(check: Any) -> None:
    """Run a check in a forked child; it raises if it fails there."""
    assert fork(check)() == 0


def test_a_child_makes_its_own_client() -> None:
    """The parent's is left alone: not used, not closed."""
    backend = Ledgers()
    dm = DataManager()
    dm.register_resources(db=backend)
    with dm.context() as ctx:
        _ = ctx.db

    def check() -> None:
        with dm.context() as ctx:
            _ = ctx.db
        dm.close()
        assert [client.closed for client in backend.made] == [False, True]

    in_child(check)
    dm.close()


def use(dm: Any) -> None:
    with dm.context() as ctx:
        _ = ctx.db


async def ause(dm: Any) -> None:
    async with dm.context() as ctx:
        await ctx.db


def test_a_given_client_of_the_parent_is_refused() -> None:
    dm = DataManager()
    dm.register_resources(db=Ledgers(Shelf()))
    use(dm)

    def check() -> None:
        for _ in range(2):
            with pytest.raises(ForkedResourceError, match="'db' was used before this process was forked"):
                use(dm)

    in_child(check)


def test_a_given_async_client_of_the_parent_is_refused() -> None:
    dm = DataManager()
    dm.register_resources(db=AsyncLedgers(Shelf()))
    asyncio.run(ause(dm))

    def check() -> None:
        for _ in range(2):
            with pytest.raises(ForkedResourceError):
                asyncio.run(ause(dm))

    in_child(check)


def test_a_given_client_that_was_not_used_yet_is_the_childs() -> None:
    """Made before the fork, connected after it: servers that load the application first do so."""
    dm = DataManager()
    dm.register_resources(db=Ledgers(Shelf()))
    in_child(lambda: use(dm))


def test_a_backend_may_renew_a_given_client() -> None:
    class Renewing(Ledgers):
        def renew(self, client: Shelf, name: str) -> None:
            client.kept.append(f"renewed {name}")

    client = Shelf()
    dm = DataManager()
    dm.register_resources(db=Renewing(client))
    use(dm)

    def check() -> None:
        use(dm)
        use(dm)
        assert client.kept == ["renewed db"]

    in_child(check)
