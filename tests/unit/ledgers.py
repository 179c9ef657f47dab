"""A transaction to test with: a list whose additions are pending until they commit, with savepoints."""

from __future__ import annotations

from typing import Any

from polydatum import AsyncTransaction, Transaction


class Mark:
    """A savepoint of a `Ledger`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.place = len(ledger.value)

    def release(self) -> None:
        self.ledger.reach("release")

    def rollback(self) -> None:
        self.ledger.reach("rollback to savepoint")
        del self.ledger.value[self.place :]


class Ledger(Transaction):
    """Services get the list of pending entries; `kept` has those that committed."""

    def __init__(self, kept: list[Any], log: Any = None, fails: dict[str, BaseException] | None = None) -> None:
        super().__init__([])
        self.kept = kept
        self.log = log
        self.fails = fails or {}

    def reach(self, step: str) -> None:
        if self.log is not None:
            self.log(step)
        if step in self.fails:
            raise self.fails[step]

    def prepare(self) -> None:
        self.reach("prepare")

    def wrote(self) -> bool:
        self.reach("wrote?")
        return bool(self.value)

    def commit(self) -> None:
        self.reach("commit")
        self.kept += self.value

    def rollback(self) -> None:
        self.reach("rollback")
        self.value.clear()

    def savepoint(self) -> Mark:
        self.reach("savepoint")
        return Mark(self)

    def close(self) -> None:
        self.reach("close")


class AsyncMark:
    def __init__(self, mark: Mark) -> None:
        self.mark = mark

    async def release(self) -> None:
        self.mark.release()

    async def rollback(self) -> None:
        self.mark.rollback()


class AsyncLedger(AsyncTransaction):
    """The same, awaited."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.ledger = Ledger(*args, **options)
        super().__init__(self.ledger.value)

    async def prepare(self) -> None:
        self.ledger.prepare()

    async def wrote(self) -> bool:
        return self.ledger.wrote()

    async def commit(self) -> None:
        self.ledger.commit()

    async def rollback(self) -> None:
        self.ledger.rollback()

    async def savepoint(self) -> AsyncMark:
        return AsyncMark(self.ledger.savepoint())

    async def close(self) -> None:
        self.ledger.close()
