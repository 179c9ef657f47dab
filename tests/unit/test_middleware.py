"""Context middleware of every shape, and method middleware in both spellings."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from polydatum import (
    Call,
    ConfigurationError,
    DataAccessLayer,
    DataManager,
    InvalidMiddlewareError,
    MiddlewareSetupError,
    Service,
    YieldedTwiceError,
)

# --- Around a context ----------------------------------------------------------------------------------------------


async def test_context_middleware_nests(drive: Any, recorder: Any) -> None:
    """Set up in order, the first outermost; unwound in reverse, before the resources close."""
    dm = DataManager()
    dm.register_context_middleware(drive.part(recorder.part("outer")), drive.part(recorder.part("inner")))
    dm.register_resources(db=drive.part(recorder.part("db")))
    async with drive.block(dm.context()) as ctx:
        await drive.value(ctx.db)
    assert recorder == [
        *("outer opens", "inner opens", "db opens"),
        *("inner commits", "inner ends", "outer commits", "outer ends", "db commits", "db ends"),
    ]


async def test_context_middleware_sees_the_error(drive: Any, recorder: Any) -> None:
    """What the body raised is thrown in, the innermost first, and raised to the caller."""
    dm = DataManager()
    dm.register_context_middleware(drive.part(recorder.part("outer")), drive.part(recorder.part("inner")))
    with pytest.raises(KeyError, match="lost") as caught:
        async with drive.block(dm.context()) as ctx:
            raise KeyError("lost")
    assert recorder[2:] == ["inner sees KeyError", "inner ends", "outer sees KeyError", "outer ends"]
    assert ctx.outcome == "rolled_back"
    assert ctx.outcome.suppressed is None
    assert getattr(caught.value, "__notes__", []) == []


async def test_context_middleware_may_touch_resources(drive: Any, recorder: Any) -> None:
    """Before its yield and after it; what it opens closes after it."""
    dm = DataManager()
    dm.register_resources(db=recorder.part("db"), late=recorder.part("late"))

    @dm.context_middleware
    def transaction(context: Any) -> Iterator[None]:
        recorder(f"with {context.db}")
        yield
        recorder(f"then {context.late}, {context.db}")

    async with drive.block(dm.context()):
        pass
    assert recorder == [
        *("db opens", "with db", "late opens", "then late, db"),
        *("late commits", "late ends", "db commits", "db ends"),
    ]


def _shapes(recorder: Any, drive: Any) -> dict[str, Any]:
    class Callee:
        """An object whose ``__call__`` is a generator."""

        def __call__(self, context: Any) -> Iterator[None]:
            yield from recorder.part("mw")(context)

    class Methods:
        def bound(self, context: Any) -> Iterator[None]:
            yield from recorder.part("mw")(context)

    class Manager:
        """A class as factory: its instances are context managers."""

        def __init__(self, context: Any) -> None:
            recorder("mw opens")

        def __enter__(self) -> None:
            pass

        def __exit__(self, kind: Any, error: Any, tb: Any) -> None:
            recorder("mw commits" if kind is None else f"mw sees {kind.__name__}")
            recorder("mw ends")

    def partly(prefix: str, context: Any) -> Iterator[None]:
        yield from recorder.part(prefix)(context)

    shapes: dict[str, Any] = {
        "generator function": recorder.part("mw"),
        "callable object": Callee(),
        "bound method": Methods().bound,
        "partial": functools.partial(partly, "mw"),
        "contextmanager": contextlib.contextmanager(recorder.part("mw")),
        "class": Manager,
        "partial of a contextmanager": functools.partial(contextlib.contextmanager(partly), "mw"),
        "lambda": lambda context: contextlib.contextmanager(recorder.part("mw"))(context),
    }
    if drive.has_async_parts:

        class AsyncCallee:
            def __call__(self, context: Any) -> AsyncIterator[None]:
                return drive.part(recorder.part("mw"))(context)  # type: ignore[no-any-return]

        async def plain(context: Any) -> AsyncIterator[None]:
            inner = drive.part(recorder.part("mw"))(context)
            await anext(inner)
            try:
                yield
            except BaseException as error:
                with contextlib.suppress(StopAsyncIteration):
                    await inner.athrow(error)
                raise
            else:
                await anext(inner, None)

        shapes |= {
            "async generator function": plain,
            "asynccontextmanager": contextlib.asynccontextmanager(plain),
        }
    return shapes


@pytest.mark.parametrize(
    "shape",
    [
        "generator function",
        "callable object",
        "bound method",
        "partial",
        "contextmanager",
        "class",
        "partial of a contextmanager",
        "lambda",
        "async generator function",
        "asynccontextmanager",
    ],
)
async def test_shapes_of_context_middleware(drive: Any, recorder: Any, shape: str) -> None:
    """The same shapes as resources, always set up; sync and async ones may be mixed in an async context."""
    shapes = _shapes(recorder, drive)
    if shape not in shapes:
        return
    dm = DataManager()
    dm.register_context_middleware(shapes[shape])
    async with drive.block(dm.context()):
        assert recorder == ["mw opens"]
    assert recorder == ["mw opens", "mw commits", "mw ends"]
    recorder.clear()
    with pytest.raises(OSError):
        async with drive.block(dm.context()):
            raise OSError
    assert recorder == ["mw opens", "mw sees OSError", "mw ends"]


async def test_an_object_for_both_modes(drive: Any, recorder: Any) -> None:
    """A context manager that is sync and async follows the mode of the context."""

    class Both:
        def __init__(self, context: Any) -> None:
            pass

        def __enter__(self) -> None:
            recorder("sync")

        def __exit__(self, *raised: object) -> None:
            pass

        async def __aenter__(self) -> None:
            recorder("async")

        async def __aexit__(self, *raised: object) -> None:
            pass

    dm = DataManager()
    dm.register_context_middleware(Both)
    async with drive.block(dm.context()):
        pass
    assert recorder == ["async" if drive.is_async else "sync"]


async def test_suppression(drive: Any, recorder: Any) -> None:
    """Swallowing changes what the caller sees: everything unwound afterwards still rolls back."""
    dm = DataManager()
    dm.register_resources(db=drive.part(recorder.part("db")))

    def forgiving(context: Any) -> Iterator[None]:
        try:
            yield
        except ValueError:
            pass

    dm.register_context_middleware(drive.part(recorder.part("outer")), drive.part(forgiving))
    error = ValueError("forgiven")
    async with drive.block(dm.context()) as ctx:
        await drive.value(ctx.db)
        raise error
    assert recorder[2:] == ["outer sees RolledBack", "outer ends", "db sees RolledBack", "db ends"]
    assert ctx.outcome == "rolled_back"
    assert ctx.outcome.suppressed is error
    assert ctx.outcome.reason.startswith("suppressed by context middleware")
    assert [record.type for record in ctx.outcome.errors] == [ValueError]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_interrupts_cannot_be_suppressed(drive: Any, error: type[BaseException]) -> None:
    """Nor replaced."""
    dm = DataManager()

    def swallowing(context: Any) -> Iterator[None]:
        try:
            yield
        except BaseException:
            pass

    def replacing(context: Any) -> Iterator[None]:
        try:
            yield
        except BaseException:
            raise ValueError from None

    dm.register_context_middleware(drive.part(swallowing), drive.part(replacing))
    raised = error("stop")
    with pytest.raises(error) as caught:
        async with drive.block(dm.context()) as ctx:
            raise raised
    assert caught.value is raised
    assert ctx.outcome.suppressed is None
    assert ctx.outcome == "rolled_back"


async def test_replacing_the_error(drive: Any, recorder: Any) -> None:
    """What a middleware raises is raised instead, with the former error as its context and both in the outcome."""
    dm = DataManager()
    dm.register_resources(db=drive.part(recorder.part("db")))

    def translating(context: Any) -> Iterator[None]:
        try:
            yield
        except LookupError:
            raise ValueError("translated")  # noqa: B904 - the implicit context is what is tested

    dm.register_context_middleware(drive.part(translating))
    with pytest.raises(ValueError, match="translated") as caught:
        async with drive.block(dm.context()) as ctx:
            await drive.value(ctx.db)
            raise LookupError("original")
    assert isinstance(caught.value.__context__, LookupError)
    (note,) = caught.value.__notes__
    assert note.startswith("while unwinding context middleware")
    assert "translating" in note
    assert [record.type for record in ctx.outcome.errors] == [LookupError, ValueError]
    assert recorder[-2:] == ["db sees ValueError", "db ends"]


async def test_error_after_a_clean_yield(drive: Any, recorder: Any) -> None:
    """It is raised to the caller, and everything still to come rolls back."""
    dm = DataManager()
    dm.register_resources(db=drive.part(recorder.part("db")))

    def failing(context: Any) -> Iterator[None]:
        yield
        raise OSError("disk full")

    dm.register_context_middleware(drive.part(recorder.part("outer")), drive.part(failing))
    with pytest.raises(OSError, match="disk full"):
        async with drive.block(dm.context()) as ctx:
            await drive.value(ctx.db)
    assert recorder[2:] == ["outer sees OSError", "outer ends", "db sees OSError", "db ends"]
    assert ctx.outcome == "rolled_back"


async def test_failing_set_up(drive: Any, recorder: Any) -> None:
    """Those already set up are unwound; the error is always raised, even if one of them swallows it."""
    dm = DataManager()
    dm.register_resources(db=recorder.part("db"))

    def swallowing(context: Any) -> Iterator[None]:
        _ = context.db
        try:
            yield
        except Exception:
            recorder("swallowed")

    def failing(context: Any) -> Iterator[None]:
        raise OSError("no network")
        yield

    dm.register_context_middleware(drive.part(swallowing), drive.part(failing), drive.part(recorder.part("never")))
    ctx = dm.context()
    with pytest.raises(OSError, match="no network"):
        await drive.open(ctx)
    assert recorder == ["db opens", "swallowed", "db sees RolledBack", "db ends"]
    assert ctx.state == "closed"
    assert ctx.outcome == "rolled_back"
    assert dm.get_active_context() is None


async def test_no_yield_and_two_yields(drive: Any, recorder: Any) -> None:
    """Both break the protocol: the one at the open, the other at the close."""
    dm, other = DataManager(), DataManager()

    def never(context: Any) -> Iterator[None]:
        return
        yield

    def twice(context: Any) -> Iterator[None]:
        try:
            yield
            yield
        finally:
            recorder("closed")

    dm.register_context_middleware(drive.part(never))
    with pytest.raises(MiddlewareSetupError, match="never' never yielded"):
        await drive.open(dm.context())
    other.register_context_middleware(drive.part(twice))
    with pytest.raises(YieldedTwiceError, match="twice.*more than once"):
        async with drive.block(other.context()) as ctx:
            pass
    assert recorder == ["closed"]
    assert ctx.outcome == "rolled_back"


@pytest.mark.parametrize("shape", ["async generator", "async manager"])
def test_async_middleware_around_a_sync_context(shape: str) -> None:
    """Cannot be: said at the open, with the remedy."""

    async def slow(context: Any) -> AsyncIterator[None]:
        yield

    dm = DataManager()
    dm.register_context_middleware(slow if shape == "async generator" else contextlib.asynccontextmanager(slow))
    with pytest.raises(InvalidMiddlewareError, match="cannot surround a sync context"):
        dm.context().open()


async def coroutine_function(context: Any) -> None: ...


@pytest.mark.parametrize("given", [3, "text", None, coroutine_function])
def test_what_is_no_context_middleware(given: Any) -> None:
    """Refused when it is registered."""
    with pytest.raises(InvalidMiddlewareError, match="a generator function, or a context-manager factory"):
        DataManager().register_context_middleware(given)


async def test_a_callable_that_gives_no_manager(drive: Any) -> None:
    """Seen when it is called, at the open; a transactional object is none either."""

    class Transaction:
        kind = "authority"

        def prepare(self) -> None: ...

        commit = rollback = close = prepare

    def nothing(context: Any) -> None: ...

    for factory, said in ((nothing, "NoneType"), (lambda context: Transaction(), "Transaction")):
        dm = DataManager()
        dm.register_context_middleware(factory)
        with pytest.raises(InvalidMiddlewareError, match=f"returned a {said}, which is not a context manager"):
            await drive.open(dm.context())


# --- Around a call -------------------------------------------------------------------------------------------------


def shop(drive: Any, recorder: Any, *middleware: Any) -> DataManager[Any, Any]:
    """A manager with one service, whose methods are sync or async as the drive wants."""

    def get(self: Any, id: int = 0, *, loud: bool = False) -> str:
        recorder("get")
        return f"item {id}" + "!" * loud

    def fail(self: Any) -> None:
        recorder("fail")
        raise KeyError("lost")

    def other(self: Any) -> Any:
        return self.get(1)

    def through_dal(self: Any) -> Any:
        return self._dal.items.get(2)

    class Items(Service):
        pass

    for method in (get, fail, other, through_dal):
        setattr(Items, method.__name__, drive.function(method))
    dm = DataManager()
    dm.register_services(items=Items().register_services(nested=Items()))
    dm.register_method_middleware(*middleware)
    return dm


def logging_middleware(recorder: Any, name: str) -> Callable[..., Any]:
    def middleware(call: Call) -> Any:
        recorder(f"{name} before {call.path}")
        result = yield
        recorder(f"{name} after {result}")
        return result

    return middleware


def fast_form(drive: Any, fn: Callable[[Call, Callable[[Call], Any]], Any]) -> Any:
    """A middleware of the fast form; ``fn`` gets a ``proceed`` whose result it must pass on as it is."""
    if not drive.has_async_parts:
        return fn

    async def middleware(call: Call, proceed: Any) -> Any:
        return await drive.value(fn(call, proceed))

    return middleware


async def test_method_middleware_nests(drive: Any, recorder: Any) -> None:
    """The first registered is outermost; nested services are surrounded, too."""
    dm = shop(drive, recorder, logging_middleware(recorder, "a"), logging_middleware(recorder, "b"))
    async with drive.block(dm.dal()) as dal:
        assert await drive.value(dal.items.get(5, loud=True)) == "item 5!"
        assert recorder == [
            *("a before items.get", "b before items.get", "get", "b after item 5!", "a after item 5!"),
        ]
        recorder.clear()
        await drive.value(dal.items.nested.get())
        assert recorder[0] == "a before items.nested.get"
        recorder.clear()
        await drive.value(dal["items.get"](1))
        assert recorder[:2] == ["a before items.get", "b before items.get"]


async def test_a_call_says_what_it_is(drive: Any, recorder: Any) -> None:
    """Context, path, positional and keyword arguments; its repr holds no argument."""
    calls: list[Call] = []

    def watching(call: Call) -> Any:
        calls.append(call)
        return (yield)

    dm = shop(drive, recorder, watching)
    async with drive.block(dm.context()) as ctx:
        await drive.value(ctx.dal.items.get(7, loud=False))
    (call,) = calls
    assert isinstance(call, Call)
    assert (call.context, call.path, call.args, call.kwargs) == (ctx, "items.get", (7,), {"loud": False})
    assert repr(call) == "<Call items.get>"


async def test_changed_arguments_count(drive: Any, recorder: Any) -> None:
    """In both spellings."""

    def changing(call: Call) -> Any:
        call.args = (*call.args, 1)[-1:]
        return (yield)

    def fast(call: Call, proceed: Any) -> Any:
        call.args = (call.args[0] + 10,)
        call.kwargs = {"loud": True}
        return proceed(call)

    dm = shop(drive, recorder, changing, fast_form(drive, fast))
    async with drive.block(dm.dal()) as dal:
        assert await drive.value(dal.items.get(7)) == "item 11!"


async def test_changed_result(drive: Any, recorder: Any) -> None:
    """What a middleware returns is the result, None included."""

    def shouting(call: Call) -> Any:
        result = yield
        return result.upper()

    def mute(call: Call) -> Any:
        yield

    dm = shop(drive, recorder, shouting)
    async with drive.block(dm.dal()) as dal:
        assert await drive.value(dal.items.get(7)) == "ITEM 7"
    dm.register_method_middleware(mute)
    async with drive.block(dm.dal()) as dal:
        with pytest.raises(AttributeError):
            await drive.value(dal.items.get(7))


async def test_skipping_the_call(drive: Any, recorder: Any) -> None:
    """Returning before the yield, or never proceeding."""

    def cached(call: Call) -> Any:
        if call.args == (1,):
            return "cached"
        return (yield)

    def fast(call: Call, proceed: Any) -> Any:
        return "fast" if call.args == (2,) else proceed(call)

    dm = shop(drive, recorder, cached, fast_form(drive, fast))
    async with drive.block(dm.dal()) as dal:
        assert await drive.value(dal.items.get(1)) == "cached"
        assert await drive.value(dal.items.get(2)) == "fast"
        assert recorder == []
        assert await drive.value(dal.items.get(3)) == "item 3"
    assert recorder == ["get"]


async def test_calling_again(drive: Any, recorder: Any) -> None:
    """Each further yield calls again, after an error or a result, with the arguments of then."""

    def retrying(call: Call) -> Any:
        for attempt in range(2):
            try:
                yield
            except KeyError:
                recorder(f"attempt {attempt} failed")
        call.path = "items.get"
        return "given up"

    def polling(call: Call) -> Any:
        results = []
        for number in range(3):
            call.args = (number,)
            results.append((yield))
        return results

    dm = shop(drive, recorder, retrying)
    async with drive.block(dm.dal()) as dal:
        assert await drive.value(dal.items.fail()) == "given up"
    assert recorder == ["fail", "attempt 0 failed", "fail", "attempt 1 failed"]
    dm = shop(drive, recorder, polling)
    async with drive.block(dm.dal()) as dal:
        assert await drive.value(dal.items.get(9)) == ["item 0", "item 1", "item 2"]


async def test_errors_of_the_method(drive: Any, recorder: Any) -> None:
    """Thrown in at the yield; to rescue, to translate, or to let through unchanged."""

    def rescuing(call: Call) -> Any:
        try:
            return (yield)
        except KeyError:
            return "rescued"

    def translating(call: Call) -> Any:
        try:
            return (yield)
        except KeyError as error:
            raise ValueError("translated") from error

    for middleware, expected in ((rescuing, "rescued"), (translating, ValueError), (None, KeyError)):
        dm = shop(drive, recorder, *filter(None, [logging_middleware(recorder, "a"), middleware]))
        async with drive.block(dm.dal()) as dal:
            if isinstance(expected, str):
                assert await drive.value(dal.items.fail()) == expected
            else:
                with pytest.raises(expected):
                    await drive.value(dal.items.fail())


@pytest.mark.parametrize("error", [StopIteration, RuntimeError, KeyboardInterrupt, GeneratorExit])
async def test_odd_errors_of_the_method(drive: Any, recorder: Any, error: type[BaseException]) -> None:
    """Come out as they went in, a StopIteration that Python wraps included."""
    raised = error("odd")

    class Odd(Service):
        def fail(self) -> None:
            raise raised

    dm = DataManager()
    dm.register_services(odd=Odd())
    dm.register_method_middleware(logging_middleware(recorder, "a"))
    async with drive.block(dm.dal()) as dal:
        with pytest.raises(error) as caught:
            dal.odd.fail()
        assert caught.value is raised


async def test_errors_of_the_middleware(drive: Any, recorder: Any) -> None:
    """Before and after the call; a RuntimeError of its own is not taken for a wrapped one."""

    def failing(call: Call) -> Any:
        if call.args:
            raise OSError("before")
        result = yield
        raise RuntimeError(f"after {result}")

    def failing_in_turn(call: Call) -> Any:
        try:
            yield
        except KeyError:
            raise RuntimeError("in turn")  # noqa: B904 - the implicit context is what is tested

    dm = shop(drive, recorder, failing)
    async with drive.block(dm.dal()) as dal:
        with pytest.raises(OSError, match="before"):
            await drive.value(dal.items.get(1))
        with pytest.raises(RuntimeError, match="after item 0"):
            await drive.value(dal.items.get())
    dm = shop(drive, recorder, failing_in_turn)
    async with drive.block(dm.dal()) as dal:
        with pytest.raises(RuntimeError, match="in turn"):
            await drive.value(dal.items.fail())


async def test_self_other_is_no_dal_call(drive: Any, recorder: Any) -> None:
    """``self.get()`` is a plain call; ``self._dal.items.get()`` goes through the middleware."""
    dm = shop(drive, recorder, logging_middleware(recorder, "a"))
    async with drive.block(dm.dal()) as dal:
        await drive.value(dal.items.other())
        assert [event for event in recorder if "before" in event] == ["a before items.other"]
        recorder.clear()
        await drive.value(dal.items.through_dal())
        assert [event for event in recorder if "before" in event] == [
            "a before items.through_dal",
            "a before items.get",
        ]


class Mixed(Service):
    """Both kinds of method, and iterators of both kinds."""

    def sync(self) -> str:
        return "sync"

    async def later(self) -> str:
        return "async"

    def numbers(self) -> Iterator[int]:
        yield 1
        yield 2

    async def later_numbers(self) -> AsyncIterator[int]:
        yield 1
        yield 2

    @staticmethod
    def static() -> str:
        return "static"

    @classmethod
    def cls(cls) -> str:
        return cls.__name__


class MixedDAL(DataAccessLayer):
    mixed = Mixed()


def test_a_generator_serves_both_kinds_of_method(recorder: Any) -> None:
    """The spelling to teach surrounds sync and async methods of one service alike, static and class methods too."""
    from tests.unit.conftest import ASYNCIO, Drive

    dm = DataManager(MixedDAL)
    dm.register_method_middleware(logging_middleware(recorder, "a"))

    async def scenario() -> None:
        async with dm.dal() as dal:
            assert dal.mixed.sync() == "sync"
            assert await dal.mixed.later() == "async"
            assert dal.mixed.static() == "static"
            assert dal.mixed.cls() == "Mixed"

    Drive(ASYNCIO).run(scenario)
    assert [event for event in recorder if "before" in event] == [
        *("a before mixed.sync", "a before mixed.later", "a before mixed.static", "a before mixed.cls"),
    ]


def test_iterators_are_wrapped_at_creation_only(recorder: Any) -> None:
    """The middleware ends before the first item; errors on the way are not its business."""
    from tests.unit.conftest import ASYNCIO, Drive

    dm = DataManager(MixedDAL)

    @dm.method_middleware
    def watching(call: Call) -> Any:
        recorder("before")
        result = yield
        recorder("after")
        return result

    async def scenario() -> None:
        async with dm.dal() as dal:
            for number in dal.mixed.numbers():
                recorder(f"{number}")
            async for number in dal.mixed.later_numbers():
                recorder(f"{number}")

    Drive(ASYNCIO).run(scenario)
    assert recorder == ["before", "after", "1", "2"] * 2


def sync_form(call: Call, proceed: Any) -> Any:
    return proceed(call)


async def async_form(call: Call, proceed: Any) -> Any:
    return await proceed(call)


@pytest.mark.parametrize(
    ("middleware", "said"),
    [
        (sync_form, "a function cannot surround the async method 'mixed.later'"),
        (async_form, "a coroutine function cannot surround the sync method 'mixed.sync'"),
    ],
)
@pytest.mark.parametrize("start", [lambda dm: dm.context(), lambda dm: dm.dal(), lambda dm: dm.get_dal()])
def test_mismatch(middleware: Any, said: str, start: Any) -> None:
    """The fast form around the other kind of method is an error at the first open, and at every one after it."""
    dm = DataManager(MixedDAL)
    dm.register_method_middleware(middleware)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=said) as caught:
            start(dm)
        assert "generator 'def mw(call)" in str(caught.value)
    assert [problem.code for problem in dm.check()] == ["mismatched-middleware"] * len(dm.check())


class Callee:
    """Objects as method middleware, one for each spelling."""

    def __call__(self, call: Call) -> Any:
        return (yield), "generator"

    def fast(self, call: Call, proceed: Any) -> Any:
        return proceed(call), "fast"


def labelled(label: str, call: Call, proceed: Any) -> Any:
    return proceed(call), label


@pytest.mark.parametrize(
    ("middleware", "label"),
    [
        (Callee(), "generator"),
        (Callee().__call__, "generator"),
        (Callee().fast, "fast"),
        (functools.partial(labelled, "partial"), "partial"),
    ],
)
def test_shapes_of_method_middleware(middleware: Any, label: str) -> None:
    """Callable objects, bound methods and partials."""

    class One(Service):
        def one(self) -> int:
            return 1

    dm = DataManager()
    dm.register_services(one=One())
    dm.register_method_middleware(middleware)
    with dm.dal() as dal:
        assert dal.one.one() == (1, label)


async def async_generator(call: Call) -> AsyncIterator[Any]:
    yield


def no_arguments() -> Any:
    yield


def generator_of_two(call: Call, proceed: Any) -> Any:
    yield


def function_of_one(call: Call) -> Any: ...


@pytest.mark.parametrize(
    ("middleware", "said"),
    [
        (3, "write a plain generator"),
        (async_generator, "write a plain generator.*serves async methods too"),
        (no_arguments, "'def mw.call. with a yield'"),
        (generator_of_two, "'def mw.call. with a yield'"),
        (function_of_one, "'def mw.call, proceed.'"),
    ],
)
def test_what_is_no_method_middleware(middleware: Any, said: str) -> None:
    """Refused when it is registered, with the shape that would do."""
    dm = DataManager()
    with pytest.raises(InvalidMiddlewareError, match=said):
        dm.register_method_middleware(middleware)


def test_a_builtin_is_taken_at_its_word() -> None:
    """A callable without a signature cannot be looked at when it is registered."""
    DataManager().register_method_middleware(type("Odd", (), {"__call__": min})())


def test_methods_that_are_not_plain_functions(recorder: Any) -> None:
    """A method in a decorator such as functools.cache is public, too: no middleware is left out in silence."""

    class Cached(Service):
        @functools.cache  # noqa: B019
        def get(self) -> int:
            return 1

    dm = DataManager()
    dm.register_services(cached=Cached())
    dm.register_method_middleware(logging_middleware(recorder, "a"))
    with dm.dal() as dal:
        assert dal.cached.get() == 1
    assert recorder == ["a before cached.get", "a after 1"]


def test_decorator_gives_the_function_back() -> None:
    """``@dm.method_middleware`` and ``@dm.context_middleware`` leave the name what it was."""
    dm = DataManager()

    def fn(call: Call) -> Any:
        yield

    assert dm.method_middleware(fn) is fn
    assert dm.context_middleware(fn) is fn
