"""Tables of results, for the terminal and as Markdown for the documentation."""

from collections.abc import Sequence

from tests.benchmarks.budgets import AREAS, SLACK
from tests.benchmarks.contenders import LIMIT, OURS
from tests.benchmarks.results import Figure, Results, RowResult

COLUMNS = ("work", "min", "median", "x limit", "best peer", "ours / best peer", "budget", "")
NONE = "-"
OVER = "OVER"


def _amount(value: float, unit: str) -> str:
    if unit == "µs" and value < 1:
        return f"{value * 1000:.0f} ns"
    if unit in ("µs", "ms"):
        return f"{value:.2f} {unit}"
    return f"{value:,.3f}".rstrip("0").rstrip(".") + f" {unit}"


def _factor(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _contender(result: RowResult, name: str) -> str:
    """One contender's figure, with its factor over the limit if there is one."""
    figure = result.figures.get(name)
    if figure is None:
        return NONE
    amount = _amount(figure.minimum, result.row.unit)
    factor = result.over_limit(name)
    return amount if factor is None or name == LIMIT else f"{amount} ({factor:.2f}x)"


def _title(result: RowResult) -> str:
    """The row's title, with the time that was subtracted from its figures."""
    row = result.row
    return row.title if result.base is None else f"{row.title} ({row.over} {_amount(result.base.minimum, row.unit)})"


def _cells(results: Results, result: RowResult) -> tuple[str, ...]:
    unit = result.row.unit
    ours: Figure | None = result.ours
    budget = results.budget(result)
    absolute = result.row.budget is not None and result.row.budget.absolute
    peer = result.best_peer
    return (
        _title(result),
        NONE if ours is None else _amount(ours.minimum, unit),
        NONE if ours is None else _amount(ours.median, unit),
        _factor(result.over_limit(OURS)),
        NONE if peer is None else f"{peer} {_contender(result, peer)}",
        _factor(result.over_peer),
        "report" if budget is None else _amount(budget, unit) if absolute else f"{budget:.2f}x",
        OVER if results.over_budget(result) else "",
    )


def _by_area(results: Results) -> list[tuple[str, list[RowResult]]]:
    areas = [(area, [result for result in results.rows if result.row.area == area]) for area in AREAS]
    return [(area, rows) for area, rows in areas if rows]


def _names(rows: Sequence[RowResult]) -> list[str]:
    """The contenders of some rows, the limit first, then ours."""
    found = {name: None for result in rows for name in result.figures}
    return [LIMIT, OURS, *(name for name in found if name not in (LIMIT, OURS))]


def _aligned(table: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _markdown(table: Sequence[Sequence[str]]) -> str:
    head, *body = table
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *body])


def _main_table(results: Results, rows: Sequence[RowResult]) -> list[Sequence[str]]:
    return [COLUMNS, *(_cells(results, result) for result in rows)]


def _full_table(rows: Sequence[RowResult]) -> list[Sequence[str]]:
    names = _names(rows)
    return [
        ("work", *names),
        *((_title(result), *(_contender(result, name) for name in names)) for result in rows),
    ]


def _about(results: Results) -> str:
    version = ".".join(map(str, results.python))
    return (
        f"{results.implementation} {version}, minima over {results.processes} processes, "
        f"growth over {results.contexts:,} contexts; min and median are ours"
    )


def _remarks(results: Results) -> list[str]:
    """What is missing from the tables, and why; and the rows over their budget."""
    remarks = [f"{name}: {reason}" for name, reason in results.missing.items()]
    remarks += [
        f"{result.name}: {name} left out: {reason}"
        for result in results.rows
        for name, reason in result.problems.items()
    ]
    remarks += [
        f"{result.name}: over its budget by more than {SLACK - 1:.0%}"
        if result.judged is not None
        else f"{result.name}: could not be judged"
        for result in results.failing()
    ]
    return remarks


def text(results: Results) -> str:
    parts = [_about(results)]
    parts += [f"{area}\n\n{_aligned(_main_table(results, rows))}" for area, rows in _by_area(results)]
    parts += ["\n".join(_remarks(results))]
    return "\n\n\n".join(part for part in parts if part)


def markdown(results: Results) -> str:
    """The part for the documentation: per area a table of budgets, and one with every contender."""
    parts = [_about(results) + "."]
    for area, rows in _by_area(results):
        parts += [f"## {area[0].upper()}{area[1:]}", _markdown(_main_table(results, rows))]
        parts += ["All contenders:", _markdown(_full_table(rows))]
    if remarks := _remarks(results):
        parts += ["## Remarks", "\n".join(f"* {remark}" for remark in remarks)]
    return "\n\n".join(parts) + "\n"
