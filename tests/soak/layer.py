"""The service layer under test: a ledger in PostgreSQL, users' canaries and a counter in Redis.

The parameters of a request say what it does, and how it ends.
"""

from __future__ import annotations

import os
from typing import Any

from polydatum import DataAccessLayer, DataManager, Service, ServiceError
from polydatum.backends.psycopg import AsyncPsycopgBackend, PsycopgBackend
from polydatum.backends.redis import AsyncRedisBackend, RedisBackend

POSTGRES = os.environ.get("SOAK_POSTGRES", "")
REDIS = os.environ.get("SOAK_REDIS", "")
RUN = os.environ.get("SOAK_RUN", "soak")
"""The prefix of tables and keys, and the application name of all connections."""
POOL = 12

CANARY = f"SELECT canary FROM {RUN}_users WHERE id = %s"
TRANSFER = f"INSERT INTO {RUN}_transfers (id, source, target, amount) VALUES (%s, %s, %s, %s)"
BALANCE = f"UPDATE {RUN}_accounts SET balance = balance + %s WHERE id = %s"
NAP = "SELECT pg_sleep(%s)"


class Order:
    """The order in a request.

    Attributes:
        id: the id of the row that must, or must not, exist afterwards.
        user: the user who makes the request.
        ending: ``"clean"``, ``"raised"``, ``"refused"``, ``"returned"`` (a 4xx), ``"swallowed"`` (an SQL error).
        nap: seconds that the database sleeps in the middle.
        limit: the statement timeout in milliseconds, if above 0.
    """

    def __init__(self, params: Any) -> None:
        self.id = int(params["id"])
        self.user = int(params["user"])
        source, target, amount = int(params["source"]), int(params["target"]), int(params["amount"])
        self.transfer = (self.id, source, target, amount)
        self.balances = sorted([(source, -amount), (target, amount)])  # in a fixed order, to avoid deadlocks
        self.ending = params["ending"]
        self.nap = float(params["nap"])
        self.limit = int(params["limit"])

    @property
    def status(self) -> int:
        return 409 if self.ending == "returned" else 200

    def end(self) -> None:
        if self.ending == "raised":
            raise RuntimeError("as asked for")
        if self.ending == "refused":
            raise ServiceError("as asked for", code=409)


class Ledger(Service[Any]):
    def carry_out(self, order: Order) -> dict[str, Any]:
        cache = self._ctx.cache
        before = cache.get(f"{RUN}:{order.user}")
        db = self._ctx.db
        if order.limit:
            db.execute(f"SET LOCAL statement_timeout = {order.limit}")
        canary = db.execute(CANARY, (order.user,)).fetchone()[0]
        db.execute(TRANSFER, order.transfer)
        for account, change in order.balances:
            db.execute(BALANCE, (change, account))
            db.execute(NAP, (order.nap,))
        if order.ending == "swallowed":
            try:
                db.execute(TRANSFER, order.transfer)
            except Exception:
                pass
        cache.after_commit.incr(f"{RUN}:kept")
        cache.after_commit.set(f"{RUN}:{order.user}", canary)
        after = cache.get(f"{RUN}:{order.user}")
        order.end()
        return {"id": order.id, "canaries": [canary, before, after]}


class AsyncLedger(Service[Any]):
    async def carry_out(self, order: Order) -> dict[str, Any]:
        cache = await self._ctx.cache
        before = await cache.get(f"{RUN}:{order.user}")
        db = await self._ctx.db
        if order.limit:
            await db.execute(f"SET LOCAL statement_timeout = {order.limit}")
        canary = (await (await db.execute(CANARY, (order.user,))).fetchone())[0]
        await db.execute(TRANSFER, order.transfer)
        for account, change in order.balances:
            await db.execute(BALANCE, (change, account))
            await db.execute(NAP, (order.nap,))
        if order.ending == "swallowed":
            try:
                await db.execute(TRANSFER, order.transfer)
            except Exception:
                pass
        cache.after_commit.incr(f"{RUN}:kept")
        cache.after_commit.set(f"{RUN}:{order.user}", canary)
        after = await cache.get(f"{RUN}:{order.user}")
        order.end()
        return {"id": order.id, "canaries": [canary, before, after]}


class SoakDAL(DataAccessLayer):
    ledger = Ledger()


class AsyncSoakDAL(DataAccessLayer):
    ledger = AsyncLedger()


def manager() -> DataManager[SoakDAL, Any]:
    dm: DataManager[SoakDAL, Any] = DataManager(SoakDAL)
    dm.register_resources(
        db=PsycopgBackend(POSTGRES, min_size=1, max_size=POOL, kwargs={"application_name": RUN}),
        cache=RedisBackend(REDIS, client_name=RUN, decode_responses=True),
    )
    return dm


def async_manager() -> DataManager[AsyncSoakDAL, Any]:
    dm: DataManager[AsyncSoakDAL, Any] = DataManager(AsyncSoakDAL)
    dm.register_resources(
        db=AsyncPsycopgBackend(POSTGRES, min_size=1, max_size=POOL, kwargs={"application_name": RUN}),
        cache=AsyncRedisBackend(REDIS, client_name=RUN, decode_responses=True),
    )
    return dm
