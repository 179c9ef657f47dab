"""Life of a Context: created, open, closing, closed; what is current; what its users wish for its end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from polydatum import (
    AsyncResourceError,
    Context,
    ContextClosedError,
    ContextError,
    ContextReusedError,
    DataManager,
    NoActiveContextError,
    Outcome,
    RolledBack,
    Service,
    ValueResource,
)
from polydatum.context import get_active_context
from polydatum.transactions import Transaction


class Who(Service):
    def user(self) -> Any:
        return self._ctx.meta.user

    def tag(self) -> Any:
        return self._ctx.tag


def manager(**options: Any) -> DataManager[Any, Any]:
    dm: DataManager[Any, Any] = DataManager(**options)
    dm.register_services(who=Who())
    dm.register_resources(tag=ValueResource("red"))
    return dm


# --- States --------------------------------------------------------------------------------------------------------


async def test_states(drive: Any) -> None:
    """created, open, closing, closed; the outcome is None before the end."""
    dm = manager()
    states: list[Any] = []

    def watching(context: Any) -> Iterator[None]:
        states.append((context.state, context.outcome))
        yield
        states.append((context.state, context.outcome))

    dm.register_context_middleware(drive.part(watching))
    ctx = dm.context()
    states.append((ctx.state, ctx.outcome))
    assert repr(ctx) == "<Context created>"
    assert await drive.open(ctx) is ctx
    states.append((ctx.state, ctx.outcome))
    outcome = await drive.close(ctx)
    states.append((ctx.state, ctx.outcome))
    assert states == [
        *(("created", None), ("open", None), ("open", None), ("closing", None), ("closed", "committed")),
    ]
    assert outcome is ctx.outcome
    assert isinstance(outcome, Outcome)


async def test_a_context_is_used_once(drive: Any) -> None:
    """Opening it again is an error, while it is open and when it has closed."""
    ctx = manager().context()
    async with drive.block(ctx):
        with pytest.raises(ContextReusedError, match="is open"):
            await drive.open(ctx)
        assert ctx.state == "open"
    for again in (drive.open(ctx), drive.block(ctx).__aenter__()):
        with pytest.raises(ContextReusedError, match="is closed"):
            await again
    assert issubclass(ContextReusedError, RuntimeError)


async def test_closing_what_was_never_opened(drive: Any) -> None:
    """Is an error that says so."""
    ctx = manager().context()
    with pytest.raises(ContextError, match="never opened"):
        await drive.close(ctx)
    assert ctx.state == "created"


def test_each_half_closes_its_own() -> None:
    """open() goes with close(), aopen() with aclose()."""
    dm = manager()
    with dm.context() as ctx, pytest.raises(ContextError, match="call close"):
        asyncio.run(ctx.aclose())

    async def scenario() -> None:
        async with dm.context() as ctx:
            with pytest.raises(ContextError, match=r"await aclose\(\)"):
                ctx.close()
            assert ctx.state == "open"

    asyncio.run(scenario())


async def test_a_second_close(drive: Any) -> None:
    """Gets the same outcome and never raises, whatever it is given."""
    dm = manager()
    ctx = await drive.open(dm.context())
    error = KeyError()
    first = await drive.close(ctx, error)
    assert first == "rolled_back"
    assert await drive.close(ctx) is first
    assert await drive.close(ctx, ValueError(), status=200) is first
    ctx = dm.context()
    async with drive.block(ctx):
        first = await drive.close(ctx, status=201)
        assert dm.get_active_context() is None
    assert ctx.outcome is first


async def test_closing_from_inside_its_own_unwinding(drive: Any) -> None:
    """Would wait for itself for ever: an error."""
    dm = manager()
    dm.register_resources(db=_closing(drive))
    with pytest.raises(ContextError, match="inside its own unwinding"):
        async with drive.block(dm.context()) as ctx:
            await drive.value(ctx.db)
    assert ctx.state == "closed"


def _closing(drive: Any) -> Any:
    if drive.has_async_parts:

        async def aclosing(context: Any) -> Any:
            yield 1
            await context.aclose()

        return aclosing

    def closing(context: Any) -> Iterator[int]:
        yield 1
        context._close(None, None)

    return closing


async def test_close_never_raises_what_it_was_given(drive: Any) -> None:
    """Only a new error; the outcome says what rolled it back."""
    ctx = await drive.open(manager().context())
    outcome = await drive.close(ctx, KeyError("given"), status=500)
    assert outcome == "rolled_back"
    assert (outcome.reason, outcome.http_status, outcome.suppressed) == ("KeyError was raised", 500, None)
    assert outcome.errors == ((KeyError, "'given'", "the body of the context"),)


# --- What is current -----------------------------------------------------------------------------------------------


async def test_current(drive: Any) -> None:
    """One per manager; an inner one is current inside, the outer again afterwards."""
    dm, other = manager(), manager()
    assert dm.get_active_context() is None
    async with drive.block(dm.context({"user": "ann"})) as outer:
        assert dm.get_active_context() is dm.require_active_context() is outer
        assert other.get_active_context() is None
        async with drive.block(dm.context({"user": "bo"})) as inner:
            assert dm.get_active_context() is inner
            assert outer.dal.who.user() == "bo"
        assert dm.get_active_context() is outer
        assert outer.dal.who.user() == "ann"
    assert dm.get_active_context() is None
    with pytest.raises(NoActiveContextError):
        dm.require_active_context()


async def test_the_outer_closes_first(drive: Any) -> None:
    """The inner one stays current, and works; after it nothing is."""
    dm = manager()
    outer = await drive.open(dm.context({"user": "ann"}))
    inner = await drive.open(dm.context({"user": "bo"}))
    await drive.close(outer)
    assert dm.get_active_context() is inner
    assert inner.dal.who.user() == "bo"
    await drive.close(inner)
    assert dm.get_active_context() is None
    outer.leave()


async def test_module_level_active_context(drive: Any) -> None:
    """Of a manager that is named, or of the one that has one; of two it is an error not to say which."""
    dm, other = manager(), manager()
    assert get_active_context() is None
    async with drive.block(dm.context()) as ctx:
        assert get_active_context() is ctx
        assert get_active_context(other) is None
        async with drive.block(other.context()) as second:
            assert get_active_context(dm) is ctx
            assert get_active_context(other) is second
            with pytest.raises(ContextError, match="several DataManagers"):
                get_active_context()


async def test_keep_current(drive: Any) -> None:
    """The closed context stays current and says so; it never falls through to an outer one, until it is left."""
    dm = manager()
    async with drive.block(dm.context({"user": "outer"})) as outer:
        ctx = await drive.open(dm.context({"user": "ann"}))
        assert await drive.close(ctx, status=200, keep_current=True) == "committed"
        assert dm.get_active_context() is None
        with pytest.raises(ContextClosedError, match="status 200, outcome committed"):
            dm.require_active_context()
        with pytest.raises(ContextClosedError, match="cannot use tag"):
            ctx.dal.who.tag()
        with pytest.raises(ContextClosedError):
            _ = dm.tag
        assert ctx.dal.who.user() == "ann"
        for _ in range(2):
            ctx.leave()
            assert dm.get_active_context() is outer
        assert outer.dal.who.tag() == "red"


async def test_a_hint_for_late_use(drive: Any) -> None:
    """An adapter says better than we can what to do instead."""
    dm = manager()
    ctx = await drive.open(dm.context())
    await drive.close(ctx, keep_current=True, late_hint="open a stream_context()")
    for late in (lambda: ctx.tag, lambda: dm.tag, dm.require_active_context):
        with pytest.raises(ContextClosedError, match=r"closed \(outcome committed\); open a stream_context\(\)$"):
            late()
    ctx.leave()


async def test_keep_current_when_the_close_fails(drive: Any) -> None:
    """Nothing changes about that: kept, or left."""
    dm = manager()

    def failing(context: Any) -> Iterator[None]:
        yield
        raise OSError

    dm.register_context_middleware(drive.part(failing))
    for keep in (True, False):
        ctx = await drive.open(dm.context())
        with pytest.raises(OSError):
            await drive.close(ctx, keep_current=keep)
        assert (dm._current() is ctx) is keep
        ctx.leave()
        assert dm._current() is None


async def test_a_kept_context_is_left_by_the_next_one(drive: Any) -> None:
    """Opened by an adapter in the same thread or task: it restores what was current before both."""
    dm = manager()
    first = await drive.open(dm.context())
    await drive.close(first, keep_current=True)
    second = await drive.open(dm.context())
    await drive.close(second)
    assert dm._current() is None


def test_leaving_elsewhere() -> None:
    """leave() in a copied execution context, where the token is foreign, does no harm."""
    dm = manager()
    ctx = dm.context().open()

    async def scenario() -> None:
        ctx.close()
        assert dm.get_active_context() is None
        ctx.leave()
        with pytest.raises(ContextClosedError):
            ctx.dal.who.tag()

    asyncio.run(scenario())
    assert dm._current() is ctx
    ctx.leave()
    assert dm._current() is None


def test_a_block_that_ends_in_another_execution_context() -> None:
    """As a generator that is resumed elsewhere: both halves close, and leave what they can."""
    import contextvars

    dm = manager()
    ctx = dm.context()
    first, second = contextvars.copy_context(), contextvars.copy_context()
    first.run(ctx.__enter__)
    second = first.copy()
    second.run(ctx.__exit__, None, None, None)
    assert ctx.outcome == "committed"
    assert first.run(dm._current) is ctx
    first.run(ctx.leave)
    assert first.run(dm._current) is None

    async def scenario() -> None:
        actx = dm.context()
        await asyncio.create_task(actx.__aenter__(), context=first)
        await asyncio.create_task(actx.__aexit__(None, None, None), context=first.copy())
        assert actx.outcome == "committed"

    asyncio.run(scenario())


# --- Decide --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "status", "expected"),
    [
        (None, None, "committed"),
        (None, 200, "committed"),
        (None, 302, "committed"),
        (None, 399, "committed"),
        (None, 400, "rolled_back"),
        (None, 404, "rolled_back"),
        (None, 500, "rolled_back"),
        (KeyError, None, "rolled_back"),
        (KeyError, 200, "rolled_back"),
        (KeyError, 500, "rolled_back"),
    ],
)
async def test_the_plain_rule(drive: Any, recorder: Any, raised: Any, status: Any, expected: str) -> None:
    """An exception, or a status of 400 or more, rolls back; what is thrown in is the exception, or RolledBack."""
    dm = manager()
    dm.register_resources(db=drive.part(recorder.part("db")))
    ctx = await drive.open(dm.context())
    await drive.value(ctx.db)
    error = None if raised is None else raised()
    outcome = await drive.close(ctx, error, status=status)
    assert outcome == expected
    assert outcome.http_status == status
    if expected == "committed":
        assert outcome.reason is None
        assert outcome.errors == ()
        assert recorder == ["db opens", "db commits", "db ends"]
    else:
        seen = "RolledBack" if raised is None else "KeyError"
        assert recorder == ["db opens", f"db sees {seen}", "db ends"]
        assert outcome.reason == (f"the answer has status {status}" if raised is None else "KeyError was raised")


async def test_set_rollback_only(drive: Any, recorder: Any) -> None:
    """Rolls back with a reason and no exception for the caller; RolledBack carries the reason and the status."""
    dm = manager()
    seen: list[RolledBack] = []

    def db(context: Any) -> Iterator[int]:
        try:
            yield 1
        except RolledBack as veto:
            seen.append(veto)
            raise

    dm.register_resources(db=drive.part(db))
    ctx = await drive.open(dm.context())
    await drive.value(ctx.db)
    ctx.set_rollback_only("a dry run")
    outcome = await drive.close(ctx, status=200)
    assert (outcome, outcome.reason, outcome.suppressed) == ("rolled_back", "a dry run", None)
    (veto,) = seen
    assert (veto.reason, veto.status) == ("a dry run", 200)
    assert veto.__traceback__ is None
    async with drive.block(dm.context()) as ctx:
        ctx.set_rollback_only()
    assert ctx.outcome.reason == "set_rollback_only() was called"


async def test_set_rollback_only_with_an_exception(drive: Any) -> None:
    """The exception is raised, and is the cause."""
    with pytest.raises(KeyError):
        async with drive.block(manager().context()) as ctx:
            ctx.set_rollback_only("a dry run")
            raise KeyError
    assert ctx.outcome.reason == "KeyError was raised"


@pytest.mark.parametrize("where", ["before_commit", "middleware"])
async def test_set_rollback_only_late(drive: Any, recorder: Any, where: str) -> None:
    """Hooks and middleware may still veto, after a clean start of the close."""
    dm = manager()
    dm.register_resources(db=drive.part(recorder.part("db")))

    def vetoing(context: Any) -> Iterator[None]:
        yield
        context.set_rollback_only("too late in the day")

    if where == "middleware":
        dm.register_context_middleware(drive.part(recorder.part("mw")), drive.part(vetoing))
    async with drive.block(dm.context()) as ctx:
        await drive.value(ctx.db)
        if where == "before_commit":
            ctx.before_commit(drive.function(lambda: ctx.set_rollback_only("too late in the day")))
    assert ctx.outcome == "rolled_back"  # a middleware that opened nothing and yielded nothing has nothing to commit by
    assert ctx.outcome.reason == "too late in the day"
    assert "db sees RolledBack" in recorder
    assert "mw commits" not in recorder


async def test_commit_on_error(drive: Any, recorder: Any) -> None:
    """Overrides the exception and the status: both commit, the exception is raised all the same."""
    dm = manager()
    dm.register_resources(db=drive.part(recorder.part("db")))
    with pytest.raises(KeyError):
        async with drive.block(dm.context()) as ctx:
            await drive.value(ctx.db)
            ctx.commit_on_error()
            raise KeyError
    assert ctx.outcome == "committed"
    assert recorder == ["db opens", "db commits", "db ends"]
    ctx = await drive.open(dm.context())
    ctx.commit_on_error()
    assert await drive.close(ctx, status=401) == "committed"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_commit_on_error_overrides_nothing_else(drive: Any, error: type[BaseException]) -> None:
    """An interrupt, or a veto, still rolls back."""
    ctx = await drive.open(manager().context())
    ctx.commit_on_error()
    assert await drive.close(ctx, error()) == "rolled_back"
    ctx = await drive.open(manager().context())
    ctx.commit_on_error()
    ctx.set_rollback_only("no")
    assert await drive.close(ctx, KeyError(), status=500) == "rolled_back"


async def test_rollback_on(drive: Any) -> None:
    """Asked once, with the exception and the status, in place of the plain rule."""
    asked: list[Any] = []

    def only_server_errors(exc: Any, status: Any) -> bool:
        asked.append((type(exc), status))
        return isinstance(exc, KeyError) or (status or 0) >= 500

    dm = manager(rollback_on=only_server_errors)
    error = KeyError()
    for exc, status, expected in (
        (None, None, "committed"),
        (None, 404, "committed"),
        (ValueError(), 404, "committed"),
        (error, None, "rolled_back"),
        (None, 503, "rolled_back"),
    ):
        ctx = await drive.open(dm.context())
        asked.clear()
        outcome = await drive.close(ctx, exc, status=status)
        assert outcome == expected
        assert asked == [(type(exc), status)]
    assert outcome.reason == "rollback_on returned a true value"
    for wish in ("commit_on_error", "set_rollback_only"):
        ctx = await drive.open(dm.context())
        getattr(ctx, wish)()
        asked.clear()
        await drive.close(ctx, error)
        assert asked == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
async def test_rollback_on_is_not_asked_about_interrupts(drive: Any, error: type[BaseException]) -> None:
    """They always roll back."""
    asked: list[Any] = []
    dm = manager(rollback_on=lambda exc, status: asked.append(exc))
    ctx = await drive.open(dm.context())
    assert await drive.close(ctx, error()) == "rolled_back"
    assert asked == []


async def test_rollback_on_fails(drive: Any, recorder: Any) -> None:
    """Then it rolls back, and its error is raised, unless the body's is."""

    def failing(exc: Any, status: Any) -> bool:
        raise ZeroDivisionError

    dm = manager(rollback_on=failing)
    dm.register_resources(db=drive.part(recorder.part("db")))
    with pytest.raises(ZeroDivisionError):
        async with drive.block(dm.context()) as ctx:
            await drive.value(ctx.db)
    assert ctx.outcome == "rolled_back"
    assert recorder == ["db opens", "db sees ZeroDivisionError", "db ends"]
    with pytest.raises(KeyError) as caught:
        async with drive.block(dm.context()) as ctx:
            raise KeyError
    assert "calling rollback_on: ZeroDivisionError" in caught.value.__notes__[0]
    assert ctx.outcome == "rolled_back"


# --- Hooks ---------------------------------------------------------------------------------------------------------


async def test_order_of_hooks(drive: Any, recorder: Any) -> None:
    """before_commit first, then middleware and resources, then on_commit with no current context; each in order."""
    dm = manager()
    dm.register_resources(db=drive.part(recorder.part("db")))
    dm.register_context_middleware(drive.part(recorder.part("mw")))
    async with drive.block(dm.context()) as ctx:
        await drive.value(ctx.db)
        for number in (1, 2):
            for event in ("before_commit", "on_commit", "on_rollback"):
                say = f"{event} {number}"
                active = drive.function(lambda say=say: recorder(f"{say} {dm.get_active_context() is ctx}"))
                assert getattr(ctx, event)(active) is active
    assert recorder == [
        *("mw opens", "db opens", "before_commit 1 True", "before_commit 2 True"),
        *("mw commits", "mw ends", "db commits", "db ends", "on_commit 1 False", "on_commit 2 False"),
    ]
    assert ctx.outcome == "committed"


@pytest.mark.parametrize("how", ["raised", "status", "veto"])
async def test_hooks_of_a_rollback(drive: Any, recorder: Any, how: str) -> None:
    """Only on_rollback, once everything has rolled back, and outside of any context, an outer one included."""
    dm = manager()
    dm.register_resources(db=drive.part(recorder.part("db")))
    async with drive.block(dm.context()):
        ctx = await drive.open(dm.context())
        await drive.value(ctx.db)
        ctx.before_commit(lambda: recorder("before_commit"))
        ctx.on_commit(lambda: recorder("on_commit"))

        @ctx.on_rollback
        def rolled_back() -> None:
            recorder(f"{ctx.state} {ctx.outcome} {dm.get_active_context()}")
            with pytest.raises(NoActiveContextError):
                ctx.dal.who.user()

        if how == "veto":
            ctx.set_rollback_only()
        raised = KeyError() if how == "raised" else None
        await drive.close(ctx, raised, status=500 if how == "status" else None)
    assert recorder[-2:] == ["db ends", "closed rolled_back None"]
    assert not {"before_commit", "on_commit"} & set(recorder)


async def test_before_commit_fails(drive: Any, recorder: Any) -> None:
    """Everything rolls back, later hooks do not run, the error is raised with a note."""
    dm = manager()
    dm.register_resources(db=drive.part(recorder.part("db")))

    def failing() -> None:
        raise OSError("index")

    with pytest.raises(OSError, match="index") as caught:
        async with drive.block(dm.context()) as ctx:
            await drive.value(ctx.db)
            ctx.before_commit(drive.function(failing))
            ctx.before_commit(lambda: recorder("later"))
            ctx.on_rollback(lambda: recorder("on_rollback"))
    assert recorder == ["db opens", "db sees OSError", "db ends", "on_rollback"]
    assert ctx.outcome == "rolled_back"
    assert "failing" in caught.value.__notes__[0]
    assert caught.value.__notes__[0].startswith("while running before_commit hook")


async def test_before_commit_may_register_and_open_more(drive: Any, recorder: Any) -> None:
    """Hooks that hooks register run, too, up to a limit; resources they touch open and commit."""
    dm = manager()
    dm.register_resources(db=recorder.part("db"))
    async with drive.block(dm.context()) as ctx:

        @ctx.before_commit
        def first() -> None:
            recorder(f"first {ctx.db}")
            ctx.before_commit(lambda: recorder("second"))
            ctx.on_commit(lambda: recorder("third"))

    assert recorder == ["db opens", "first db", "second", "db commits", "db ends", "third"]

    with pytest.raises(RuntimeError, match="more than 1000 before_commit hooks: they register each other"):
        async with drive.block(dm.context()) as ctx:

            def endless() -> None:
                ctx.before_commit(endless)

            endless()
    assert ctx.outcome == "rolled_back"


async def test_many_hooks_are_no_loop(drive: Any, recorder: Any) -> None:
    """The limit is for those that hooks register: a context may keep thousands of commands."""
    async with drive.block(manager().context()) as ctx:
        for _ in range(3000):
            ctx.before_commit(lambda: recorder("ran"))
    assert len(recorder) == 3000
    assert ctx.outcome == "committed"


async def test_a_hook_registered_too_late_is_not_dropped(drive: Any, recorder: Any) -> None:
    """By a middleware after its yield, when the hooks have run: it runs, or is refused."""
    dm = manager()

    def late(context: Any) -> Iterator[None]:
        yield
        try:
            context.before_commit(lambda: recorder("ran"))
        except ContextError:
            recorder("refused")

    dm.register_context_middleware(drive.part(late))
    async with drive.block(dm.context()) as ctx:
        ctx.before_commit(lambda: None)
    assert recorder in (["ran"], ["refused"])
    recorder.clear()
    async with drive.block(dm.context()):
        pass
    assert recorder in (["ran"], ["refused"])


@pytest.mark.parametrize("event", ["on_commit", "on_rollback"])
async def test_hooks_are_isolated(drive: Any, recorder: Any, caplog: Any, event: str) -> None:
    """An Exception is logged and kept in the outcome, changes neither it nor the answer, and the others run."""

    def failing() -> None:
        raise OSError("no mail")

    ctx = await drive.open(manager().context())
    getattr(ctx, event)(drive.function(failing))
    getattr(ctx, event)(drive.function(lambda: recorder("second")))
    if event == "on_rollback":
        ctx.set_rollback_only()
    outcome = await drive.close(ctx)
    assert outcome == ("committed" if event == "on_commit" else "rolled_back")
    assert [(record.type, record.message) for record in outcome.errors] == [(OSError, "no mail")]
    assert outcome.errors[0].where.startswith(f"running {event} hook")
    assert recorder == ["second"]
    assert "no mail" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_in_a_hook(drive: Any, recorder: Any, error: type[BaseException]) -> None:
    """Is raised after the rest; the outcome stands."""

    def failing() -> None:
        raise error

    with pytest.raises(error):
        async with drive.block(manager().context()) as ctx:
            ctx.on_commit(failing)
            ctx.on_commit(lambda: recorder("second"))
    assert recorder == ["second"]
    assert ctx.outcome == "committed"


@pytest.mark.parametrize("middleware", [False, True])
async def test_hooks_of_a_context_that_is_not_open_yet(drive: Any, recorder: Any, middleware: bool) -> None:
    """May be registered, and run."""
    dm = manager()
    if middleware:
        dm.register_context_middleware(drive.part(_plain))
    ctx = dm.context()
    ctx.before_commit(drive.function(lambda: recorder("before")))
    ctx.on_commit(drive.function(lambda: recorder("after")))
    async with drive.block(ctx):
        pass
    assert recorder == ["before", "after"]


@pytest.mark.parametrize("event", ["before_commit", "on_commit", "on_rollback"])
def test_async_hooks_in_a_sync_context(recorder: Any, event: str) -> None:
    """Cannot be awaited: refused, on an open context and on one that turns out to be opened sync."""

    async def hook() -> None: ...

    dm = manager()
    dm.register_context_middleware(recorder.part("mw"))
    dm.register_resources(db=recorder.part("db"))
    with (
        dm.context() as ctx,
        pytest.raises(AsyncResourceError, match="^hook .* is async, and a sync context cannot await it"),
    ):
        getattr(ctx, event)(hook)
    recorder.clear()
    ctx = dm.context()
    with pytest.raises(AsyncResourceError):
        getattr(ctx, event)(hook)
        if event == "on_rollback":
            ctx.set_rollback_only()
        with ctx:
            _ = ctx.db
    assert [entry for entry in recorder if "ends" in entry] in ([], ["mw ends"], ["mw ends", "db ends"])
    assert sum("opens" in entry for entry in recorder) == sum("ends" in entry for entry in recorder)
    assert not any("commits" in entry for entry in recorder)


@pytest.mark.parametrize("event", ["before_commit", "on_commit", "on_rollback"])
async def test_a_hook_is_called(drive: Any, event: str) -> None:
    """So what cannot be is refused when it is registered: a result in the place of a function, as a rule."""
    async with drive.block(manager().context()) as ctx:
        with pytest.raises(TypeError, match="NoneType is not callable"):
            getattr(ctx, event)(None)
    assert ctx.outcome == "committed"


@pytest.mark.parametrize("wish", ["before_commit", "on_commit", "on_rollback", "set_rollback_only", "commit_on_error"])
async def test_wishes_come_too_late(drive: Any, recorder: Any, wish: str) -> None:
    """On a closed context, and from the first prepare on, they are refused."""
    dm = manager()
    argument = () if wish in ("set_rollback_only", "commit_on_error") else (print,)

    def late(context: Any) -> Iterator[int]:
        yield 1
        with pytest.raises(ContextClosedError, match="context is closing"):
            getattr(context, wish)(*argument)
        recorder("refused")

    dm.register_resources(late=drive.part(late))
    async with drive.block(dm.context()) as ctx:
        await drive.value(ctx.late)
        ctx.on_rollback(print)  # so that the close goes by the policy in full
    assert recorder == ["refused"]
    with pytest.raises(ContextClosedError, match="outcome committed"):
        getattr(ctx, wish)(*argument)
    async with drive.block(dm.context()) as ctx:
        await drive.value(ctx.late)
    assert recorder == ["refused", "refused"]


# --- The hooks of 0.9.1 --------------------------------------------------------------------------------------------


async def test_overridable_hooks(drive: Any, recorder: Any) -> None:
    """Before middleware; at the start of the close; when it has closed. All with the exception that escaped."""

    class Hooked(Context):
        def _setup_hook(self) -> None:
            recorder(f"setup {self.state}")

        def _teardown_hook(self, exception: BaseException | None) -> None:
            recorder(f"teardown {exception!r} {self.state}")

        def _final_hook(self, exception: BaseException | None) -> None:
            recorder(f"final {exception!r} {self.state}")

    dm = manager(context_class=Hooked)
    dm.register_context_middleware(drive.part(recorder.part("mw")))
    async with drive.block(dm.context()) as ctx:
        assert isinstance(ctx, Hooked)
    assert recorder == [
        *("setup open", "mw opens", "teardown None closing", "mw commits", "mw ends", "final None closed"),
    ]
    recorder.clear()
    with pytest.raises(KeyError):
        async with drive.block(dm.dal()):
            raise KeyError(1)
    assert recorder[2:] == [
        *("teardown KeyError(1) closing", "mw sees KeyError", "mw ends", "final KeyError(1) closed"),
    ]


@pytest.mark.parametrize("hook", ["_setup_hook", "_teardown_hook", "_final_hook"])
async def test_hooks_that_fail(drive: Any, recorder: Any, caplog: Any, hook: str) -> None:
    """At the open it does not open; at the close everything rolls back; at the very end it is logged."""

    def fail(self: Any, *exception: Any) -> None:
        raise OSError(hook)

    dm = manager(context_class=type("Hooked", (Context,), {hook: fail}))
    dm.register_resources(db=drive.part(recorder.part("db")))
    ctx = dm.context()
    if hook == "_final_hook":
        async with drive.block(ctx):
            await drive.value(ctx.db)
        assert ctx.outcome == "committed"
        assert ctx.outcome.errors[0].message == "_final_hook"
        assert "_final_hook" in caplog.text
        return
    with pytest.raises(OSError, match=hook):
        async with drive.block(ctx):
            await drive.value(ctx.db)
    assert ctx.outcome == "rolled_back"
    assert recorder == ([] if hook == "_setup_hook" else ["db opens", "db sees OSError", "db ends"])


# --- Context classes -----------------------------------------------------------------------------------------------


async def test_context_class(drive: Any) -> None:
    """A subclass with attributes and methods of its own, its constructor included."""

    class ShopContext(Context):
        tag: str

        def __init__(self, data_manager: Any, meta: Any = None) -> None:
            super().__init__(data_manager, meta)
            self.basket: list[int] = []

        @property
        def is_member(self) -> bool:
            return self.meta.user is not None

    dm = manager(context_class=ShopContext)
    async with drive.block(dm.context({"user": "ann"})) as ctx:
        assert isinstance(ctx, ShopContext)
        assert (ctx.basket, ctx.is_member, ctx.tag, ctx.data_manager) == ([], True, "red", dm)
        assert type(ctx).__name__ == "ShopContext"
        assert type(ctx).__module__ == __name__
    async with drive.block(dm.dal({"user": "ann"})) as dal:
        assert dm.require_active_context().is_member
        assert dal is dm.get_dal()


async def test_overridden_block_methods(drive: Any, recorder: Any) -> None:
    """A context class may extend ``with`` itself."""

    class Noisy(Context):
        def __enter__(self) -> Any:
            recorder("enter")
            return super().__enter__()

        def __exit__(self, *raised: Any) -> bool:
            recorder("exit")
            return super().__exit__(*raised)

        async def __aenter__(self) -> Any:
            recorder("enter")
            return await super().__aenter__()

        async def __aexit__(self, *raised: Any) -> bool:
            recorder("exit")
            return await super().__aexit__(*raised)

    def swallowing(context: Any) -> Iterator[None]:
        try:
            yield
        except KeyError:
            pass

    dm = manager(context_class=Noisy)
    dm.register_context_middleware(drive.part(swallowing))
    ctx = dm.context()
    async with drive.block(ctx):
        assert ctx.tag == "red"
        raise KeyError
    assert recorder == ["enter", "exit"]
    with pytest.raises(ContextReusedError):
        await drive.block(ctx).__aenter__()
    async with drive.block(ctx.__class__(dm)) as other:
        await drive.close(other)


async def test_a_context_class_by_itself(drive: Any) -> None:
    """Called without the manager's ``context()``, as older code does."""
    dm = manager()

    class Own(Context):
        pass

    for cls in (Context, Own, Own):
        async with drive.block(cls(dm, {"user": "ann"})) as ctx:
            assert isinstance(ctx, cls)
            assert dm.get_active_context() is ctx
            assert (ctx.tag, ctx.dal.who.user()) == ("red", "ann")
    dm.register_resources(late=ValueResource(1))
    async with drive.block(Own(dm)) as ctx:
        assert ctx.late == 1
    dm.replace_resource("late", ValueResource(2))
    async with drive.block(Own(dm)) as ctx:
        assert ctx.late == 2


async def test_nothing_is_kept_alive(drive: Any) -> None:
    """No cycles: clean and vetoed contexts go by reference count alone."""
    import weakref

    dm = manager()
    dm.register_resources(db=drive.part(_plain))
    gc.disable()
    try:
        for veto in (False, True):
            ctx = await drive.open(dm.context())
            await drive.value(ctx.db)
            if veto:
                ctx.set_rollback_only()
            await drive.close(ctx)
            gone = weakref.ref(ctx)
            del ctx
            assert gone() is None
    finally:
        gc.enable()


def _plain(context: Any) -> Iterator[int]:
    yield 1


async def test_slow_sync_teardown_is_logged(drive: Any, caplog: Any) -> None:
    """A sync step cannot be interrupted: what took longer than the limit is logged, on every path."""

    def db(context: Any) -> Iterator[int]:
        try:
            yield 1
        finally:
            pass

    dm = manager(teardown_timeout=1e-9)
    dm.register_resources(db=db)
    for raised in (None, KeyError()):
        for veto in (False, True):
            caplog.clear()
            ctx = await drive.open(dm.context())
            assert ctx.db == 1
            if veto:
                ctx.set_rollback_only()
            await drive.close(ctx, raised)
            if not drive.is_async or veto or raised:
                assert "more than the teardown limit" in caplog.text


def test_slow_steps_of_a_transaction_are_logged(caplog: Any) -> None:
    """Each by its name."""
    dm = manager(teardown_timeout=1e-9)
    dm.register_resources(db=lambda context: Transaction("value"))
    with dm.context() as ctx:
        assert ctx.db == "value"
    assert [record.args[0] for record in caplog.records] == [
        "preparing resource 'db'",
        "committing resource 'db'",
        "closing resource 'db'",
    ]
