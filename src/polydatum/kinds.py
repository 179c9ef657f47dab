"""The kinds of resources and context middleware, and how each is set up and ended.

A *kind* opens a factory (``open`` returns the value and the handle to end it by) and later ends it with or without a
cause. The order in which things end, and whose error wins, is not decided here but in `polydatum.unwinding`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, NoReturn

from .callables import is_async_generator_function, is_coroutine_function, is_generator_function
from .errors import YieldedTwiceError
from .transactions import value_of

NOTHING: Any = object()
"""What ``next`` returns for a generator that has ended: distinct from every value, at no cost on the normal path."""

TRANSACTION_KINDS = ("authority", "effect")


class Kind:
    """How one kind of factory is set up and ended.

    ``end`` returns True if it swallowed the cause, and raises what the user's code raised unless that is the cause.
    """

    is_async = False

    def open(self, factory: Callable[..., Any], subject: Any) -> Any:
        """The (value, handle) of a new instance; awaitable if ``is_async``. NOTHING as the value: it never yielded."""
        raise NotImplementedError

    def end(self, handle: Any, cause: BaseException | None) -> Any:
        """End what ``open`` made; an awaitable if ``is_async``."""
        raise NotImplementedError


def is_rethrown(error: BaseException, cause: BaseException) -> bool:
    """Whether an error that came out of a generator is the cause that was thrown in.

    Python turns a StopIteration that leaves a generator into a RuntimeError (PEP 479), so its cause is checked.
    """
    if error is cause:
        return True
    return isinstance(cause, StopIteration | StopAsyncIteration) and error.__cause__ is cause


class GeneratorKind(Kind):
    """A generator function that yields once. Opened inline on hot paths, by ``next(generator, NOTHING)``."""

    def end(self, handle: Any, cause: BaseException | None) -> bool:
        if cause is None:
            if next(handle, NOTHING) is NOTHING:
                return False
        else:
            traceback = cause.__traceback__
            try:
                handle.throw(cause)
            except StopIteration as stop:
                return stop is not cause
            except BaseException as error:
                if is_rethrown(error, cause):
                    cause.__traceback__ = traceback
                    return False
                raise
        self.refuse_second_yield(handle)

    def refuse_second_yield(self, handle: Any) -> NoReturn:
        raise self.second_yield(handle)

    def second_yield(self, handle: Any) -> BaseException:
        """The error for a generator that yielded again; it is closed, and an error raised by that takes precedence."""
        try:
            handle.close()
        except BaseException as error:
            return error
        return YieldedTwiceError(f"generator {handle.__qualname__!r}")


class AsyncGeneratorKind(Kind):
    """An async generator function that yields once."""

    is_async = True

    async def open(self, factory: Callable[..., Any], subject: Any) -> Any:
        generator = factory(subject)
        try:
            return await generator.__anext__(), generator
        except StopAsyncIteration:
            return NOTHING, generator

    async def end(self, handle: Any, cause: BaseException | None) -> bool:
        if cause is None:
            try:
                await handle.__anext__()
            except StopAsyncIteration:
                return False
        else:
            traceback = cause.__traceback__
            try:
                await handle.athrow(cause)
            except StopAsyncIteration as stop:
                return stop is not cause
            except BaseException as error:
                if is_rethrown(error, cause):
                    cause.__traceback__ = traceback
                    return False
                raise
        await self.refuse_second_yield(handle)

    async def refuse_second_yield(self, handle: Any) -> NoReturn:
        await handle.aclose()
        raise YieldedTwiceError(f"async generator {handle.__qualname__!r}")


class ManagerKind(Kind):
    """A context manager."""

    def open(self, factory: Callable[..., Any], subject: Any) -> Any:
        manager = factory(subject)
        return manager.__enter__(), manager

    def end(self, handle: Any, cause: BaseException | None) -> bool:
        if cause is None:
            handle.__exit__(None, None, None)
            return False
        try:
            return bool(handle.__exit__(type(cause), cause, cause.__traceback__))
        except BaseException as error:
            if error is cause:
                return False
            raise


class AsyncManagerKind(Kind):
    """An async context manager."""

    is_async = True

    async def open(self, factory: Callable[..., Any], subject: Any) -> Any:
        manager = factory(subject)
        return await manager.__aenter__(), manager

    async def end(self, handle: Any, cause: BaseException | None) -> bool:
        if cause is None:
            await handle.__aexit__(None, None, None)
            return False
        try:
            return bool(await handle.__aexit__(type(cause), cause, cause.__traceback__))
        except BaseException as error:
            if error is cause:
                return False
            raise


class TransactionKind(Kind):
    """A transactional object, which is open once a callable has made it; it ends with its own ``close``."""

    def end(self, handle: Any, cause: BaseException | None) -> Any:
        return handle.close()  # an awaitable, if it only looked sync


class AsyncTransactionKind(Kind):
    """A transactional object with async methods."""

    is_async = True

    async def open(self, factory: Callable[..., Any], subject: Any) -> Any:
        transaction = factory(subject)
        return value_of(transaction), transaction

    async def end(self, handle: Any, cause: BaseException | None) -> bool:
        closed = handle.close()
        if isinstance(closed, Awaitable):
            await closed
        return False


class AsyncBackendKind(Kind):
    """An async `Backend`: a coroutine function; `kind_of_result` tells the kind of its result."""

    is_async = True


class CallableKind(Kind):
    """Any other callable: called first; `kind_of_result` tells the kind of its result."""


class HandleWithKind:
    """The handle of an object whose kind was known only once it was made, and this kind."""

    __slots__ = ("handle", "kind")

    def __init__(self, kind: Kind, handle: Any) -> None:
        self.kind = kind
        self.handle = handle


GENERATOR = GeneratorKind()
ASYNC_GENERATOR = AsyncGeneratorKind()
MANAGER = ManagerKind()
ASYNC_MANAGER = AsyncManagerKind()
TRANSACTION = TransactionKind()
ASYNC_TRANSACTION = AsyncTransactionKind()
CALLABLE = CallableKind()
ASYNC_BACKEND = AsyncBackendKind()


TRANSACTION_STEPS = ("prepare", "commit", "rollback", "close")
_STEPS = frozenset(TRANSACTION_STEPS)


def is_transactional(value: Any) -> bool:
    """Whether a value says that it takes part in the outcome: its ``kind`` is "authority" or "effect".

    A value with none of the protocol's methods only happens to have such an attribute.
    """
    return _has_transaction_kind(value) and (
        _are_async(value) is not None or any(callable(getattr(value, step, None)) for step in TRANSACTION_STEPS[:3])
    )


def _has_transaction_kind(value: Any) -> bool:
    try:
        kind = getattr(value, "kind", None)
    except Exception:  # raised by the value itself, for an attribute it does not have
        return False
    return type(kind) is str and kind in TRANSACTION_KINDS


def transaction_of(value: Any, handle: Any) -> Any:
    """The transaction that an opened resource brings into its context: from its handle, its value itself, or None."""
    if type(handle) is HandleWithKind and handle.kind in (TRANSACTION, ASYNC_TRANSACTION):
        return handle.handle
    return value if is_transactional(value) else None


def missing_steps(transaction: Any) -> list[str]:
    """The methods of the protocol that a transactional object lacks."""
    if _are_async(transaction) is not None:
        return []
    return [step for step in TRANSACTION_STEPS if not callable(getattr(transaction, step, None))]


def is_async_transaction(transaction: Any) -> bool:
    """Whether steps of a transactional object have to be awaited."""
    known = _are_async(transaction)
    if known is not None:
        return known
    return any(is_coroutine_function(getattr(transaction, step)) for step in TRANSACTION_STEPS)


def _are_async(transaction: Any) -> bool | None:
    """Whether any step of an object is async, according to its class; None if the class does not have all of them.

    Cached by class: this is asked for each transaction, and finding out takes longer than many of them.
    """
    own = getattr(transaction, "__dict__", None)
    if own and not _STEPS.isdisjoint(own):
        return None
    transaction_class: Any = type(transaction)
    return _are_async_in(transaction_class)


@lru_cache(maxsize=128)
def _are_async_in(transaction_class: type) -> bool | None:
    steps = [getattr(transaction_class, step, None) for step in TRANSACTION_STEPS]
    return any(map(is_coroutine_function, steps)) if all(map(callable, steps)) else None


def kind_of(factory: Any) -> Kind | None:
    """The kind of a factory, told by the object, its partial or its ``__call__``; None if it is not callable.

    ``__wrapped__`` is never followed: a wrapper may well have turned a generator into something else.
    """
    if not callable(factory):
        return None
    if is_generator_function(factory):
        return GENERATOR
    if is_async_generator_function(factory):
        return ASYNC_GENERATOR
    return CALLABLE


def kind_of_result(made: Any, *, in_async: bool) -> Kind | None:
    """The kind of what a callable made; an object that is both kinds of context manager follows the context's mode."""
    if _has_transaction_kind(made) and not missing_steps(made):
        return ASYNC_TRANSACTION if is_async_transaction(made) else TRANSACTION
    has_sync = hasattr(type(made), "__enter__") and hasattr(type(made), "__exit__")
    has_async = hasattr(type(made), "__aenter__") and hasattr(type(made), "__aexit__")
    if has_async and (in_async or not has_sync):
        return ASYNC_MANAGER
    return MANAGER if has_sync else None
