"""What a callable is, told by its code flags: importing ``inspect`` for this costs more than all of polydatum."""

from __future__ import annotations

from functools import partial, partialmethod
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, MethodType
from typing import Any

_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200  # code flags, as documented for inspect.CO_*
_ROUTINES: tuple[type, ...] = (
    FunctionType,
    MethodType,
    BuiltinFunctionType,
    MethodDescriptorType,
    staticmethod,
    classmethod,
)
_NO_INSTANCES = (type, *_ROUTINES)  # built once, as the checks below run for each transaction
_BOUND = (MethodType, partial)


def unwrapped(target: Any) -> Any:
    """The function that runs when ``target`` is called: below partials and ``__call__``, never by ``__wrapped__``."""
    while isinstance(target, partial):
        target = target.func
    if not isinstance(target, _NO_INSTANCES) and callable(target):
        target = type(target).__call__
    while isinstance(target, _BOUND):
        target = target.__func__ if isinstance(target, MethodType) else target.func
    return target


def _has_flag(target: Any, flag: int) -> bool:
    code = getattr(unwrapped(target), "__code__", None)
    return code is not None and bool(code.co_flags & flag)


def is_generator_function(target: Any) -> bool:
    """Whether calling it returns a generator."""
    return _has_flag(target, _GENERATOR)


def is_async_generator_function(target: Any) -> bool:
    """Whether calling it returns an async generator."""
    return _has_flag(target, _ASYNC_GENERATOR)


def is_coroutine_function(target: Any) -> bool:
    """Whether calling it returns a coroutine; functions marked as such by ``inspect`` or ``asyncio`` count."""
    function = unwrapped(target)
    code = getattr(function, "__code__", None)
    if code is not None and code.co_flags & _COROUTINE:
        return True
    # The marks of inspect, since Python 3.12, and of asyncio, before.
    return hasattr(function, "_is_coroutine_marker") or hasattr(function, "_is_coroutine")


def is_routine(target: Any) -> bool:
    """Whether an attribute of a class is a method of any sort, including one that a decorator turned into an object."""
    if isinstance(target, (*_ROUTINES, partialmethod)):
        return True
    return callable(target) and hasattr(target, "__get__") and not isinstance(target, type)


def name_of(target: Any) -> str:
    """The name of a callable for messages: that of its function, or of its class."""
    while isinstance(target, partial):
        target = target.func
    return getattr(target, "__qualname__", None) or type(target).__qualname__
