"""The report, as text and as the table of the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.transparency.comparing import Comparison

HEADS = ("suite", "adapter", "tests", "passed bare", "passed with us", "contexts", "differ")


def text(comparisons: Sequence[Comparison]) -> str:
    """The table, then every difference, then what is wrong."""
    rows = [HEADS, *map(_row, comparisons)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += _differences(comparisons)
    lines += [f"PROBLEM {problem}" for comparison in comparisons for problem in comparison.problems()]
    return "\n".join(lines)


def markdown(comparisons: Sequence[Comparison]) -> str:
    """The table as Markdown."""
    rows = [HEADS, ("---", "---", *["---:"] * (len(HEADS) - 2)), *map(_row, comparisons)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _row(comparison: Comparison) -> tuple[str, ...]:
    return (
        f"{comparison.suite} {comparison.version}",
        comparison.position,
        f"{len(comparison.bare.outcomes):,}",
        f"{comparison.bare.passed:,}",
        f"{comparison.ours.passed:,}",
        f"{comparison.ours.contexts.get('opened', 0):,}",
        f"{len(comparison.differences):,}",
    )


def _differences(comparisons: Sequence[Comparison]) -> Iterator[str]:
    for comparison in comparisons:
        for found in comparison.differences:
            yield f"{comparison.suite}, {comparison.position}: {found.test}: {found.bare}, with us {found.ours}"
            yield f"    {found.reason or 'UNKNOWN: ' + found.message}"
