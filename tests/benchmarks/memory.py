"""Memory, garbage, growth, many registrations, import.

Bytes of an open context: many are open at once, each in its own ``contextvars.Context`` as in a server,
and ``tracemalloc`` counts. The ``contextvars.Context`` is subtracted, for an ambient contender together
with the entry of its current context, so that only the contender's own bytes remain.
"""

import asyncio
import gc
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import Any

from tests.benchmarks.contenders import LIMIT, OURS, AsyncWork, Contender, HeldWork, Registering, SyncWork
from tests.benchmarks.proofs import Proof, Unproved, prove_async, prove_sync
from tests.benchmarks.resources import tally
from tests.benchmarks.rounds import Measured, Settings, quiet_collector, sample_of, take_turns

HELD = 2_000
FEW, MANY = 10, 10_000
GARBAGE_TIMES = 1_000
IMPORTS = 5

_ONE_RESOURCE = Proof(opens=1)
_FULL = Proof(opens=1, enters=("get_item",))
_entry: ContextVar[None] = ContextVar("entry")


def measure(row: str, contenders: Mapping[str, Contender], settings: Settings) -> Measured:
    """Measure one row; a contender that fails is reported, and the others go on."""
    if row == "crowded":
        return _crowded(contenders[OURS], settings) if OURS in contenders else Measured()
    measured = Measured()
    for name, contender in contenders.items():
        try:
            samples = _samples(row, contender, settings)
        except Exception as error:
            measured.problems[name] = f"{type(error).__name__}: {error}"
        else:
            if samples:
                measured.samples[name] = samples
    return measured


def _samples(row: str, contender: Contender, settings: Settings) -> list[float]:
    """A contender's figures for a row; empty if it has no equivalent."""
    match row:
        case "held_empty" if work := contender.held.get(row):
            return [_bytes_per_open_context(work, resources=0, ambient=contender.ambient)]
        case "held_connection" | "held_connection_later" if work := contender.held.get(row):
            return [_bytes_per_open_context(work, resources=1, ambient=contender.ambient)]
        case "garbage" if sync_work := contender.sync.get("full"):
            return [_garbage(sync_work, _FULL)]
        case "garbage_vetoed" if sync_work := contender.sync.get("vetoed"):
            return [_garbage(sync_work, _ONE_RESOURCE)]
        case "garbage_async" if async_work := contender.async_.get("async_full"):
            return [asyncio.run(_async_garbage(async_work))]
        case "growth_objects" if contender.name in (LIMIT, OURS):
            return [asyncio.run(_growth(contender, settings.contexts, _tracked_objects))]
        case "growth_memory" if contender.name in (LIMIT, OURS):
            return [asyncio.run(_growth(contender, settings.contexts, _resident_kib))]
        case "register_resources" | "register_services" if registering := contender.registering.get(row):
            return [_register(registering) for _ in range(settings.repeats)]
        case "import_time" if contender.name == OURS:
            return [taken for taken, _ in _imports(IMPORTS * settings.repeats)]
        case "import_foreign" if contender.name == OURS:
            return [float(len(foreign)) for _, foreign in _imports(1)]
    return []


def _set_entry() -> None:
    _entry.set(None)


def _nothing(*held: object) -> None:
    pass


def _bytes_each(open_one: Callable[[], Any], close_one: Callable[[Any], object], count: int) -> float:
    homes = [Context() for _ in range(count)]
    held: list[Any] = [None] * count
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number, home in enumerate(homes):
        held[number] = home.run(open_one)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for home, one in zip(homes, held, strict=True):
        home.run(close_one, one)
    return (after - before) / count


def _bytes_per_open_context(work: HeldWork, *, resources: int, ambient: bool) -> float:
    entry = _bytes_each(_set_entry, _nothing, HELD) if ambient else 0.0
    with work() as holder:
        tally.clear()
        each = _bytes_each(holder.open, holder.close, HELD)
    expected = HELD * resources
    if (tally.opened, tally.closed) != (expected, expected):
        raise Unproved(f"opened {tally.opened} and closed {tally.closed} resources instead of {expected}")
    return float(round(each - entry))


@contextmanager
def _collecting() -> Iterator[list[int]]:
    """Yields the number of objects that only the cyclic collector could free."""
    found: list[int] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        found.append(gc.collect())
    finally:
        gc.enable()


def _garbage(work: SyncWork, proof: Proof) -> float:
    prove_sync(work, proof)
    with work() as run:
        run(GARBAGE_TIMES)
        with _collecting() as found:
            run(GARBAGE_TIMES)
    return found[0] / GARBAGE_TIMES


async def _async_garbage(work: AsyncWork) -> float:
    await prove_async(work, _FULL)
    async with work() as run:
        await run(GARBAGE_TIMES)
        with _collecting() as found:
            await run(GARBAGE_TIMES)
    return found[0] / GARBAGE_TIMES


def _tracked_objects() -> float:
    gc.collect()
    return len(gc.get_objects())


def _resident_kib() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


async def _growth(contender: Contender, contexts: int, size: Callable[[], float]) -> float:
    """The growth of ``size`` after that many contexts, half of them sync and half async."""
    with contender.sync["full"]() as run:
        async with contender.async_["async_full"]() as async_run:

            async def contexts_pass(count: int) -> None:
                run(count // 2)
                await async_run(count // 2)

            await contexts_pass(contexts // 10)
            size()
            before = size()
            await contexts_pass(contexts)
            return size() - before


def _register(registering: Registering) -> float:
    """Microseconds per registration, including the first context, which may do deferred work."""
    register = registering(MANY)
    with quiet_collector():
        started = perf_counter_ns()
        register()
        return (perf_counter_ns() - started) / MANY / 1000


def _crowded(ours: Contender, settings: Settings) -> Measured:
    """Compare our own work with many registrations to the same work with few, which is the limit."""
    assert ours.one_among is not None
    few, many = ours.one_among(FEW), ours.one_among(MANY)
    prove_sync(few, _ONE_RESOURCE)
    prove_sync(many, _ONE_RESOURCE)
    with few() as run_few, many() as run_many:
        samples = {LIMIT: sample_of(run_few), OURS: sample_of(run_many)}
        return Measured(samples=take_turns(samples, settings.rounds))


_IMPORT = """
import json, sys, time
before = set(sys.modules)
started = time.perf_counter_ns()
import polydatum
taken = time.perf_counter_ns() - started
foreign = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(json.dumps([taken / 1e6, sorted(foreign - {"polydatum"})]))
"""


def _imports(count: int) -> list[tuple[float, list[str]]]:
    """Milliseconds for a fresh interpreter to import the compiled package, and the foreign modules it imported."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with TemporaryDirectory() as compiled:
        command = [sys.executable, "-X", f"pycache_prefix={compiled}", "-c", _IMPORT]
        printed = [
            subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
            for _ in range(count + 1)
        ]
    return [json.loads(one) for one in printed[1:]]
