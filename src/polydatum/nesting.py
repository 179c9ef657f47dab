"""The open `ctx.nested()` blocks of a Context: which code runs inside the innermost one, and which beside it.

A savepoint undoes whatever its connection was told meanwhile. So a second task must not open a block, or register a hook,
beside a block that may still roll back: what it did would be gone with it, although it was told that all went well.
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
    """A block while it is open, on top of the one around it."""

    def __init__(self, context: Any, wanted: str) -> None:
        refuse_beside(context, wanted)
        self._context = context
        self._outer: OpenBlock | None = context._block
        self._entered_by = _running_in(context)
        self._token = _entered.set(self)
        context._block = self

    def end(self) -> None:
        """Take it off, and what an abandoned thread has left on top of it."""
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
        """Whether the running code is neither what entered the block nor was started inside of it."""
        entered = _entered.get()
        while entered is not None:
            if entered is self:
                return False
            entered = entered._outer
        here = _running_in(self._context)
        return None not in (here, self._entered_by) and here != self._entered_by


def refuse_beside(context: Any, wanted: str) -> None:
    """Refuse what the rollback of another task's open block would undo.

    Raises:
        ConcurrentBlockError: if such a block is open.
    """
    block = context._block
    if block is not None and block.is_beside():
        raise ConcurrentBlockError(wanted)


def _running_in(context: Any) -> Any:
    """What tells pieces of code apart that run at once: the thread, in an async context the task.

    None in a thread of an async context: a framework may enter a block in one such thread and leave it in another.
    """
    return get_ident() if context._home is None else running_task()
