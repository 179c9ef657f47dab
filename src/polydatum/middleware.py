"""Middleware: around a whole Context (setup and teardown), or around one DAL call (a chain of links).

The recommended spelling of both is a generator that yields once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from .callables import is_async_generator_function, is_coroutine_function, is_generator_function, name_of
from .errors import InvalidMiddlewareError, MiddlewareSetupError, NoActiveContextError
from .kinds import (
    ASYNC_TRANSACTION,
    CALLABLE,
    GENERATOR,
    NOTHING,
    TRANSACTION,
    HandleWithKind,
    Kind,
    is_rethrown,
    kind_of,
    kind_of_result,
)
from .opening import CLOSED
from .outcome import COMMIT
from .unwinding import Step

Link = Callable[["Call"], Any]


class ContextMiddleware:
    """A registered context middleware."""

    __slots__ = ("factory", "kind", "name")

    def __init__(self, factory: Any) -> None:
        kind = kind_of(factory)
        if kind is None or is_coroutine_function(factory):
            raise InvalidMiddlewareError(
                name_of(factory),
                "a context middleware is a generator function, or a context-manager factory, of the context",
            )
        self.factory: Callable[[Any], Any] = factory
        self.kind: Kind = kind
        self.name = name_of(factory)

    def open(self, context: Any) -> Any:
        """Set it up in a sync context; returns the value it yielded and the handle to end it by."""
        kind, handle = self.kind, None
        if kind is GENERATOR:
            handle = self.factory(context)
            value = next(handle, NOTHING)
        else:
            if kind is CALLABLE:
                kind, factory = self._call_factory(context, in_async=False)
            else:
                factory = self.factory
            if kind.is_async:
                raise InvalidMiddlewareError(
                    self.name,
                    "it is async and cannot surround a sync context; use 'async with', or write a plain generator",
                )
            value, handle = kind.open(factory, context)
            handle = HandleWithKind(kind, handle)
        if value is NOTHING:
            raise MiddlewareSetupError(self.name)
        return value, handle

    async def aopen(self, context: Any) -> Any:
        """Set it up in an async context, where sync and async ones may be mixed."""
        kind, factory = self.kind, self.factory
        if kind is CALLABLE:
            kind, factory = self._call_factory(context, in_async=True)
        if not kind.is_async:
            value, handle = kind.open(factory, context)
        else:
            value, handle = await kind.open(factory, context)
        if value is NOTHING:
            raise MiddlewareSetupError(self.name)
        return value, HandleWithKind(kind, handle) if kind is not self.kind else handle

    def _call_factory(self, context: Any, *, in_async: bool) -> tuple[Kind, Callable[[Any], Any]]:
        made = self.factory(context)
        kind = kind_of_result(made, in_async=in_async)
        if kind is None or kind in (TRANSACTION, ASYNC_TRANSACTION):
            raise InvalidMiddlewareError(
                self.name,
                f"it returned a {type(made).__name__}, which is not a context manager; write a generator that yields once",
            )
        return kind, lambda _: made

    def end_step(self, handle: Any, *, commits: bool = False) -> Step:
        """The step that resumes it, or throws the cause into it."""
        kind = self.kind
        if type(handle) is HandleWithKind:
            kind, handle = handle.kind, handle.handle
        return Step(
            f"unwinding context middleware {self.name!r}",
            partial(kind.end, handle),
            is_async=kind.is_async,
            rank=COMMIT,
            nests=True,
            commits=commits,
        )


class Call:
    """One DAL call on its way through the method middleware.

    Attributes:
        context: the Context the call runs in.
        path: the readable name of the method, such as ``"items.get_item"``.
        args: positional arguments; a middleware may assign others, which are then passed on.
        kwargs: keyword arguments, likewise.
    """

    context: Any
    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __repr__(self) -> str:
        return f"<Call {self.path}>"


# The spellings of method middleware, as messages name them.
PLAIN, COROUTINE, RESUMED = "function", "coroutine function", "generator function"


class MethodMiddleware:
    """A registered method middleware; its spelling is determined once, when it is registered."""

    __slots__ = ("fn", "name", "spelling")

    def __init__(self, fn: Any) -> None:
        self.fn: Callable[..., Any] = fn
        self.name = name_of(fn)
        if is_generator_function(fn):
            self.spelling, parameters = RESUMED, 1
        elif is_async_generator_function(fn) or not callable(fn):
            raise InvalidMiddlewareError(
                self.name,
                "write a plain generator 'def mw(call): result = yield; return result'; it serves async methods too",
            )
        else:
            self.spelling = COROUTINE if is_coroutine_function(fn) else PLAIN
            parameters = 2
        import inspect  # here: it costs more than all of polydatum, and most have no method middleware

        try:
            inspect.signature(fn).bind(*range(parameters))
        except TypeError:
            shape = "def mw(call) with a yield" if parameters == 1 else "def mw(call, proceed)"
            raise InvalidMiddlewareError(self.name, f"it does not take the arguments of '{shape}'") from None
        except ValueError:
            pass  # a builtin without a signature: trusted to fit


def compose(
    middleware: Iterable[MethodMiddleware], method: Callable[..., Any], path: str, current: Callable[[], Any]
) -> Callable[..., Any]:
    """The method with its middleware around it, the first registered outermost; done once per method.

    Raises:
        InvalidMiddlewareError: if a middleware that is not a generator does not fit the method: sync around async, or
            async around sync.
    """
    is_async = is_coroutine_function(method)
    wrapped = method
    method = _looked_up(method, path.rpartition(".")[2])
    fitting = COROUTINE if is_async else PLAIN
    link: Link = _call_async(method) if is_async else _call(method)
    for one in reversed(tuple(middleware)):
        if one.spelling == RESUMED:
            link = _around_async(one.fn, link) if is_async else _around(one.fn, link)
        elif one.spelling == fitting:
            link = _linked(one.fn, link)
        else:
            kind = "async" if is_async else "sync"
            raise InvalidMiddlewareError(
                one.name,
                f"a {one.spelling} cannot surround the {kind} method {path!r}; "
                "write it as a generator 'def mw(call): result = yield; return result', which serves both",
            )
    entered: Any = _enter(link, path, current)
    entered.__wrapped__ = wrapped  # for `polydatum.command`, and for signatures
    return entered  # type: ignore[no-any-return]


def _looked_up(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The method, looked up at each call, so that patching its class works with middleware as it does without."""
    service = getattr(method, "__self__", None)
    if service is None or isinstance(service, type) or not hasattr(service, name):
        return method
    return lambda *args, **kwargs: getattr(service, name)(*args, **kwargs)


def _enter(link: Link, path: str, current: Callable[[], Any]) -> Callable[..., Any]:
    call_type = type("Call", (Call,), {"path": path})

    def enter(*args: Any, **kwargs: Any) -> Any:
        call = call_type()
        call.context = context = current()
        if context is None:
            raise NoActiveContextError(f"the DAL ({path})")
        if context._state is CLOSED:
            raise context._closed_error(path)
        call.args = args
        call.kwargs = kwargs
        return link(call)

    return enter


def _call(method: Callable[..., Any]) -> Link:
    def proceed(call: Call) -> Any:
        return method(*call.args, **call.kwargs)

    return proceed


def _call_async(method: Callable[..., Any]) -> Link:
    async def proceed(call: Call) -> Any:
        return await method(*call.args, **call.kwargs)

    return proceed


def _linked(fn: Callable[..., Any], following: Link) -> Link:
    def proceed(call: Call) -> Any:
        return fn(call, following)

    return proceed


def _throw(generator: Any, error: BaseException) -> None:
    try:
        generator.throw(error)
    except RuntimeError as wrapped:
        if wrapped is error or not is_rethrown(wrapped, error):
            raise
        is_own = True
    else:
        is_own = False
    if is_own:
        raise _Wrapped(error)  # a StopIteration raised by the method, which must not look like the generator's end


class _Wrapped(Exception):
    def __init__(self, error: BaseException) -> None:
        self.error = error


# The two loops below follow one rule: returning ends the call with that result, yielding (again) calls (again). They
# differ in the one await (and a coroutine cannot raise StopIteration), and share no code because another frame costs a
# fifth of the whole call.


def _around(fn: Callable[..., Any], following: Link) -> Link:
    def proceed(call: Call) -> Any:
        generator = fn(call)
        try:
            next(generator)
            while True:
                try:
                    result = following(call)
                except BaseException as error:
                    _throw(generator, error)
                else:
                    generator.send(result)
        except StopIteration as stop:
            return stop.value
        except _Wrapped as wrapped:
            raise wrapped.error from None

    return proceed


def _around_async(fn: Callable[..., Any], following: Link) -> Link:
    async def proceed(call: Call) -> Any:
        generator = fn(call)
        try:
            next(generator)
            while True:
                try:
                    result = await following(call)
                except BaseException as error:
                    _throw(generator, error)
                else:
                    generator.send(result)
        except StopIteration as stop:
            return stop.value

    return proceed
