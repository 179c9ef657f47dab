"""Core, async: the same work with ``async with`` and resources that are async generators."""

import asyncio
from collections.abc import Mapping

from tests.benchmarks.contenders import AsyncWork, Contender
from tests.benchmarks.proofs import Proof, prove_async
from tests.benchmarks.rounds import Measured, Sample, Settings, async_sample_of, take_turns

PROOFS = {
    "async_empty": Proof(),
    "async_one": Proof(opens=1),
    "async_five": Proof(opens=5),
    "async_full": Proof(opens=1, enters=("get_item",)),
    "async_sync_resource": Proof(opens=1),
    "async_suspending": Proof(opens=1),
}


def measure(row: str, contenders: Mapping[str, Contender], settings: Settings) -> Measured:
    """Time one row."""
    works = {name: contender.async_[row] for name, contender in contenders.items() if row in contender.async_}
    return time_works(works, dict.fromkeys(works, PROOFS[row]), settings)


def time_works(works: Mapping[str, AsyncWork], proofs: Mapping[str, Proof], settings: Settings) -> Measured:
    """Time works by contender, in turn on one event loop, each sample in a task of its own."""
    measured = Measured()
    samples: dict[str, Sample] = {}
    with asyncio.Runner() as runner:
        opened = []
        for name, work in works.items():
            try:
                runner.run(prove_async(work, proofs[name]))
                manager = work()
                run = runner.run(manager.__aenter__())
            except Exception as error:
                measured.problems[name] = f"{type(error).__name__}: {error}"
                continue
            opened.append(manager)
            samples[name] = async_sample_of(run, runner)
        measured.samples = take_turns(samples, settings.rounds)
        for manager in opened:
            runner.run(manager.__aexit__(None, None, None))
    return measured
