"""What every stack is asked, and when an answer is right.

A check is about one request. Its view writes a row and then does what the check is named after; a right answer and the
rows in the file say the same. Those of Celery are about one task, whose state takes the place of the status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.truth.bank import ACCOUNTS


@dataclass(frozen=True)
class Observed:
    """What came of a check.

    Attributes:
        answer: the status that the client got (None: no answer at all), or the state of a task.
        kept: how many rows it left.
        lines: how many lines of a streamed body arrived.
        complete: whether the body came to its end.
    """

    answer: int | str | None
    kept: int
    lines: int = 0
    complete: bool = True

    @property
    def is_error(self) -> bool:
        """Whether the client, or whoever waits for the task, hears of a failure of ours."""
        return self.answer is None or self.answer == "FAILURE" or (isinstance(self.answer, int) and self.answer >= 500)


@dataclass(frozen=True)
class Check:
    """A request or a task.

    Attributes:
        name: what the view is told to do.
        heading: of its column.
        is_right: whether what came of it is what it should be.
        control: without it being right, the stack is not set up well, and nothing of it counts.
    """

    name: str
    heading: str
    is_right: Callable[[Observed], bool]
    control: bool = False


def in_order(checks: Iterable[Check]) -> list[Check]:
    """The order in which they are made. A refused commit comes last: SQLite leaves its transaction open, which no other
    database does, and whoever writes next would be blamed for it.
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
    # The same as the first: nothing of what came between still holds the database.
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
