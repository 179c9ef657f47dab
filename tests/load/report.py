"""The table, what it was made with, and what is below the goal."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from tests.load.measuring import Measured, Ratio, p99, rate

GOAL = 0.97
"""Of the throughput by hand."""
HEADINGS = ("host", "database", "endpoint", *("requests/s", "by hand", "ratio"), *("p99, ms", "by hand", "ratio"))
TITLES = {
    "starlette": "Starlette",
    "fastapi": "FastAPI",
    "flask": "Flask",
    "django": "Django",
    "sqlite": "SQLite",
    "postgres": "PostgreSQL",
}
VERSIONS = ("starlette", "fastapi", "flask", "django", "sqlalchemy", "psycopg", "uvicorn", "gunicorn")


def markdown(found: Sequence[Measured]) -> str:
    """A line for each cell."""
    return "\n".join(_lines(found))


def _lines(found: Sequence[Measured]) -> Iterator[str]:
    yield f"| {' | '.join(HEADINGS)} |"
    yield "|---|---|---|---:|---:|---:|---:|---:|---:|"
    for one in found:
        cells = (
            TITLES[one.host],
            TITLES[one.database],
            one.endpoint,
            f"{rate(one.ours):.0f}",
            f"{rate(one.theirs):.0f}",
            _shown(one.ratio(rate)),
            f"{p99(one.ours):.1f}",
            f"{p99(one.theirs):.1f}",
            _shown(one.ratio(p99)),
        )
        yield f"| {' | '.join(cells)} |"


def _shown(ratio: Ratio) -> str:
    return f"{ratio.median:.2f} ({ratio.least:.2f} to {ratio.most:.2f})"


def below(found: Sequence[Measured]) -> list[str]:
    """What does not reach the goal."""
    return [
        f"{TITLES[one.host]}, {TITLES[one.database]}, {one.endpoint}: {one.ratio(rate).median:.3f}"
        for one in found
        if one.ratio(rate).median < GOAL
    ]


def surroundings() -> str:
    """What it was measured with."""
    versions = ", ".join(f"{TITLES.get(name, name)} {version(name)}" for name in VERSIONS)
    return f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {versions}"
