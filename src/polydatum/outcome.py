"""How a Context ended (`Outcome`), what its user asked for (`Wishes`), and how errors rank."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

# Of several errors the caller gets the one of the lowest rank; within a rank the first in time.
INTERRUPT, CANCELLATION, BODY, COMMIT, TEARDOWN = range(5)


def rank_of(error: BaseException, phase: int) -> int:
    """The rank of an error that was raised in a phase; a user's own BaseException ranks with its phase."""
    if isinstance(error, Exception):
        return phase
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return INTERRUPT
    return CANCELLATION if is_cancellation(error) else phase


def is_cancellation(error: BaseException) -> bool:
    """Whether an error is the GeneratorExit of a generator or the cancellation of a task."""
    if isinstance(error, GeneratorExit):
        return True
    # Looked up, not imported: a program that has not loaded them cannot be cancelled by them.
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and isinstance(error, asyncio.CancelledError):
        return True
    trio = sys.modules.get("trio")
    return trio is not None and isinstance(error, trio.Cancelled)


BODY_PLACE = "the body of the context"


def describe_error(error: BaseException) -> str:
    """The message of an error, or that its ``__str__`` fails."""
    try:
        return str(error)
    except Exception as failure:
        return f"<message not readable: {type(failure).__name__}>"


def add_note(error: BaseException, note: str) -> None:
    """Note on an error, once, where it happened or what else went wrong."""
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


SQLITE_THREADS = (
    "a sync endpoint runs in a worker thread, and its context may close in another: "
    "open the connection with sqlite3.connect(..., check_same_thread=False); a context is used by one thread at a time"
)


def advise(error: BaseException, context: Any) -> None:
    """Note what to do on an error that users meet because of Polydatum, and whose own message does not tell."""
    touched: Any = getattr(error, "obj", None)
    if type(error) is AttributeError and touched is context:
        add_note(error, str(context._unknown(error.name)))
    elif type(error).__module__ == "sqlite3" and "same thread" in str(error):
        add_note(error, SQLITE_THREADS)


class ErrorRecord(NamedTuple):
    """One error raised while a Context ended: what it was and where, without its live traceback."""

    type: type[BaseException]
    message: str
    where: str


class Outcome(str):
    """How a Context ended, as one word with details.

    It *is* the word, so that it compares, prints and serializes as a string:

    * ``"committed"``: everything was kept.
    * ``"rolled_back"``: nothing was kept.
    * ``"unknown"``: it cannot be known what was kept, as the connection was lost while COMMIT was in flight, or a
      commit exceeded the teardown limit or was interrupted.
    * ``"partial"``: something committed, or may have, before a later step failed. Code that ran to its end after its
      ``yield`` counts as a commit, as the engine cannot see inside it: a generator resource, and a middleware that
      opened a resource when it was set up or yields a value, such as its transaction.

    Attributes:
        reason: why it was not committed, in words; None if it was.
        http_status: the final HTTP status the adapter gave, or None.
        suppressed: the exception that a context middleware swallowed, or None. An adapter without an answer raises it.

    Example:
        >>> Outcome("committed") == "committed"
        True
    """

    reason: str | None = None
    http_status: int | None = None
    suppressed: BaseException | None = None

    def __new__(
        cls,
        word: str,
        *,
        errors: list[ErrorRecord] | None = None,
        reason: str | None = None,
        http_status: int | None = None,
        suppressed: BaseException | None = None,
    ) -> Outcome:
        """The word with its details; created by the engine at the end of a context."""
        self = super().__new__(cls, word)
        self._errors = [] if errors is None else errors
        self.reason = reason
        self.http_status = http_status
        self.suppressed = suppressed
        return self

    _errors: list[ErrorRecord]

    @property
    def errors(self) -> tuple[ErrorRecord, ...]:
        """Every error raised on the way, including the one that the caller gets, in chronological order."""
        return tuple(self._errors)


COMMITTED = Outcome("committed")
"""The outcome of every context that committed without an HTTP status or an error: one shared object."""


_committed: dict[int, Outcome] = {}


def committed_with(status: int) -> Outcome:
    """The outcome of a clean commit that was answered with a status, created once for each status."""
    outcome = _committed.get(status)
    if outcome is None:
        outcome = Outcome("committed", http_status=status)
        if len(_committed) < 100:
            _committed[status] = outcome
    return outcome


def rolled_back_by(error: BaseException, status: int | None, context: Any) -> Outcome:
    """The outcome of a clean rollback because of an error of the body."""
    outcome: Outcome = str.__new__(Outcome, "rolled_back")  # no constructor: every failing request pays for it
    kind = type(error)
    if kind is AttributeError or kind.__module__ == "sqlite3":
        advise(error, context)
    outcome._errors = [ErrorRecord(kind, describe_error(error), BODY_PLACE)]
    outcome.reason = f"{kind.__name__} was raised"
    if status is not None:
        outcome.http_status = status
    return outcome


class Wishes:
    """What the user asked for at the end of one Context. Created with the first wish: most contexts have none."""

    __slots__ = ("before_commit", "commit_on_error", "on_commit", "on_rollback", "rollback_only")

    def __init__(self) -> None:
        self.rollback_only: str | None = None
        self.commit_on_error = False
        self.before_commit: list[Callable[[], Any]] = []
        self.on_commit: list[Callable[[], Any]] = []
        self.on_rollback: list[Callable[[], Any]] = []

    def all_hooks(self) -> list[Callable[[], Any]]:
        """The hooks of all three events."""
        return [*self.before_commit, *self.on_commit, *self.on_rollback]
