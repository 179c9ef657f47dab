"""Resources of the application's scope: opened once, closed with the manager, and opened anew after that."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio

from polydatum import (
    AsyncResourceError,
    ContextClosedError,
    DataManager,
    NoActiveContextError,
    ResourceCycleError,
    ResourceSetupError,
    Service,
    ValueResource,
)
from polydatum.process import close_at_exit


async def test_opened_once_for_all_contexts(drive: Any, recorder: Any) -> None:
    """On first touch, with the manager as argument; closed by the manager, after which it can be used again."""
    dm = DataManager()
    given: list[Any] = []

    def engine(data_manager: Any) -> Iterator[object]:
        given.append(data_manager)
        recorder("opens")
        yield object()
        recorder("ends")

    class Items(Service):
        def engine(self) -> Any:
            return self._ctx.engine, self._data_manager.engine

    dm.register_app_resources(engine=drive.part(engine))
    dm.register_services(items=Items())
    assert recorder == []
    async with drive.block(dm.context()) as ctx:
        first = await drive.value(ctx.engine)
        assert "engine" not in ctx
    async with drive.block(dm.context()) as ctx:
        assert await drive.value(ctx.engine) is first
        assert [await drive.value(one) for one in ctx.dal.items.engine()] == [first, first]
    assert await drive.value(dm.engine) is first
    assert recorder == ["opens"]
    await drive.close_manager(dm)
    assert recorder == ["opens", "ends"]
    await drive.close_manager(dm)
    second = await drive.value(dm.engine)
    assert second is not first
    assert recorder == ["opens", "ends", "opens"]
    await drive.close_manager(dm)
    assert given == [dm, dm]


async def test_closed_in_reverse(drive: Any, recorder: Any) -> None:
    """Dependencies close last; those nobody touched do not open."""
    dm = DataManager()
    dm.register_app_resources(config=ValueResource(3), pool=drive.part(recorder.part("pool")))
    if drive.has_async_parts:

        async def engine(data_manager: Any) -> AsyncIterator[Any]:
            yield await data_manager.pool, data_manager.config
            recorder("engine ends")

    else:

        def engine(data_manager: Any) -> Iterator[Any]:  # type: ignore[misc]
            yield data_manager.pool, data_manager.config
            recorder("engine ends")

    dm.register_app_resources(engine=engine, never=recorder.part("never"))
    assert await drive.value(dm.engine) == ("pool", 3)
    await drive.close_manager(dm)
    assert recorder == ["pool opens", "engine ends", "pool commits", "pool ends"]


async def test_used_by_a_resource_of_a_context(drive: Any, recorder: Any) -> None:
    """The usual case: a pool of the application, a connection of the context."""
    dm = DataManager()
    dm.register_app_resources(pool=recorder.part("pool"))

    def conn(context: Any) -> Iterator[str]:
        yield f"conn of {context.pool}"
        recorder("conn ends")

    dm.register_resources(conn=conn)
    async with drive.block(dm.context()) as ctx:
        assert ctx.conn == "conn of pool"
    assert recorder == ["pool opens", "conn ends"]
    await drive.close_manager(dm)


@pytest.mark.parametrize("shape", ["manager", "class"])
async def test_shapes(drive: Any, recorder: Any, shape: str) -> None:
    """Every shape that a resource may have; a callable is asked once, however often its name is touched."""
    dm = DataManager()
    manager = contextlib.asynccontextmanager if drive.has_async_parts else contextlib.contextmanager
    factory: Any = manager(drive.part(recorder.part("engine")))

    def made(data_manager: Any) -> Any:
        recorder("made")
        return factory(data_manager)

    dm.register_app_resources(engine=factory if shape == "manager" else made)
    async with drive.block(dm.context()) as ctx:
        for _ in range(3):
            assert await drive.value(ctx.engine) == await drive.value(dm.engine) == "engine"
    await drive.close_manager(dm)
    expected = ["engine opens", "engine commits", "engine ends"]
    assert recorder == (expected if shape == "manager" else ["made", *expected])


async def test_a_failed_open(drive: Any) -> None:
    """Leaves nothing behind: the error reaches its caller, the next touch opens anew."""
    dm = DataManager()
    failures: list[Any] = [OSError("no network"), None, "never"]

    def engine(data_manager: Any) -> Iterator[int]:
        failure = failures.pop(0)
        if failure == "never":
            return
        if failure is not None:
            raise failure
        yield 1

    dm.register_app_resources(engine=drive.part(engine))
    with pytest.raises(OSError, match="no network"):
        await drive.value(dm.engine)
    assert await drive.value(dm.engine) == 1
    await drive.close_manager(dm)
    with pytest.raises(ResourceSetupError):
        await drive.value(dm.engine)


async def test_errors_of_the_close(drive: Any, recorder: Any, caplog: Any) -> None:
    """The others still close; the first error is raised, the next ones are notes on it and logged."""
    dm = DataManager()

    def failing(name: str) -> Any:
        def part(data_manager: Any) -> Iterator[str]:
            yield name
            recorder(f"{name} ends")
            raise OSError(f"{name} failed")

        return drive.part(part)

    dm.register_app_resources(a=failing("a"), b=failing("b"), c=drive.part(recorder.part("c")))
    for name in "abc":
        await drive.value(getattr(dm, name))
    with pytest.raises(OSError, match="b failed") as caught:
        await drive.close_manager(dm)
    assert caught.value.__notes__[0] == "while closing resource 'b'"
    assert "closing resource 'a': OSError: a failed" in caught.value.__notes__[1]
    assert recorder == ["c opens", "c commits", "c ends", "b ends", "a ends"]
    assert "a failed" in caplog.text
    await drive.close_manager(dm)


def test_errors_of_both_kinds_at_the_close(caplog: Any, recorder: Any) -> None:
    """aclose() closes the async ones of its loop first, then those of the process."""
    dm = DataManager()

    async def pg(data_manager: Any) -> AsyncIterator[int]:
        yield 1
        recorder("pg ends")
        raise OSError("pg failed")

    def engine(data_manager: Any) -> Iterator[int]:
        yield 1
        recorder("engine ends")
        raise OSError("engine failed")

    dm.register_app_resources(pg=pg, engine=engine)

    async def scenario() -> None:
        assert (dm.engine, await dm.pg) == (1, 1)
        with pytest.raises(OSError, match="pg failed") as caught:
            await dm.aclose()
        assert any("engine failed" in note for note in caught.value.__notes__)

    asyncio.run(scenario())
    assert recorder == ["pg ends", "engine ends"]
    assert dm.engine == 1
    with pytest.raises(OSError, match="engine failed"):
        dm.close()


async def test_a_cycle(drive: Any) -> None:
    """Is an error that names it."""
    dm = DataManager()

    def egg(data_manager: Any) -> Iterator[Any]:
        yield data_manager.hen

    def hen(data_manager: Any) -> Iterator[Any]:
        yield data_manager.egg

    dm.register_app_resources(egg=egg, hen=hen)
    with pytest.raises(ResourceCycleError):
        _ = dm.egg


async def test_through_a_context_that_is_not_open(drive: Any) -> None:
    """The context's rules hold for its attributes; the manager needs no context."""
    dm = DataManager()
    dm.register_app_resources(engine=ValueResource(1))
    ctx = dm.context()
    with pytest.raises(NoActiveContextError):
        _ = ctx.engine
    async with drive.block(ctx):
        assert ctx.engine == 1
    with pytest.raises(ContextClosedError):
        _ = ctx.engine
    assert dm.engine == 1


async def test_while_a_context_closes(drive: Any) -> None:
    """What unwinds may still use them."""
    dm = DataManager()
    seen: list[int] = []
    dm.register_app_resources(engine=ValueResource(1))

    @dm.context_middleware
    def watching(context: Any) -> Iterator[None]:
        yield
        seen.append(context.engine)

    async with drive.block(dm.context()):
        pass
    assert seen == [1]


# --- Async ones ----------------------------------------------------------------------------------------------------


def pools() -> tuple[DataManager[Any, Any], list[str]]:
    dm = DataManager()
    events: list[str] = []

    async def pool(data_manager: Any) -> AsyncIterator[object]:
        events.append("opens")
        yield object()
        events.append("ends")

    dm.register_app_resources(pool=pool, made=contextlib.asynccontextmanager(pool))
    return dm, events


@pytest.mark.parametrize("run", [asyncio.run, lambda coroutine: trio.run(lambda: coroutine)], ids=["asyncio", "trio"])
@pytest.mark.parametrize("name", ["pool", "made"])
def test_one_per_event_loop(run: Any, name: str) -> None:
    """Async ones belong to their loop; another loop opens its own."""
    dm, events = pools()
    values = []

    async def scenario() -> None:
        values.append(await getattr(dm, name))
        async with dm.context() as ctx:
            assert await getattr(ctx, name) is values[-1]
        await dm.aclose()

    run(scenario())
    run(scenario())
    assert values[0] is not values[1]
    assert events == ["opens", "ends"] * 2


@pytest.mark.parametrize("name", ["pool", "made"])
def test_without_a_loop(name: str) -> None:
    """An async one cannot be opened: said before it runs."""
    dm, events = pools()
    with pytest.raises(AsyncResourceError):
        getattr(dm, name)
    with dm.context() as ctx, pytest.raises(AsyncResourceError):
        getattr(ctx, name)
    assert events == []


@pytest.mark.parametrize("name", ["pool", "made"])
def test_in_another_thread(name: str) -> None:
    """Neither from a sync endpoint's thread."""
    dm, events = pools()

    async def scenario() -> None:
        async with dm.context() as ctx:
            await getattr(ctx, name)
            with pytest.raises(AsyncResourceError):
                await asyncio.to_thread(getattr, ctx, name)
        await dm.aclose()

    asyncio.run(scenario())
    assert events == ["opens", "ends"]


def test_sync_close_with_async_ones_open(recorder: Any) -> None:
    """The sync ones are closed; the error says what closes the others."""
    dm, events = pools()
    dm.register_app_resources(engine=recorder.part("engine"))

    async def scenario() -> None:
        await dm.pool
        assert dm.engine == "engine"
        with pytest.raises(AsyncResourceError, match=r"^async resources of the application .*await dm\.aclose\(\)"):
            dm.close()
        assert recorder[-1] == "engine ends"
        await dm.aclose()

    asyncio.run(scenario())
    assert events == ["opens", "ends"]


@pytest.mark.parametrize("loaded", [True, False], ids=["trio loaded", "trio not loaded"])
def test_aclose_without_a_loop(monkeypatch: pytest.MonkeyPatch, loaded: bool) -> None:
    """Says that it needs one."""
    if not loaded:
        monkeypatch.delitem(sys.modules, "trio")
    with pytest.raises(AsyncResourceError, match="^closing the application's resources needs a running event loop"):
        DataManager().aclose().send(None)


def test_opened_once_under_gather() -> None:
    """However many tasks touch it at once."""
    dm = DataManager()
    opened: list[int] = []

    async def pool(data_manager: Any) -> AsyncIterator[int]:
        opened.append(1)
        await asyncio.sleep(0)
        yield 1

    dm.register_app_resources(pool=pool)

    async def scenario() -> None:
        assert await asyncio.gather(*(dm.pool for _ in range(5))) == [1] * 5
        await dm.aclose()

    asyncio.run(scenario())
    assert opened == [1]


AT_EXIT = """
from polydatum import DataManager

def engine(manager):
    yield "engine"
    print("closed")

def broken(manager):
    yield "broken"
    raise OSError("no disk")

dm = DataManager()
dm.register_app_resources(engine=engine, broken=broken)
dm.engine, dm.broken
print("ends")
"""


def test_what_is_open_is_closed_at_exit() -> None:
    """WSGI tells nobody that the application ends. An error there is logged, and spares the others."""
    ended = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, check=True)
    assert ended.stdout == "ends\nclosed\n"
    assert "closing the application's resources at exit" in ended.stderr
    assert "OSError: no disk" in ended.stderr


def test_closing_at_exit_takes_all_managers(recorder: Any, caplog: pytest.LogCaptureFixture) -> None:
    first, second = DataManager[Any, Any](), DataManager[Any, Any]()

    def broken(manager: Any) -> Iterator[None]:
        yield
        raise OSError("no disk")

    first.register_app_resources(engine=broken)
    second.register_app_resources(engine=recorder.part("engine"))
    assert (first.engine, second.engine) == (None, "engine")
    close_at_exit()
    assert recorder == ["engine opens", "engine commits", "engine ends"]
    assert "closing the application's resources at exit" in caplog.text
