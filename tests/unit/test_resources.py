"""Resources of every kind: opened on first touch, once, and closed with their context."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from polydatum import (
    AsyncResourceError,
    ContextClosedError,
    DataManager,
    InvalidResourceError,
    NoActiveContextError,
    Resource,
    ResourceCycleError,
    ResourceSetupError,
    UnknownResourceError,
    ValueResource,
    YieldedTwiceError,
)

# --- Kinds ---------------------------------------------------------------------------------------------------------


def plainly(part: Callable[[Any], Iterator[Any]]) -> Any:
    """The generator function itself."""
    return part


def callable_object(part: Callable[[Any], Iterator[Any]]) -> Any:
    class Callee:
        def __call__(self, context: Any) -> Iterator[Any]:
            yield from part(context)

    return Callee()


def resource_class(part: Callable[[Any], Iterator[Any]]) -> Any:
    class Pool(Resource):
        def __call__(self, context: Any) -> Any:
            yield from part(context)

    return Pool()


def bound_method(part: Callable[[Any], Iterator[Any]]) -> Any:
    class Pools:
        def db(self, context: Any) -> Iterator[Any]:
            yield from part(context)

    return Pools().db


def partial(part: Callable[[Any], Iterator[Any]]) -> Any:
    def db(first: int, context: Any, *, last: int) -> Iterator[Any]:
        yield from part(context)

    return functools.partial(functools.partial(db, 1), last=2)


def partial_of_an_object(part: Callable[[Any], Iterator[Any]]) -> Any:
    class Callee:
        def __call__(self, first: int, context: Any) -> Iterator[Any]:
            yield from part(context)

    return functools.partial(Callee(), 1)


def context_manager_factory(part: Callable[[Any], Iterator[Any]]) -> Any:
    return contextlib.contextmanager(part)


def function_that_returns_a_manager(part: Callable[[Any], Iterator[Any]]) -> Any:
    return lambda context: contextlib.contextmanager(part)(context)


def class_of_managers(part: Callable[[Any], Iterator[Any]]) -> Any:
    class Connection:
        def __init__(self, context: Any) -> None:
            self.inner = contextlib.contextmanager(part)(context)

        def __enter__(self) -> Any:
            return self.inner.__enter__()

        def __exit__(self, *raised: Any) -> Any:
            return self.inner.__exit__(*raised)

    return Connection


def wrapped_generator(part: Callable[[Any], Iterator[Any]]) -> Any:
    """A decorator made a manager of a generator: judged by what it is, never through ``__wrapped__``."""

    @functools.wraps(part)
    def decorated(context: Any) -> Any:
        return contextlib.contextmanager(part)(context)

    return decorated


SYNC_KINDS = [
    plainly,
    callable_object,
    resource_class,
    bound_method,
    partial,
    partial_of_an_object,
    context_manager_factory,
    function_that_returns_a_manager,
    class_of_managers,
    wrapped_generator,
]


@pytest.mark.parametrize("kind", SYNC_KINDS)
async def test_sync_kinds(drive: Any, recorder: Any, kind: Any) -> None:
    """Opened on first touch, one value for the whole context, closed at its end; in every context anew."""
    dm = DataManager()
    dm.register_resources(db=kind(recorder.part("db")))
    async with drive.block(dm.context()) as ctx:
        assert recorder == []
        assert "db" not in ctx
        assert ctx.db == "db"
        assert ctx.db is ctx.db
        assert "db" in ctx
        assert recorder == ["db opens"]
    assert recorder == ["db opens", "db commits", "db ends"]
    assert "db" not in ctx
    recorder.clear()
    with pytest.raises(OSError):
        async with drive.block(dm.context()) as ctx:
            assert ctx.db == "db"
            raise OSError
    assert recorder == ["db opens", "db sees OSError", "db ends"]


def async_kinds(recorder: Any) -> dict[str, Any]:
    async def generator(context: Any) -> AsyncIterator[Any]:
        recorder("db opens")
        try:
            yield "db"
        except BaseException as error:
            recorder(f"db sees {type(error).__name__}")
            raise
        else:
            recorder("db commits")
        finally:
            recorder("db ends")

    class Callee:
        async def __call__(self, context: Any) -> AsyncIterator[Any]:
            async for value in generator(context):
                try:
                    yield value
                except BaseException as error:
                    recorder(f"db sees {type(error).__name__}")
                    raise

    class Methods:
        manager = contextlib.asynccontextmanager(generator)

        def db(self, context: Any) -> Any:
            return Methods.manager(context)

    class Connection:
        def __init__(self, context: Any) -> None:
            self.inner = contextlib.asynccontextmanager(generator)(context)

        async def __aenter__(self) -> Any:
            return await self.inner.__aenter__()

        async def __aexit__(self, *raised: Any) -> Any:
            return await self.inner.__aexit__(*raised)

    return {
        "generator": generator,
        "partial": functools.partial(lambda first, context: contextlib.asynccontextmanager(generator)(context), 1),
        "factory": contextlib.asynccontextmanager(generator),
        "bound method": Methods().db,
        "class": Connection,
    }


@pytest.mark.parametrize("kind", ["generator", "partial", "factory", "bound method", "class"])
async def test_async_kinds(drive: Any, recorder: Any, kind: str) -> None:
    """The name gives an awaitable, opened or not; in a sync context an error that names the fix, before it runs."""
    dm = DataManager()
    dm.register_resources(db=async_kinds(recorder)[kind])
    if not drive.is_async:
        with dm.context() as ctx:
            with pytest.raises(AsyncResourceError, match="'db' cannot be opened in a sync context; use 'async with"):
                _ = ctx.db
            assert "db" not in ctx
        assert recorder == []
        return
    async with drive.block(dm.context()) as ctx:
        touch = ctx.db
        assert recorder == []
        assert "db" not in ctx
        assert await touch == "db"
        assert await ctx.db == await touch == await ctx.db == "db"
        assert "db" in ctx
        assert repr(ctx.db) == "<async resource 'db': await it>"
    assert recorder == ["db opens", "db commits", "db ends"]
    recorder.clear()
    with pytest.raises(OSError):
        async with drive.block(dm.context()) as ctx:
            await ctx.db
            raise OSError
    assert recorder == ["db opens", "db sees OSError", "db ends"]
    with pytest.raises(ContextClosedError):
        await touch


def test_async_callable_object(recorder: Any) -> None:
    """An object whose ``__call__`` is an async generator function."""

    class Callee:
        async def __call__(self, context: Any) -> AsyncIterator[str]:
            recorder("opens")
            yield "db"
            recorder("ends")

    dm = DataManager()
    dm.register_resources(db=Callee(), other=functools.partial(Callee()))

    async def scenario() -> None:
        async with dm.context() as ctx:
            assert (await ctx.db, await ctx.other) == ("db", "db")

    asyncio.run(scenario())
    assert recorder == ["opens", "opens", "ends", "ends"]


async def test_value_resource(drive: Any) -> None:
    """The same object in every context, a callable or None as well; never closed."""
    value = lambda context: 1 / 0  # noqa: E731
    dm = DataManager()
    dm.register_resources(fn=ValueResource(value), none=ValueResource(None))
    for _ in range(2):
        async with drive.block(dm.context()) as ctx:
            assert ctx.fn is value
            assert ctx.none is None
            assert "none" in ctx


async def test_subclass_of_value_resource(drive: Any, recorder: Any) -> None:
    """Is opened by its own ``__call__``."""

    class Noted(ValueResource):
        def __call__(self, context: Any) -> Any:
            recorder("opens")
            yield from super().__call__(context)

    dm = DataManager()
    dm.register_resources(rate=Noted(0.2))
    async with drive.block(dm.context()) as ctx:
        assert ctx.rate == 0.2
    assert recorder == ["opens"]


async def test_a_manager_of_both_kinds(drive: Any, recorder: Any) -> None:
    """Follows the mode of the context."""

    class Both:
        def __init__(self, context: Any) -> None:
            pass

        def __enter__(self) -> str:
            return "sync"

        def __exit__(self, *raised: object) -> None:
            recorder("sync exit")

        async def __aenter__(self) -> str:
            return "async"

        async def __aexit__(self, *raised: object) -> None:
            recorder("async exit")

    dm = DataManager()
    dm.register_resources(db=Both)
    mode = "async" if drive.is_async else "sync"
    async with drive.block(dm.context()) as ctx:
        assert await drive.value(ctx.db) == mode
    assert recorder == [f"{mode} exit"]


def test_resource_without_a_call() -> None:
    """The base class only gives the shape a name."""
    dm = DataManager()
    dm.register_resources(db=Resource())
    with dm.context() as ctx, pytest.raises(NotImplementedError, match="Resource has to define __call__"):
        _ = ctx.db


@pytest.mark.parametrize("given", [3, "postgresql://localhost", None, object(), {}])
def test_a_ready_value_is_no_resource(given: Any) -> None:
    """Refused when it is registered, and ValueResource named as the remedy."""
    dm = DataManager()
    with pytest.raises(
        InvalidResourceError, match=r"resource 'db': an object of type .* wrap a ready value in ValueResource\("
    ):
        dm.register_resources(db=given)
    with pytest.raises(InvalidResourceError, match="ValueResource"):
        dm.register_app_resources(db=given)
    with pytest.raises(UnknownResourceError):
        dm.get_resource("db")


def test_a_coroutine_function_is_no_resource() -> None:
    """It would have no teardown; an async generator is the remedy."""

    async def db(context: Any) -> int:
        return 1

    with pytest.raises(InvalidResourceError, match="write an async generator that yields"):
        DataManager().register_resources(db=db)


@pytest.mark.parametrize("made", [3, None, object()])
async def test_a_callable_that_makes_nothing_to_close(drive: Any, made: Any) -> None:
    """Any callable is called on touch and judged by what it made; ValueResource named as a remedy."""
    dm = DataManager()
    dm.register_resources(db=lambda context: made)
    async with drive.block(dm.context()) as ctx:
        with pytest.raises(
            InvalidResourceError, match="it returned an object of type .*which is not a context manager.*ValueResource"
        ):
            _ = ctx.db
        assert "db" not in ctx


# --- Opening -------------------------------------------------------------------------------------------------------


async def test_the_context_is_the_argument(drive: Any) -> None:
    """So that a resource may read meta and touch other resources."""
    dm = DataManager()
    given = []

    def tenant(context: Any) -> Iterator[str]:
        given.append(context)
        yield f"tenant of {context.meta.user}"

    dm.register_resources(tenant=tenant)
    async with drive.block(dm.context({"user": "ann"})) as ctx:
        assert ctx.tenant == "tenant of ann"
    assert given == [ctx]


async def test_dependencies_close_last(drive: Any, recorder: Any) -> None:
    """Order of opening is the order in which opens completed; closing is its reverse."""
    dm = DataManager()
    dm.register_resources(pool=drive.part(recorder.part("pool")))
    if drive.has_async_parts:

        async def conn(context: Any) -> AsyncIterator[str]:
            recorder("conn starts")
            yield f"conn of {await context.pool}"
            recorder("conn ends")

    else:

        def conn(context: Any) -> Iterator[str]:  # type: ignore[misc]
            recorder("conn starts")
            yield f"conn of {context.pool}"
            recorder("conn ends")

    dm.register_resources(conn=conn)
    async with drive.block(dm.context()) as ctx:
        assert await drive.value(ctx.conn) == "conn of pool"
    assert recorder == ["conn starts", "pool opens", "conn ends", "pool commits", "pool ends"]


async def test_a_failed_open_leaves_nothing_behind(drive: Any, recorder: Any) -> None:
    """Its error reaches its own caller unwrapped; the next touch opens anew."""
    dm = DataManager()
    failures = [OSError("no network"), None]

    def flaky(context: Any) -> Iterator[str]:
        failure = failures.pop(0)
        if failure is not None:
            raise failure
        yield "up"
        recorder("closed")

    dm.register_resources(flaky=drive.part(flaky))
    async with drive.block(dm.context()) as ctx:
        with pytest.raises(OSError, match="no network") as caught:
            await drive.value(ctx.flaky)
        assert not hasattr(caught.value, "__notes__")
        assert "flaky" not in ctx
        assert await drive.value(ctx.flaky) == "up"
    assert recorder == ["closed"]
    assert ctx.outcome == "committed"


@pytest.mark.parametrize("kind", ["generator", "manager"])
async def test_no_yield(drive: Any, kind: str) -> None:
    """A generator that ends without a value is said to have done so."""

    def never(context: Any) -> Iterator[Any]:
        return
        yield

    dm = DataManager()
    dm.register_resources(never=drive.part(never) if kind == "generator" else contextlib.contextmanager(never))
    async with drive.block(dm.context()) as ctx:
        with pytest.raises((ResourceSetupError, RuntimeError), match="never.* never yielded|didn't yield"):
            await drive.value(ctx.never)
        assert "never" not in ctx


async def test_two_yields(drive: Any, recorder: Any) -> None:
    """A RuntimeError, on the way to a commit and on the way to a rollback; the generator is closed all the same."""

    def twice(context: Any) -> Iterator[int]:
        try:
            try:
                yield 1
            except OSError:
                pass
            yield 2
        finally:
            recorder("closed")

    dm = DataManager()
    dm.register_resources(twice=drive.part(twice))
    with pytest.raises(YieldedTwiceError, match="twice.*yielded more than once"):
        async with drive.block(dm.context()) as ctx:
            await drive.value(ctx.twice)
    with pytest.raises(OSError) as caught:
        async with drive.block(dm.context()) as other:
            await drive.value(other.twice)
            raise OSError
    assert issubclass(YieldedTwiceError, RuntimeError)
    assert "YieldedTwiceError" in caught.value.__notes__[0]
    with pytest.raises(YieldedTwiceError):
        async with drive.block(dm.context()) as third:
            await drive.value(third.twice)
            third.on_commit(print)  # so that the close goes by the policy in full
    assert recorder == ["closed"] * 3
    assert ctx.outcome == other.outcome == third.outcome == "rolled_back"


async def test_a_resource_that_needs_itself(drive: Any) -> None:
    """A loop is an error that names it, never a deadlock."""
    dm = DataManager()
    if drive.has_async_parts:

        async def egg(context: Any) -> AsyncIterator[Any]:
            yield await context.hen

        async def hen(context: Any) -> AsyncIterator[Any]:
            yield await context.egg

    else:

        def egg(context: Any) -> Iterator[Any]:  # type: ignore[misc]
            yield context.hen

        def hen(context: Any) -> Iterator[Any]:  # type: ignore[misc]
            yield context.egg

    dm.register_resources(egg=egg, hen=hen)
    async with drive.block(dm.context()) as ctx:
        with pytest.raises(ResourceCycleError, match="egg.*hen|hen.*egg") as caught:
            await drive.value(ctx.egg)
        assert set(caught.value.names) == {"egg", "hen"}
        assert "egg" not in ctx


async def test_before_the_open_and_after_the_close(drive: Any, recorder: Any) -> None:
    """Touching is an error that says what is wrong; after the close it says how it ended."""
    dm = DataManager()
    dm.register_resources(db=drive.part(recorder.part("db")), value=ValueResource(1), other=recorder.part("other"))
    ctx = dm.context()
    for name in ("db", "value", "other"):
        with pytest.raises(NoActiveContextError, match=f"'{name}', in a context that is not open yet"):
            await drive.value(getattr(ctx, name))
    await drive.open(ctx)
    await drive.value(ctx.db)
    assert ctx.value == 1
    await drive.close(ctx, status=404)
    for name in ("db", "value", "other"):
        with pytest.raises(ContextClosedError, match="status 404, outcome rolled_back") as caught:
            await drive.value(getattr(ctx, name))
        assert (caught.value.wanted, caught.value.status, caught.value.outcome) == (name, 404, "rolled_back")


async def test_late_touch_while_closing(drive: Any, recorder: Any) -> None:
    """A sync resource's cached value is gone once it closes; new ones may open until the first prepare only."""
    dm = DataManager()

    def first(context: Any) -> Iterator[str]:
        yield "first"
        for name in ("second", "third"):
            try:
                getattr(context, name)
            except ContextClosedError as error:
                recorder(f"{name}: {error.state}")

    dm.register_resources(first=first, second=recorder.part("second"), third=recorder.part("third"))
    async with drive.block(dm.context()) as ctx:
        assert (ctx.first, ctx.second) == ("first", "second")
    assert recorder == ["second opens", "second commits", "second ends", "second: closing", "third: closing"]


async def test_unknown_resource(drive: Any) -> None:
    """An attribute of a context that is no resource is an AttributeError."""
    dm = DataManager()
    async with drive.block(dm.context()) as ctx:
        assert not hasattr(ctx, "nothing")
        assert "nothing" not in ctx
        assert 3 not in ctx


@pytest.mark.parametrize("by_policy", [False, True])
async def test_an_unknown_resource_that_ends_the_context_is_told_from_those_there_are(
    drive: Any, by_policy: bool
) -> None:
    dm = DataManager(rollback_on=(lambda error, status: True) if by_policy else None)
    dm.register_resources(database=ValueResource(1), cache=ValueResource(2))
    with pytest.raises(AttributeError) as raised:
        async with drive.block(dm.context()) as ctx:
            _ = ctx.databsae
    note = "no resource 'databsae' is registered (registered: cache, database); see dm.register_resources()"
    assert raised.value.__notes__ == [note]


async def test_an_attribute_error_of_something_else_gets_no_such_advice(drive: Any) -> None:
    dm = DataManager()
    dm.register_resources(db=ValueResource(object()))
    with pytest.raises(AttributeError) as raised:
        async with drive.block(dm.context()) as ctx:
            _ = ctx.db.databsae
    assert not hasattr(raised.value, "__notes__")


class Record(dict[str, Any]):
    """A value with attributes from keys, of the careless sort: any other name is a KeyError."""

    __getattr__ = dict.__getitem__


@pytest.mark.parametrize("kind", ["generator", "value", "manager", "async"])
async def test_values_that_refuse_attributes(drive: Any, recorder: Any, kind: str) -> None:
    """A value that raises on unknown attributes is a value like any other, and does not stay half open."""
    record = Record(a=1)
    dm = DataManager()
    dm.register_resources(
        record={
            "generator": recorder.part("record", record),
            "value": ValueResource(record),
            "manager": contextlib.contextmanager(recorder.part("record", record)),
            "async": drive.part(recorder.part("record", record)),
        }[kind]
    )
    ctx = await drive.open(dm.context())
    try:
        assert await drive.value(ctx.record) is record
    finally:
        dm._under_way.clear()  # or the close would wait for ever for an open that has failed
        await drive.close(ctx)
    if kind != "value":
        assert recorder == ["record opens", "record commits", "record ends"]


# --- Closing -------------------------------------------------------------------------------------------------------


async def test_a_failing_close_is_reported(drive: Any, recorder: Any, caplog: Any) -> None:
    """It is raised with a note where it happened, the others still close, and the outcome keeps it."""
    dm = DataManager()

    def failing(context: Any) -> Iterator[str]:
        yield "failing"
        raise OSError("broken pipe")

    dm.register_resources(db=drive.part(recorder.part("db")), failing=drive.part(failing))
    with pytest.raises(OSError, match="broken pipe") as caught:
        async with drive.block(dm.context()) as ctx:
            await drive.value(ctx.db)
            await drive.value(ctx.failing)
    assert caught.value.__notes__ == ["while closing resource 'failing'"]
    assert recorder[1:] == ["db sees OSError", "db ends"]
    assert ctx.outcome == "rolled_back"
    (record,) = ctx.outcome.errors
    assert record == (OSError, "broken pipe", "closing resource 'failing'")
    ((kind, error, traceback),) = ctx.get_resource_exit_errors()
    assert (kind, error) == (OSError, caught.value)
    assert traceback is not None


async def test_a_resource_never_replaces_the_error(drive: Any, recorder: Any, caplog: Any) -> None:
    """Its own is a note on the winner, in the outcome and logged."""
    dm = DataManager()

    def failing(context: Any) -> Iterator[str]:
        try:
            yield "failing"
        finally:
            raise OSError("broken pipe")

    dm.register_resources(failing=drive.part(failing))
    error = KeyError("body")
    with pytest.raises(KeyError) as caught:
        async with drive.block(dm.context()) as ctx:
            await drive.value(ctx.failing)
            raise error
    assert caught.value is error
    assert error.__notes__ == ["while closing resource 'failing': OSError: broken pipe"]
    assert [record.type for record in ctx.outcome.errors] == [KeyError, OSError]
    assert "closing resource 'failing'" in caplog.text


@pytest.mark.parametrize("kind", ["generator", "manager"])
async def test_a_resource_never_suppresses(drive: Any, recorder: Any, kind: str) -> None:
    """What it swallows is raised all the same, and thrown into those that opened before it."""
    dm = DataManager()

    def swallowing(context: Any) -> Iterator[str]:
        try:
            yield "swallowing"
        except KeyError:
            recorder("swallowed")

    factory = drive.part(swallowing)
    if kind == "manager":
        manager = contextlib.asynccontextmanager if drive.has_async_parts else contextlib.contextmanager
        factory = manager(factory)
    dm.register_resources(db=drive.part(recorder.part("db")), swallowing=factory)
    with pytest.raises(KeyError):
        async with drive.block(dm.context()) as ctx:
            await drive.value(ctx.db)
            await drive.value(ctx.swallowing)
            raise KeyError
    assert recorder == ["db opens", "swallowed", "db sees KeyError", "db ends"]
    assert ctx.outcome.suppressed is None


# --- Async resources misused ---------------------------------------------------------------------------------------


def attribute(pg: Any) -> None:
    pg.execute("SELECT 1")


def assignment(pg: Any) -> None:
    pg.autocommit = True


def deletion(pg: Any) -> None:
    del pg.autocommit


def call(pg: Any) -> None:
    pg()


def item(pg: Any) -> None:
    pg["a"]


def set_item(pg: Any) -> None:
    pg["a"] = 1


def delete_item(pg: Any) -> None:
    del pg["a"]


def iteration(pg: Any) -> None:
    list(pg)


def length(pg: Any) -> None:
    len(pg)


def truth(pg: Any) -> None:
    bool(pg)


def membership(pg: Any) -> None:
    _ = 1 in pg


def block(pg: Any) -> None:
    with pg:
        pass


async def async_block(pg: Any) -> None:
    async with pg:
        pass


async def async_iteration(pg: Any) -> None:
    async for _ in pg:
        pass


@pytest.mark.parametrize(
    "use",
    [
        attribute,
        assignment,
        deletion,
        call,
        item,
        set_item,
        delete_item,
        iteration,
        length,
        truth,
        membership,
        block,
        async_block,
        async_iteration,
    ],
)
def test_use_without_await(use: Any) -> None:
    """Any other use of an async resource's name than awaiting it says what to write, opened or not."""

    async def pg(context: Any) -> AsyncIterator[int]:
        yield 1

    dm = DataManager()
    dm.register_resources(pg=pg)

    async def scenario() -> None:
        async with dm.context() as ctx:
            for _ in range(2):
                with pytest.raises(AsyncResourceError, match=r"without await: write 'pg = await self\._ctx\.pg'"):
                    result = use(ctx.pg)
                    if result is not None:
                        await result
                await ctx.pg

    asyncio.run(scenario())


def test_awaitables_go_into_gather() -> None:
    """The name is awaitable wherever an awaitable will do, and opens once."""
    opened = []

    async def pg(context: Any) -> AsyncIterator[int]:
        opened.append(1)
        await asyncio.sleep(0)
        yield 1

    dm = DataManager()
    dm.register_resources(pg=pg)

    async def scenario() -> None:
        async with dm.context() as ctx:
            assert await asyncio.gather(ctx.pg, ctx.pg, asyncio.wait_for(ctx.pg, 5)) == [1, 1, 1]

    asyncio.run(scenario())
    assert opened == [1]


def test_async_resource_in_a_sync_endpoint() -> None:
    """In a thread of the context's there is no loop to await on: the same error, before it runs."""

    async def pg(context: Any) -> AsyncIterator[int]:
        yield 1

    dm = DataManager()
    dm.register_resources(pg=pg, made=contextlib.asynccontextmanager(pg))

    async def scenario() -> None:
        async with dm.context() as ctx:
            for name in ("pg", "made"):
                with pytest.raises(AsyncResourceError, match="sync endpoint.*make the endpoint async"):
                    await asyncio.to_thread(getattr, ctx, name)
            assert await ctx.pg == 1

    asyncio.run(scenario())


async def test_a_callable_is_called_once_per_open(drive: Any, recorder: Any) -> None:
    """Once it is open, its name asks for nothing anew."""
    dm = DataManager()

    def factory(context: Any) -> Any:
        recorder("called")
        part = drive.part(recorder.part("db"))
        return (contextlib.asynccontextmanager if drive.has_async_parts else contextlib.contextmanager)(part)(context)

    dm.register_resources(db=factory)
    async with drive.block(dm.context()) as ctx:
        for _ in range(3):
            assert await drive.value(ctx.db) == "db"
    assert recorder == ["called", "db opens", "db commits", "db ends"]


async def test_a_callable_that_changes_its_mind(drive: Any) -> None:
    """A name is awaitable or not, once it was seen: a callable that makes the one and then the other is refused."""
    if not drive.has_async_parts:
        return
    parts = [contextlib.asynccontextmanager(drive.part(_one)), contextlib.contextmanager(_one), lambda context: 3]
    dm = DataManager()
    dm.register_resources(odd=lambda context: parts.pop(0)(context))
    async with drive.block(dm.context()) as ctx:
        assert await ctx.odd == 1
    for said in ("_GeneratorContextManager", "int"):
        async with drive.block(dm.context()) as ctx:
            with pytest.raises(InvalidResourceError, match=f"async context manager before, now a {said}"):
                await ctx.odd
            assert "odd" not in ctx


def _one(context: Any) -> Iterator[int]:
    yield 1
