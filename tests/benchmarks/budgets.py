"""The rows of the tables and their budgets. Every budget is defined here, once.

A budget is a factor over the limit in the same run, or with ``Budget.absolute`` a value in the row's
unit. It applies to CPython 3.12 and newer; 3.11 may take ``ON_311`` times as much, unless the row says
otherwise.
"""

from dataclasses import dataclass

from tests.benchmarks.contenders import BARE

SLACK = 1.2
"""``--check`` fails a row that is worse than its budget by more than this factor."""

ON_311 = 1.3

SYNC, ASYNC, MEMORY = "core, sync", "core, async", "memory, growth, size, import"
HTTP = "HTTP, what a request that uses a resource adds to the bare framework"
AREAS = (SYNC, ASYNC, HTTP, MEMORY)


@dataclass(frozen=True)
class Budget:
    most: float
    absolute: bool = False
    on_311: float | None = None

    def on(self, python: tuple[int, int]) -> float:
        if python > (3, 11):
            return self.most
        return self.most * ON_311 if self.on_311 is None else self.on_311


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    name: str
    area: str
    title: str
    budget: Budget | None = None
    """None: the row is reported, but not judged."""
    unit: str = "µs"
    repeated: bool = True
    """Whether it is measured in several processes; False for figures that are the same in each."""
    times: int = 1
    """The number of processes that measure it in each pass."""
    over: str | None = None
    """The contender whose time is subtracted from all others: their figures are what they add to it."""


def _exactly(amount: float) -> Budget:
    return Budget(amount, absolute=True)


def _overhead(name: str, title: str) -> Row:
    return Row(name, HTTP, title, Budget(2.6), times=2, over=BARE)


ROWS = (
    Row("empty", SYNC, "empty context, opened and closed", Budget(2.8)),
    Row("one", SYNC, "context + 1 generator resource", Budget(2.9)),
    Row("five", SYNC, "context + chain of 5", Budget(2.3)),
    Row("full", SYNC, "context + service call that uses the resource", Budget(2.9)),
    Row("call", SYNC, "dal.items.get_item(1), no method middleware", Budget(1.1, on_311=1.2)),
    Row("nested_call", SYNC, "dal.a.b.c.find(1), no method middleware", Budget(1.1, on_311=1.2)),
    Row("call_using", SYNC, "dal.items.get_item(1) using an open resource", Budget(2.0)),
    Row("method_functions", SYNC, "3 method middleware as functions", Budget(4.1)),
    Row("method_generators", SYNC, "3 method middleware as generators", Budget(15.0)),
    Row("context_middleware", SYNC, "3 context middleware", Budget(2.5)),
    Row("failing", SYNC, "exception through a context with a resource", Budget(2.4)),
    Row("transactional", SYNC, "context with a transactional resource"),
    Row("session", SYNC, "context + a statement of a session of SQLAlchemy, in memory"),
    Row("on_commit", SYNC, "context with one on_commit hook"),
    Row("vetoed", SYNC, "context with a resource, vetoed by status"),
    Row("async_empty", ASYNC, "empty async context"),
    Row("async_one", ASYNC, "async context + 1 async resource", Budget(2.6)),
    Row("async_five", ASYNC, "async context + chain of 5", Budget(1.9)),
    Row("async_full", ASYNC, "async context + service call that uses the resource", Budget(2.6)),
    Row("async_sync_resource", ASYNC, "async context + 1 sync resource, x the async limit", Budget(1.4)),
    Row("async_suspending", ASYNC, "async resource whose teardown really suspends"),
    _overhead("http_starlette", "Starlette"),
    _overhead("http_fastapi", "FastAPI"),
    _overhead("http_flask", "Flask"),
    _overhead("http_django", "Django, WSGI"),
    Row("held_empty", MEMORY, "memory per open context, empty", _exactly(190), "B", repeated=False),
    Row("held_connection", MEMORY, "memory per open context, 1 resource", _exactly(530), "B", repeated=False),
    Row(
        "held_connection_later",
        MEMORY,
        "the same after 40 contexts without a resource",
        _exactly(530),
        "B",
        repeated=False,
    ),
    Row("garbage", MEMORY, "cyclic garbage per context", _exactly(0), "objects", repeated=False),
    Row("garbage_vetoed", MEMORY, "cyclic garbage per vetoed context", _exactly(0), "objects", repeated=False),
    Row("garbage_async", MEMORY, "cyclic garbage per async context", _exactly(0), "objects", repeated=False),
    Row("growth_objects", MEMORY, "growth over all contexts, objects", _exactly(0), "objects", repeated=False),
    Row(
        "growth_memory",
        MEMORY,
        "growth over all contexts, resident memory",
        _exactly(0),
        "KiB",
        repeated=False,
    ),
    Row(
        "crowded",
        MEMORY,
        "context + 1 resource with 10,000 resources and services registered, x the cost with 10",
        Budget(1.0, on_311=1.0),
    ),
    Row("register_resources", MEMORY, "register one of 10,000 resources", _exactly(15), "µs", repeated=False),
    Row("register_services", MEMORY, "register one of 10,000 services", _exactly(15), "µs", repeated=False),
    Row("import_time", MEMORY, "import polydatum, over a bare interpreter", _exactly(30), "ms", repeated=False),
    Row("import_foreign", MEMORY, "third-party modules it imports", _exactly(0), "modules", repeated=False),
)
BY_NAME = {row.name: row for row in ROWS}


def named(name: str) -> list[Row]:
    """The row of that name, or all rows of that prefix: ``http`` for ``http_flask`` and the others."""
    return [BY_NAME[name]] if name in BY_NAME else [row for row in ROWS if row.name.startswith(f"{name}_")]
