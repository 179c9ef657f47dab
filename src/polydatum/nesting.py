"""The open `ctx.nested()` blocks of a Context: which code runs inside the innermost one, and which beside it.

Rolling back to a savepoint undoes everything done on its connection since. So a second task must not open a block, or
register a hook, beside a block that may still roll back: its work would be undone after it was reported as successful.
"""

from __future__ import annotations

from contextvars import ContextVar
from threading import get_ident
from typing import Any

from .errors import ConcurrentBlockError
from .waiting import running_task

_entered: ContextVar[OpenBlock | None] = ContextVar("polydatum_nested", default=None)
"""The block that the running code has entered; child tasks, and threads that got a copy of the context, inherit it."""


class OpenBlock:
    """An open block, on top of the stack of the blocks around it."""

    def __init__(self, context: Any, wanted: str) -> None:
        refuse_beside(context, wanted)
        self._context = context
        self._outer: OpenBlock | None = context._block
        self._entered_by = _running_in(context)
        self._token = _entered.set(self)
        context._block = self

    def end(self) -> None:
        """Remove the block from the stack, and any block on top of it that an abandoned thread has left there."""
        top = self._context._block
        while top is not None and top is not self:
            top = top._outer
        if top is self:
            self._context._block = self._outer
        if _entered.get() is self:
            try:
                _entered.reset(self._token)
            except ValueError:  # it was entered in another copy of the context
                _entered.set(self._outer)

    def is_beside(self) -> bool:
        """Whether the running code neither entered the block nor was started inside it."""
        entered = _entered.get()
        while entered is not None:
            if entered is self:
                return False
            entered = entered._outer
        here = _running_in(self._context)
        return None not in (here, self._entered_by) and here != self._entered_by


def refuse_beside(context: Any, wanted: str) -> None:
    """Refuse an operation that the rollback of another task's open block would undo.

    Raises:
        ConcurrentBlockError: if such a block is open.
    """
    block = context._block
    if block is not None and block.is_beside():
        raise ConcurrentBlockError(wanted)


def _running_in(context: Any) -> Any:
    """Identifies code that may run concurrently: by its thread or, in an async context, by its task.

    None in a worker thread of an async context: a framework may enter a block in one and leave it in another.
    """
    return get_ident() if context._home is None else running_task()
