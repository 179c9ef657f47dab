"""What a context reports when one exchange with its server is cut or delayed, compared with what the server has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from polydatum.testing.backend_contract import Bench, gone
from tests.backends.proxy import Direction, Fault, Proxy

KINDS: list[tuple[Direction, float | None]] = [
    (direction, delay)
    for delay in (None, 0.05, *((0.5, 2.0) if os.environ.get("POLYDATUM_FAULTS") == "all" else ()))
    for direction in ("request", "reply")
]
"""Every exchange is cut, or comes late."""


class Report:
    """One context, with one fault in it, and the context after it."""

    def __init__(self, bench: Bench, context: Any, error: BaseException | None, request: bytes) -> None:
        self.key = bench.key()
        self.outcome = str(context.outcome)
        self.told = [record.type for record in context.outcome.errors]
        self.error = error
        found = bench.look()
        assert found in (None, "tea")  # never twice
        self.kept = found is not None
        self.request = request[:200]
        self.commits = bench.host.commit in request  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"<{self.outcome}, kept: {self.kept}, commits: {self.commits}, {self.error!r}, struck {self.request!r}>"

    @property
    def is_true(self) -> bool:
        """Whether the server has what the context said, and an answer without an error is of what was kept."""
        if self.outcome == "unknown":
            return True
        return self.kept == (self.outcome == "committed") == (self.error is None)


async def visit(bench: Bench, name: str = "") -> tuple[Any, BaseException | None]:
    """A typical context, which reads and writes; gives it, and what was raised."""
    try:
        async with bench.context() as ctx:
            await bench.read(ctx, name)
            await bench.write(ctx, name)
    except Exception as error:
        return ctx, error
    return ctx, None


def each_fault(host: Any, proxy: Proxy, direction: Direction, delay: float | None, **options: Any) -> Iterator[Report]:
    """Let every exchange of a context that connects, reads, writes and commits meet the fault, one after the other."""
    exchange = 0
    while True:
        reports: list[Report] = []
        host.run(_one(host, proxy, Fault(exchange, direction, delay), reports, options))
        if not reports:
            break
        yield from reports
        exchange += 1
    assert exchange > 4


async def _one(host: Any, proxy: Proxy, fault: Fault, reports: list[Report], options: dict[str, Any]) -> None:
    bench = Bench(host, host.backend(**options))
    proxy.arm(fault)
    context, error = await visit(bench)
    if struck := proxy.struck:
        reports.append(Report(bench, context, error, proxy.requests[fault.exchange]))
    proxy.arm(None)
    async with bench.context() as ctx:
        await bench.write(ctx, "next")
    assert bench.look("next") == "tea"
    await bench.close()
    assert gone(host, 0) == (0, 0)
    if struck:
        assert reports[0].kept == (bench.look() is not None)


async def lost_commit(
    bench: Bench, proxy: Proxy, direction: Direction, *, writes: bool, lasts: bool = False, before_commit: Any = None
) -> Any:
    """A context whose COMMIT is cut; gives its outcome and what it raised. The connection is one of the pool."""

    async def once(name: str) -> Any:
        error = None
        try:
            async with bench.context() as ctx:
                await bench.read(ctx, name)
                if writes:
                    await bench.write(ctx, name)
                if before_commit:
                    await before_commit(ctx)
        except Exception as raised:
            error = raised
        return str(ctx.outcome), error

    await once("warm")
    proxy.arm(None)
    await once("counted")
    (exchange,) = [number for number, request in enumerate(proxy.requests) if bench.host.commit in request]  # type: ignore[attr-defined]
    proxy.arm(Fault(exchange, direction, lasts=lasts))
    reported = await once("cut")
    assert proxy.struck
    proxy.arm(None)
    return reported
