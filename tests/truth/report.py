"""The table of results, and the list of stacks with their pages."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Iterator, Mapping, Sequence

from tests.truth.bank import ACCOUNTS
from tests.truth.checks import TASKS, WEB, Check, Observed
from tests.truth.stacks import TITLES, Stack, version_of

RIGHT, WRONG = "yes", "**no**"
Seen = Mapping[str, Observed]
"""The results of a stack, by check."""


def markdown(observed: Mapping[Stack, Seen]) -> str:
    """The two tables, of requests and of tasks, as on the page."""
    return "\n\n".join(
        "\n".join(_table(checks, {stack: seen for stack, seen in observed.items() if stack.is_tasks is is_tasks}))
        for checks, is_tasks in ((WEB, False), (TASKS, True))
    )


def cells(stack: Stack, seen: Seen) -> list[str]:
    """The cells in the row of a stack, without its name."""
    return [_cell(check, seen[check.name]) for check in _asked(TASKS if stack.is_tasks else WEB)]


def is_right(stack: Stack, seen: Seen) -> bool:
    """Whether a stack passes all checks."""
    return not any(cell.startswith(WRONG) for cell in cells(stack, seen))


def surroundings() -> str:
    """The versions of everything that the stacks were run with."""
    shared = [
        "uvicorn",
        "gunicorn",
        "sqlalchemy",
        "fastapi",
        "starlette",
        "litestar",
        "flask",
        "pyramid",
        "django",
        "celery",
    ]
    found = [f"{TITLES.get(name, name)} {version_of(name)}" for name in shared if version_of(name)]
    return f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {', '.join(found)}"


def _table(checks: Sequence[Check], observed: Mapping[Stack, Seen]) -> Iterator[str]:
    headings = ["", *(check.heading for check in _asked(checks))]
    yield f"| {' | '.join(headings)} |"
    yield f"| {' | '.join('---' for _ in headings)} |"
    yield from (f"| {' | '.join([_versioned(stack), *cells(stack, seen)])} |" for stack, seen in observed.items())


def _asked(checks: Sequence[Check]) -> list[Check]:
    return [check for check in checks if not check.control]


def _versioned(stack: Stack) -> str:
    if stack.is_ours:
        return f"**{stack.name}**"
    title = TITLES.get(stack.distribution, stack.distribution)
    return f"{title} {version_of(stack.distribution)}{stack.name.removeprefix(title)}"


def _cell(check: Check, seen: Observed) -> str:
    if check.name == "streamed":
        observed = f"{seen.lines}/{len(ACCOUNTS)}"
    else:
        answer = "none" if seen.answer is None else seen.answer
        observed = f"{answer}{'' if seen.complete else ' cut off'}/{seen.kept}"
    return f"{RIGHT if check.is_right(seen) else WRONG} {observed}"
