"""Resources: the live objects that services use, opened on first touch and closed with their Context.

`RegisteredResource` is what a registered factory becomes: a descriptor on the generated Context class, so that a
touched resource then costs one attribute read.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from threading import get_ident
from typing import Any, NoReturn

from .callables import is_coroutine_function
from .errors import AsyncResourceError, InvalidResourceError, ResourceSetupError
from .kinds import (
    ASYNC_BACKEND,
    ASYNC_GENERATOR,
    ASYNC_TRANSACTION,
    GENERATOR,
    NOTHING,
    TRANSACTION,
    HandleWithKind,
    Kind,
    is_async_transaction,
    kind_of,
    kind_of_result,
    missing_steps,
    transaction_of,
)
from .opening import (
    OPEN,
    Opening,
    UnderWay,
    await_,
    claim,
    complete,
    current_opening,
    enter_opening,
    leave_opening,
    release,
    wait,
    waits,
    wake_waiters,
)
from .transactions import value_of
from .unwinding import Step

VALUE = Kind()
"""The kind of a `ValueResource`: nothing to open, nothing to end."""

_AWAITED: Any = object()
"""In place of a handle: what the factory made can only be opened by ``await``."""


class Resource:
    """Base class for a resource that is an object: its ``__call__(context)`` is a generator that yields the value.

    Any callable object works; this class only gives the protocol a name.
    """

    def __call__(self, context: Any) -> Generator[Any, None, None]:
        """Yield the value, once; code after the ``yield`` runs when the context closes."""
        raise NotImplementedError(f"{type(self).__name__} has to define __call__(self, context) as a generator")
        yield


class ValueResource(Resource):
    """A resource that is a ready value, the same object in every context; it is never closed.

    Example:
        >>> from polydatum import DataManager
        >>> dm = DataManager()
        >>> dm.register_resources(tax_rate=ValueResource(0.2))
        >>> with dm.context() as ctx:
        ...     ctx.tax_rate
        0.2
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, context: Any) -> Generator[Any, None, None]:
        """Yield the value."""
        yield self.value


class RegisteredResource:
    """A resource under its name: the descriptor that opens it on first touch.

    A non-data descriptor, so that a value set on the instance is found first; it is only called until the first touch
    and after the close.
    """

    __slots__ = ("closing", "factory", "kind", "name", "result_is_async", "slot", "under_way")

    def __init__(self, name: str, factory: Any, under_way: UnderWay, kind: Kind | None = None) -> None:
        kind = kind or (VALUE if type(factory) is ValueResource else kind_of(factory))
        if kind is None:
            raise InvalidResourceError(
                name,
                f"an object of type {type(factory).__name__} is not a generator function, a context-manager factory or another callable; "
                "wrap a ready value in ValueResource(...)",
            )
        if kind is not ASYNC_BACKEND and is_coroutine_function(factory):
            raise InvalidResourceError(
                name, "a coroutine function has no teardown; write an async generator that yields"
            )
        self.name = name
        self.factory: Callable[[Any], Any] = factory
        self.kind: Kind = kind
        self.result_is_async = False  # what the callable makes has turned out to need ``await``, in async contexts
        self.under_way = under_way
        self.closing = f"closing resource {name!r}"
        self.slot = f"_async_{name}"  # holds the opened async value: the name itself always gives an awaitable

    @property
    def registered(self) -> Any:
        """The object as the user registered it."""
        return self.factory

    def __get__(self, owner: Any, owner_type: Any = None) -> Any:
        if owner is None:
            return self
        if self.kind is not GENERATOR:
            home = owner._home
            if self.kind is ASYNC_GENERATOR and owner._state is OPEN and home is not None and home[0] == get_ident():
                touch = AsyncTouch()  # `async_touch`, inlined for the usual case
                set_touched(touch, (self, owner, owner, NOTHING))
                return touch
            if self.kind.is_async or (self.result_is_async and owner._is_async):
                return self.async_touch(owner, owner)
            return self.open(owner, owner)
        # From here on: `open`, with `claim` and `complete`, inlined for the kind that is used most.
        mine: Opening = [self, get_ident()]
        key = (self, owner)
        under_way = self.under_way
        if under_way.setdefault(key, mine) is not mine:
            return self.open(owner, owner)
        opened = owner._opened
        if owner._state is not OPEN or (opened is not None and self in opened):
            release(owner, mine)
            return self.open(owner, owner)
        try:
            handle = self.factory(owner)
            value = next(handle, NOTHING)
            if value is NOTHING:
                raise ResourceSetupError(self.name)
        except BaseException:
            release(owner, mine)
            raise
        try:
            rare = hasattr(value, "kind")  # it may be transactional
        except Exception:
            rare = False  # raised by the value itself, for an attribute it does not have
        home = owner._home
        if rare or owner._state is not OPEN or (home is not None and home[0] != mine[1]):
            return self._completed(owner, mine, value, handle)
        entry = [self, handle]
        opened = owner._opened = owner._opened or entry  # see ResourceOwner._append
        if opened is not entry:
            opened += entry
        setattr(owner, self.name, value)
        del under_way[key]
        mine[0] = None
        if waits:
            wake_waiters(mine)
        return value

    # --- Sync ---------------------------------------------------------------------------------------------------------

    def open(self, owner: Any, subject: Any) -> Any:
        """The value, opened now unless another thread opens it first."""
        if owner._state is not OPEN:
            found = owner._touched_while_not_open(self)
            if found is not NOTHING:
                return found
        mine: Opening = [self, get_ident()]
        while (other := claim(owner, mine)) is not None:
            if other is mine:
                return owner._value_of(self)
            wait(other)
        try:
            kind = self.kind
            if kind is GENERATOR:
                handle = self.factory(subject)
                value = next(handle, NOTHING)
            elif kind is VALUE:
                value, handle = self.factory.value, None  # type: ignore[attr-defined]
            else:
                value, handle = self._open_callable(owner, subject)
            if value is NOTHING:
                raise ResourceSetupError(self.name)
        except BaseException:
            release(owner, mine)
            raise
        if handle is _AWAITED:
            release(owner, mine)
            return touch_of(self, owner, subject, value)
        return self._completed(owner, mine, value, handle)

    def _completed(self, owner: Any, mine: Opening, value: Any, handle: Any) -> Any:
        transaction = transaction_of(value, handle)
        if transaction is not None:
            is_checked = type(handle) is HandleWithKind and handle.kind is TRANSACTION
            refused = None if is_checked else self._refused_transaction(owner, transaction)
            if refused is not None:
                try:
                    self.end_step(owner, handle).call(refused)
                finally:
                    release(owner, mine)
                raise refused
            value = value_of(transaction)
        if not complete(owner, mine, value, handle, transaction):
            self.end_step(owner, handle).call(owner._closed_error(self.name))
        return value if owner._state is OPEN else owner._value_of(self)

    def _refused_transaction(self, owner: Any, transaction: Any) -> Exception | None:
        """The error for a transaction that cannot be settled; None if it can."""
        if missing := missing_steps(transaction):
            return InvalidResourceError(
                self.name, f"it has a transactional kind, and no {', '.join(missing)}(); add what is missing"
            )
        if not owner._is_async and is_async_transaction(transaction):
            return AsyncResourceError(self.name, "has transaction steps that a sync context cannot await")
        return None

    def _open_callable(self, owner: Any, subject: Any) -> tuple[Any, Any]:
        """Call the factory, find the kind of its result, and open that; (made, _AWAITED) if only ``await`` can open it."""
        made = self.factory(subject)
        kind = kind_of_result(made, in_async=owner._is_async)
        if kind is None:
            raise InvalidResourceError(
                self.name,
                f"it returned an object of type {type(made).__name__}, which is not a context manager and cannot be closed; "
                "yield it from a generator, or wrap a ready value in ValueResource(...)",
            )
        if kind.is_async:
            self._refuse_unless_awaitable(owner)
            self.result_is_async = True
            return made, _AWAITED
        if kind is TRANSACTION:
            return made, HandleWithKind(kind, made)  # `_completed` replaces it by the value for services
        value, handle = kind.open(lambda _: made, None)
        return value, HandleWithKind(kind, handle)

    # --- Async --------------------------------------------------------------------------------------------------------

    def async_touch(self, owner: Any, subject: Any) -> AsyncTouch:
        """The result of touching an async resource: an awaitable of the value."""
        if owner._state is not OPEN:
            owner._touched_while_not_open(self)
        self._refuse_unless_awaitable(owner)
        return touch_of(self, owner, subject)

    def _refuse_unless_awaitable(self, owner: Any) -> None:
        """Refuse, before any of its code runs, to open an async resource where nothing can be awaited."""
        if not owner._is_async:
            raise AsyncResourceError(
                self.name,
                "cannot be opened in a sync context; use 'async with dm.context()' in an event loop, or register a sync resource",
            )
        if owner._in_other_thread():
            raise AsyncResourceError(
                self.name,
                "cannot be opened from a sync endpoint or another thread than its context's event loop; "
                "make the endpoint async, or register a sync resource",
            )

    def aopen(self, owner: Any, subject: Any, made: Any) -> Generator[Any, Any, Any]:
        """Await the value, opened now unless another task opens it first. ``made``: what a callable has already made.

        A generator for ``__await__``, as a coroutine would cost a second object.
        """
        mine: Opening = [self, current_opening()]
        key = (self, owner)
        if owner._opened is None and owner._state is OPEN and self.under_way.setdefault(key, mine) is mine:
            if owner._state is not OPEN:  # `claim`, inlined for the first resource of a context
                release(owner, mine)
                raise owner._closed_error(self.name)
        else:
            while (other := claim(owner, mine)) is not None:
                if other is mine:
                    return owner._value_of(self)
                yield from await_(other).__await__()
        token = enter_opening(mine)
        try:
            kind = self.kind
            if kind is ASYNC_GENERATOR:
                handle = self.factory(subject)
                try:
                    value = yield from handle.__anext__()
                except StopAsyncIteration:
                    raise ResourceSetupError(self.name) from None
            else:
                if made is NOTHING:
                    made = self.factory(subject)
                if kind is ASYNC_BACKEND:
                    made = yield from made.__await__()
                made_kind = kind_of_result(made, in_async=True)
                if made_kind is None or not made_kind.is_async:
                    raise InvalidResourceError(
                        self.name, f"it returned an async context manager before, now a {type(made).__name__}"
                    )
                value, inner = yield from made_kind.open(lambda _: made, None).__await__()
                handle = HandleWithKind(made_kind, inner)
        except BaseException:
            release(owner, mine)
            raise
        finally:
            leave_opening(token)
        try:
            rare = kind is not ASYNC_GENERATOR or owner is not subject or hasattr(value, "kind")
        except Exception:
            rare = False  # as above
        if not rare and owner._state is OPEN:
            entry = [self, handle]  # `complete`, inlined
            opened = owner._opened = owner._opened or entry
            if opened is not entry:
                opened += entry
            setattr(owner, self.slot, value)
            del self.under_way[key]
            mine[0] = None
            if waits:
                wake_waiters(mine)
            return value
        transaction = transaction_of(value, handle)
        if transaction is not None:
            refused = self._refused_transaction(owner, transaction)
            if refused is not None:
                try:
                    yield from self.end_step(owner, handle).call(refused).__await__()
                finally:
                    release(owner, mine)
                raise refused
            value = value_of(transaction)
        if not complete(owner, mine, value, handle, transaction):
            yield from self.end_step(owner, handle).call(owner._closed_error(self.name)).__await__()
        return value if owner._state is OPEN else owner._value_of(self)

    # --- Closing ------------------------------------------------------------------------------------------------------

    def is_async(self, handle: Any) -> bool:
        """Whether closing it has to be awaited."""
        return handle.kind.is_async if type(handle) is HandleWithKind else self.kind.is_async

    def forget(self, owner: Any) -> None:
        """Drop the value cached on an owner, so that a later touch raises. One that came too late was not cached."""
        try:
            delattr(owner, self.slot if self.kind is ASYNC_GENERATOR else self.name)
        except AttributeError:
            pass

    def is_transaction(self, handle: Any) -> bool:
        """Whether a handle is closed by the transaction's own ``close``, a step separate from its commit."""
        return type(handle) is HandleWithKind and handle.kind in (TRANSACTION, ASYNC_TRANSACTION)

    def end_step(self, owner: Any, handle: Any, *, quiet: bool = False) -> Step:
        """The step that closes this resource. It first drops the cached value, so that a later touch raises."""
        kind = self.kind
        commits = handle is not None and not self.is_transaction(handle)
        if type(handle) is HandleWithKind:
            kind, handle = handle.kind, handle.handle

        def end(cause: BaseException | None) -> Any:
            owner._forget(self)
            return None if handle is None else kind.end(handle, cause)

        return Step(self.closing, end, is_async=kind.is_async, quiet=quiet, commits=commits)


class AsyncTouch:
    """What reading an async resource by its name gives: ``await`` it for the value, any number of times.

    Any other use raises `AsyncResourceError`, which says to await it.
    """

    __slots__ = ("_touch",)

    _touch: tuple[RegisteredResource, Any, Any, Any]  # the resource, its owner, the factory's argument, what it made

    def owned_by(self, owner: Any) -> AsyncTouch:
        """The same touch, of another owner."""
        resource, _, subject, made = self._touch
        return touch_of(resource, owner, subject, made)

    def __await__(self) -> Generator[Any, Any, Any]:
        resource, owner, subject, made = self._touch
        if owner._opened is not None and owner._state is OPEN:
            value = getattr(owner, resource.slot, NOTHING)
            if value is not NOTHING:
                return _ready(value)
        return resource.aopen(owner, subject, made)

    def __getattr__(self, name: str) -> NoReturn:
        raise AsyncResourceError(
            self._touch[0].name,
            f"was used without await: write '{self._touch[0].name} = await self._ctx.{self._touch[0].name}'",
        )

    def _unawaited(self, *args: Any, **kwargs: Any) -> NoReturn:
        self.__getattr__("")

    __setattr__ = __delattr__ = _unawaited
    __call__ = __getitem__ = __setitem__ = __delitem__ = __iter__ = __len__ = __bool__ = __contains__ = _unawaited
    __enter__ = __exit__ = __aenter__ = __aexit__ = __aiter__ = _unawaited

    def __repr__(self) -> str:
        return f"<async resource {self._touch[0].name!r}: await it>"


set_touched = AsyncTouch.__dict__["_touch"].__set__  # bypasses the ``__setattr__`` that refuses


def touch_of(resource: RegisteredResource, owner: Any, subject: Any, made: Any = NOTHING) -> AsyncTouch:
    """A touch of an async resource."""
    touch = AsyncTouch()
    set_touched(touch, (resource, owner, subject, made))
    return touch


def _ready(value: Any) -> Generator[Any, Any, Any]:
    return value
    yield
