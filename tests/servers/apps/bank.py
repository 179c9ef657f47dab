"""A bank on a SQLite file: the business of every application that the servers serve."""

from __future__ import annotations

import asyncio
import itertools
import os
import queue
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from typing import Any

from polydatum import Context, DataAccessLayer, DataManager, Service
from tests.servers.apps.gates import NEVER, wait, wait_async
from tests.servers.apps.journal import FOLDER, write

CONNECTIONS = 5
"""How many tellers there are."""
TEARDOWN_TIMEOUT = 1.0


class Opening:
    """One opening of a resource, with its lines in the journal."""

    _numbers = itertools.count(1)

    def __init__(self, resource: str, context: Context) -> None:
        self.key = context.meta.params["key"]
        self._resource = resource
        self._number = f"{os.getpid()}.{next(self._numbers)}"
        self.write("open")

    def write(self, event: str) -> None:
        write(f"{self._resource}.{event}", self.key, self._number)


def db(context: Context) -> Iterator[sqlite3.Connection]:
    opening = Opening("db", context)
    try:
        with closing(sqlite3.connect(FOLDER / "bank.db", timeout=10, check_same_thread=False)) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                opening.write("rollback")
                raise
            else:
                connection.commit()
                opening.write("commit")
    finally:
        opening.write("close")


class Visitor:
    def __init__(self, key: str) -> None:
        self.key = key


def visitor(context: Context) -> Iterator[Visitor]:
    """Who asks, by the request that opened it."""
    opening = Opening("visitor", context)
    try:
        try:
            yield Visitor(opening.key)
        except BaseException:
            opening.write("rollback")
            raise
        else:
            opening.write("commit")
    finally:
        opening.write("close")


def teller(context: Context) -> Iterator[int]:
    """One of a few; who finds none free waits. Its close waits at the gate that the request names by ``close``."""
    number = _tellers.get(timeout=NEVER)
    opening = Opening("teller", context)
    try:
        yield number
    finally:
        opening.write("closing")
        wait(context.meta.params.get("close"))
        _tellers.put(number)
        opening.write("close")


_tellers: queue.Queue[int] = queue.Queue()
for _number in range(CONNECTIONS):
    _tellers.put(_number)


async def courier(context: Context) -> AsyncIterator[str]:
    """Async; each step of its end suspends. Its commit waits at the gate that the request names by ``close``."""
    opening = Opening("courier", context)
    try:
        await asyncio.sleep(0)
        try:
            yield opening.key
        except BaseException:
            await asyncio.sleep(0)
            opening.write("rollback")
            raise
        else:
            await wait_async(context.meta.params.get("close"))
            opening.write("commit")
    finally:
        await asyncio.sleep(0)
        opening.write("close")


class AccountService(Service[Any]):
    def transfer(self, *, fail: str | None = None) -> None:
        """Move 1 from ann to bob. With ``fail="commit"`` bob is somebody without an account, which the commit notices."""
        key = self._ctx.meta.params["key"]
        payee = "nobody" if fail == "commit" else "bob"
        self._ctx.db.execute("INSERT INTO transfers VALUES (?, ?)", (key, payee))
        self._ctx.db.execute("UPDATE accounts SET balance = balance - 1 WHERE name = 'ann'")
        self._ctx.db.execute("UPDATE accounts SET balance = balance + 1 WHERE name = ?", (payee,))

    def confirm(self) -> None:
        """Use the connection once more."""
        self._ctx.db.execute("SELECT 1 FROM transfers WHERE key = ?", (self._ctx.meta.params["key"],)).fetchone()


class VisitService(Service[Any]):
    def who(self) -> str:
        """Who asks, as the resource and the meta tell."""
        return f"{self._ctx.visitor.key} {self._ctx.meta.params['key']}"

    def served_by(self) -> int:
        teller: int = self._ctx.teller
        return teller

    async def sent_with(self) -> str:
        courier: str = await self._ctx.courier
        return courier


class BankDAL(DataAccessLayer):
    accounts = AccountService()
    visits = VisitService()


dm: DataManager[Any, Any] = DataManager(BankDAL, teardown_timeout=TEARDOWN_TIMEOUT)
dm.register_resources(db=db, visitor=visitor, teller=teller, courier=courier)
