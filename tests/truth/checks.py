"""The checks that every stack undergoes, and when an answer is right.

A check is one request. Its view writes a row and then does what the check is named after; the answer is right if it
agrees with the rows in the file. A check of a Celery stack is one task, whose state takes the place of the status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.truth.bank import ACCOUNTS


@dataclass(frozen=True)
class Observed:
    """The result of a check.

    Attributes:
        answer: the status that the client got (None: no answer at all), or the state of a task.
        kept: the number of committed rows.
        lines: the number of lines of a streamed body that arrived.
        complete: whether the body was complete.
    """

    answer: int | str | None
    kept: int
    lines: int = 0
    complete: bool = True

    @property
    def is_error(self) -> bool:
        """Whether the client, or the sender of the task, is told of a server failure."""
        return self.answer is None or self.answer == "FAILURE" or (isinstance(self.answer, int) and self.answer >= 500)


@dataclass(frozen=True)
class Check:
    """A request or a task.

    Attributes:
        name: what the view has to do.
        heading: the heading of its column.
        is_right: whether a result is right.
        control: whether a wrong result means that the stack is set up wrong, so that none of its results count.
    """

    name: str
    heading: str
    is_right: Callable[[Observed], bool]
    control: bool = False


def in_order(checks: Iterable[Check]) -> list[Check]:
    """The order of the checks. A refused commit comes last: SQLite, unlike other databases, then leaves its transaction
    open, and the next writer would be blamed for it.
    """
    return sorted(checks, key=lambda check: check.name == "refused")


def _refused_by_the_view(seen: Observed) -> bool:
    return isinstance(seen.answer, int) and 400 <= seen.answer < 500 and seen.complete and seen.kept == 0


WEB = (
    Check("paid", "paid", lambda seen: seen.answer == 201 and seen.complete and seen.kept == 1, control=True),
    Check("refused", "refused commit", lambda seen: seen.is_error and seen.kept == 0),
    Check("raised", "raised 409", _refused_by_the_view),
    Check("handled", "handled error", _refused_by_the_view),
    Check("returned", "returned 409", _refused_by_the_view),
    Check("crashed", "crash", lambda seen: seen.answer == 500 and seen.kept == 0),
    Check("streamed", "stream", lambda seen: seen.complete and seen.lines == len(ACCOUNTS)),
    # The same as the first: none of the checks between still locks the database.
    Check(
        "paid-again", "paid again", lambda seen: seen.answer == 201 and seen.complete and seen.kept == 1, control=True
    ),
)

TASKS = (
    Check("paid", "paid", lambda seen: seen.answer == "SUCCESS" and seen.kept == 1, control=True),
    Check("refused", "refused commit", lambda seen: seen.is_error and seen.kept == 0),
    Check("crashed", "failed task", lambda seen: seen.is_error and seen.kept == 0),
    Check("retried", "retried task", lambda seen: seen.answer == "SUCCESS" and seen.kept == 1),
)
