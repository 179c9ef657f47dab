"""The fast path of ``with ctx:`` and ``async with ctx:``: the four methods of `Context`, bound to one manager.

They do the same, with the manager's ContextVar in closures and no frame in between. Read `polydatum.context` first; a
generated class uses these unless its context class overrides the methods.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from .closing import aclose, close, close_resources
from .errors import ContextReusedError
from .opening import CLOSED, CLOSING, CREATED, OPEN, UnderWay
from .outcome import Outcome
from .setting_up import aset_up, set_up
from .waiting import home_of_running_task


def block_methods(var: ContextVar[Any], under_way: UnderWay, dal: Any = None) -> dict[str, Callable[..., Any]]:
    """``__enter__``, ``__exit__`` and their async twins for the contexts of one manager.

    With ``dal``, entering returns it in place of the context.
    """
    get, set_, reset = var.get, var.set, var.reset

    def __enter__(self: Any) -> Any:
        if self._state is not CREATED:
            raise ContextReusedError(self._state)
        self._state = OPEN
        self._token = set_(self)
        if self._sets_up:
            set_up(self)
        return self if dal is None else dal

    def __exit__(
        self: Any, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        outcome = None
        try:
            if self._state is not OPEN:
                self._close(exc, None)
            else:
                self._state = CLOSING  # `Context._claim_close`, inlined
                if exc is None and self._plain and not under_way:
                    if self._opened is None:
                        self._state = CLOSED  # before the check, so that a closer that comes now does not begin to wait
                        if self._closers_waiting is not None:  # pragma: no cover - it came in these three lines
                            self._wake_closers()
                    else:
                        close_resources(self, None)
                else:
                    outcome = close(self, exc, None)
        finally:
            if get() is self:
                try:
                    reset(self._token)
                except (ValueError, RuntimeError):
                    pass  # a foreign token: see Context.leave
        return exc is not None and outcome is not None and outcome.suppressed is not None

    async def __aenter__(self: Any) -> Any:
        if self._state is not CREATED:
            raise ContextReusedError(self._state)
        self._state = OPEN
        self._home = home_of_running_task()
        self._token = set_(self)
        if self._sets_up:
            await aset_up(self)
        return self if dal is None else dal

    async def __aexit__(
        self: Any, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        outcome: Any = None
        try:
            if self._state is not OPEN:
                await self._aclose(exc, None)
            else:
                self._state = CLOSING
                outcome = aclose(self, exc, None)
                if type(outcome) is not Outcome:
                    outcome = await outcome
        finally:
            if get() is self:
                try:
                    reset(self._token)
                except (ValueError, RuntimeError):
                    pass
        return exc is not None and outcome is not None and outcome.suppressed is not None

    return {"__enter__": __enter__, "__exit__": __exit__, "__aenter__": __aenter__, "__aexit__": __aexit__}
