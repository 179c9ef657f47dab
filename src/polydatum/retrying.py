"""Retries of units of work, if the database says that a retry may help: `DataManager.run`.

Errors are recognized by the attributes that clients give them, so that this works for users' own resources, too.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

from .errors import CommitOutcomeUnknown, ConfigurationError
from .waiting import running_asyncio

FIRST_PAUSE = 0.01
SQLSTATES = ("40001", "40P01")
"""Serialization failure and deadlock: ISO 9075 class 40, "transaction rollback", and PostgreSQL's own code in it."""
MARIADB_ROLLED_BACK = (1213, 1020)
"""Deadlock, and a row changed since it was read (``innodb_snapshot_isolation``): the server has rolled back all."""
LOCK_TIMEOUT_SQLSTATE, LOCK_TIMEOUT_MARIADB = "55P03", 1205
"""PostgreSQL's and MariaDB's codes for a timeout while waiting for a lock."""
SQLITE_BUSY, SQLITE_LOCKED = 5, 6
MONGO_LABEL = "TransientTransactionError"


def pauses(attempts: int) -> list[float]:
    """How many seconds to wait after each attempt but the last, if it fails.

    Exponential back-off with full jitter, so that transactions that collided do not collide again.
    """
    if attempts < 1:
        raise ConfigurationError("attempts has to be 1 or more")
    import random  # here: it costs as much as half of polydatum

    return [random.uniform(0, FIRST_PAUSE * 2**attempt) for attempt in range(attempts - 1)]


def run(new_block: Callable[[], Any], fn: Callable[[Any], Any], attempts: int) -> Any:
    """The result of ``fn`` once its block, which yields the DAL, has committed; a new block for each attempt."""
    waits = iter(pauses(attempts))
    while True:
        result: Any = None  # it stays None if a middleware suppresses the exception
        block = new_block()
        try:
            with block as dal:
                result = fn(dal)
                if issubclass(type(result), Coroutine):  # `isinstance` would evaluate a lazy object
                    result.close()
                    raise ConfigurationError(
                        "run() got a coroutine and did not run it; use 'await dm.arun(...)' for async functions"
                    )
            return result
        except Exception as error:
            pause = _pause_after(error, block, waits)
            if pause is None:
                raise
        sleep(pause)


async def arun(new_block: Callable[[], Any], fn: Callable[[Any], Any], attempts: int) -> Any:
    """The async twin of `run`."""
    waits = iter(pauses(attempts))
    while True:
        result: Any = None
        block = new_block()
        try:
            async with block as dal:
                made = fn(dal)
                if not isinstance(made, Awaitable):
                    raise ConfigurationError(
                        f"arun() awaits the function's result, but a {type(made).__name__} is not awaitable; "
                        "use 'dm.run(...)' for sync functions"
                    )
                result = await made
            return result
        except Exception as error:
            pause = _pause_after(error, block, waits)
            if pause is None:
                raise
        await asleep(pause)


def _pause_after(error: Exception, block: Any, waits: Iterator[float]) -> float | None:
    """How many seconds to wait before the next attempt; None if there is to be none."""
    if block.outcome != "rolled_back" or not is_transient(error):
        return None
    return next(waits, None)


sleep = time.sleep


async def asleep(seconds: float) -> None:
    """Suspend the running task, of asyncio or trio."""
    asyncio = running_asyncio()
    await (sys.modules["trio"] if asyncio is None else asyncio).sleep(seconds)


def is_transient(error: BaseException, *, lock_timeouts: bool = False) -> bool:
    """Whether the whole unit of work may succeed if it is retried, from the start, in a new transaction.

    In an exception group each error has to be of that kind.

    Args:
        error: the error.
        lock_timeouts: whether a timeout while waiting for a lock counts; for cases in which the holder of the lock is
            known to end. SQLite's always counts, as it knows no other collisions.
    """
    return _is_transient(error, lock_timeouts, [])


def _is_transient(error: BaseException, lock_timeouts: bool, seen: list[BaseException]) -> bool:
    found: BaseException | None = error
    while found is not None and found not in seen:
        if isinstance(found, CommitOutcomeUnknown):
            return False  # it may have succeeded already
        if _has_transient_code(found, lock_timeouts):
            return True
        seen.append(found)
        if isinstance(found, BaseExceptionGroup):
            return all(_is_transient(one, lock_timeouts, seen) for one in found.exceptions)
        found = getattr(found, "orig", None) or found.__cause__  # SQLAlchemy keeps the driver's error in `orig`
    return False


def _has_transient_code(error: Any, lock_timeouts: bool) -> bool:
    sqlstates = (*SQLSTATES, LOCK_TIMEOUT_SQLSTATE) if lock_timeouts else SQLSTATES
    if getattr(error, "sqlstate", None) in sqlstates or getattr(error, "pgcode", None) in sqlstates:
        return True
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in (SQLITE_BUSY, SQLITE_LOCKED):  # the low byte: the primary code
        return True
    has_label = getattr(error, "has_error_label", None)
    if has_label is not None and has_label(MONGO_LABEL):
        return True
    module = type(error).__module__.partition(".")[0]
    codes = (*MARIADB_ROLLED_BACK, LOCK_TIMEOUT_MARIADB) if lock_timeouts else MARIADB_ROLLED_BACK
    return module in ("pymysql", "MySQLdb", "mariadb", "mysql", "asyncmy", "aiomysql") and (
        error.args[:1] in ((code,) for code in codes) or getattr(error, "errno", None) in codes
    )
