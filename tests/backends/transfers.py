"""Four at a time transfer between five accounts: what collides is tried again, and no money is made or lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

ACCOUNTS = 5
OPENING_BALANCE = 100
TRANSFERS = 25
ATTEMPTS = 12


class Transfers:
    """How often a transfer began, and how often it was asked for."""

    def __init__(self, bench: Any, transfer: Callable[[Any, str, str, int], Any]) -> None:
        self.bench = bench
        self.transfer = transfer
        self.begun = 0

    async def run(self) -> None:
        if self.bench.host.is_async:
            await asyncio.gather(*(self._many_async(seed) for seed in range(4)))
        else:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(self._many, range(4)))

    @property
    def asked(self) -> int:
        return 4 * TRANSFERS

    def _choices(self, seed: int) -> list[tuple[str, str, int]]:
        chance = random.Random(seed)
        return [
            (self.bench.key(str(source)), self.bench.key(str(target)), chance.randint(1, 20))
            for source, target in (chance.sample(range(ACCOUNTS), 2) for _ in range(TRANSFERS))
        ]

    def _many(self, seed: int) -> None:
        for choice in self._choices(seed):

            def once(dal: object, choice: tuple[str, str, int] = choice) -> None:
                self.begun += 1
                self.transfer(self.bench.manager.require_active_context().db, *choice)

            self.bench.manager.run(once, attempts=ATTEMPTS)

    async def _many_async(self, seed: int) -> None:
        for choice in self._choices(seed):

            async def once(dal: object, choice: tuple[str, str, int] = choice) -> None:
                self.begun += 1
                await self.transfer(await self.bench.manager.require_active_context().db, *choice)

            await self.bench.manager.arun(once, attempts=ATTEMPTS)
