"""HTTP: a request that uses a resource through a service, in each framework, and in the bare framework."""

import random
from collections.abc import Mapping
from dataclasses import replace

from tests.benchmarks import async_, sync
from tests.benchmarks.contenders import BARE, Contender
from tests.benchmarks.proofs import Proof
from tests.benchmarks.rounds import Measured, Settings

PROOF = Proof(opens=1, enters=("get_item",))
MORE_ROUNDS = 5


def measure(row: str, contenders: Mapping[str, Contender], settings: Settings) -> Measured:
    """Time one row: whole requests, from which `results` subtracts those of the bare framework.

    The application built first is up to 2 µs slower for the whole life of the process, so the order is random.
    """
    names = random.sample(list(contenders), len(contenders))
    proofs = dict.fromkeys(names, PROOF) | {BARE: Proof()}
    settings = replace(settings, rounds=settings.rounds * MORE_ROUNDS)
    async_works = {name: contenders[name].async_[row] for name in names if row in contenders[name].async_}
    sync_works = {name: contenders[name].sync[row] for name in names if row in contenders[name].sync}
    if async_works:
        measured = async_.time_works(async_works, proofs, settings)
    else:
        measured = sync.time_works(sync_works, proofs, settings)
    for name in contenders:
        if name not in async_works and name not in sync_works:
            measured.problems[name] = "it has no integration"
    return measured
