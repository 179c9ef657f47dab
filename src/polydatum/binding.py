"""Carrying the current context into a thread."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import wraps
from typing import ParamSpec, TypeVar

from .callables import is_coroutine_function, name_of
from .errors import ConfigurationError
from .opening import enter_opening, openings_here

P = ParamSpec("P")
T = TypeVar("T")


def bind(fn: Callable[P, T]) -> Callable[P, T]:
    """A function that calls ``fn`` with the contexts that are current now, in whichever thread it is called.

    A thread or an executor starts with no context; tasks, `asyncio.to_thread` and sync endpoints inherit theirs. `bind`
    may be called anywhere, and the result any number of times, also concurrently. The context has to be open while
    ``fn`` runs: wait for the thread, or using the context raises `ContextClosedError`. What ``fn`` raises is raised.

    Raises:
        ConfigurationError: if ``fn`` is a coroutine function: what it returns would run somewhere else.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from polydatum import DataManager, bind
        >>> dm = DataManager()
        >>> def who():
        ...     return dm.require_active_context().meta.user
        >>> with ThreadPoolExecutor() as pool, dm.context(meta={"user": "ann"}):
        ...     pool.submit(bind(who)).result()
        'ann'
    """
    if is_coroutine_function(fn):
        raise ConfigurationError(f"bind() is for threads; {name_of(fn)!r} is async, and its task inherits the context")
    here = copy_context()
    opening = openings_here()
    if opening:  # code that waits for that thread runs in them
        here.run(enter_opening, opening)

    @wraps(fn)
    def bound(*args: P.args, **kwargs: P.kwargs) -> T:
        return here.copy().run(fn, *args, **kwargs)  # a copy for each call: one cannot be entered twice at once

    return bound
