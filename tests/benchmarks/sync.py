"""Core, sync: contexts, resources, calls and middleware without an event loop."""

from collections.abc import Mapping
from contextlib import ExitStack
from contextvars import Context, copy_context

from tests.benchmarks.contenders import Contender, SyncWork
from tests.benchmarks.proofs import Proof, prove_sync
from tests.benchmarks.rounds import Measured, Sample, Settings, sample_of, take_turns

PROOFS = {
    "empty": Proof(),
    "one": Proof(opens=1),
    "five": Proof(opens=5),
    "full": Proof(opens=1, enters=("get_item",)),
    "call": Proof(enters=("get_item",)),
    "nested_call": Proof(enters=("find",)),
    "call_using": Proof(stays_open=1, enters=("get_item",)),
    "method_functions": Proof(enters=("outer", "middle", "inner", "get_item")),
    "method_generators": Proof(enters=("outer", "middle", "inner", "get_item")),
    "context_middleware": Proof(enters=("outer", "middle", "inner")),
    "failing": Proof(opens=1),
    "transactional": Proof(opens=1, enters=("prepare", "commit", "close")),
    "session": Proof(opens=1),
    "on_commit": Proof(enters=("hook",)),
    "vetoed": Proof(opens=1),
}


def measure(row: str, contenders: Mapping[str, Contender], settings: Settings) -> Measured:
    """Time one row."""
    works = {name: contender.sync[row] for name, contender in contenders.items() if row in contender.sync}
    return time_works(works, dict.fromkeys(works, PROOFS[row]), settings)


def time_works(works: Mapping[str, SyncWork], proofs: Mapping[str, Proof], settings: Settings) -> Measured:
    """Time works by contender, each in a ``contextvars.Context`` of its own."""
    measured = Measured()
    samples: dict[str, Sample] = {}
    with ExitStack() as stack:
        for name, work in works.items():
            try:
                copy_context().run(prove_sync, work, proofs[name])
                home = copy_context()
                opened = work()
                run = home.run(opened.__enter__)
            except Exception as error:
                measured.problems[name] = f"{type(error).__name__}: {error}"
                continue
            stack.callback(home.run, opened.__exit__, None, None, None)
            samples[name] = _inside(home, sample_of(run))
        measured.samples = take_turns(samples, settings.rounds)
    return measured


def _inside(home: Context, sample: Sample) -> Sample:
    return lambda times: home.run(sample, times)
