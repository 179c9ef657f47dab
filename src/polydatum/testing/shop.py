"""A shop on a SQLite file that logs what happens to it: the application under test in the adapter contract."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Any

from polydatum import Context, ContextClosedError, DataAccessLayer, DataManager, NoActiveContextError, Service

# In some tests threads share a context and race to open its connection, but a connection serves one thread at a time.
_in_turn = Lock()


class ItemService(Service[Any]):
    def add(self, name: str) -> None:
        connection = self._ctx.db
        with _in_turn:
            connection.execute("INSERT INTO items VALUES (?)", (name,))

    def names(self) -> list[str]:
        connection = self._ctx.db
        with _in_turn:
            return [name for (name,) in connection.execute("SELECT name FROM items ORDER BY name")]


class ShopDAL(DataAccessLayer):
    items = ItemService()


class Shop:
    """One DataManager on one file. ``log`` records all steps in order; hosts append ``start <status>`` to it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.path = folder / "shop.db"
        self.log: list[str] = []
        self.contexts: list[Context] = []
        self.failures: dict[str, BaseException] = {}
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS items (name TEXT)")
        self.dm: DataManager[Any, Any] = DataManager(ShopDAL, **options)
        self.dm.register_resources(db=self._db, cache=self._cache)

    def fail(self, step: str, error: BaseException) -> BaseException:
        """Make a step of the resources fail: ``db commit``, ``db rollback``, ``cache commit``, ``cache rollback``."""
        self.failures[step] = error
        return error

    @property
    def names(self) -> list[str]:
        """The committed names, read over a separate connection."""
        with closing(sqlite3.connect(self.path)) as connection:
            return [name for (name,) in connection.execute("SELECT name FROM items ORDER BY name")]

    def here(self) -> Any:
        """The current context; also recorded for the test."""
        context = self.dm.require_active_context()
        self.contexts.append(context)
        return context

    @property
    def outcomes(self) -> list[str]:
        return [str(context.outcome) for context in self.contexts]

    @property
    def is_left(self) -> bool:
        """Whether no context is current here, not even a closed one."""
        try:
            self.dm.require_active_context()
        except NoActiveContextError:
            return True
        except ContextClosedError:
            pass
        return False

    def _step(self, step: str) -> None:
        self.log.append(step)
        if step in self.failures:
            raise self.failures[step]

    def _db(self, context: Context) -> Iterator[sqlite3.Connection]:
        self._step("db open")
        with closing(sqlite3.connect(self.path, check_same_thread=False)) as connection:
            try:
                try:
                    yield connection
                except BaseException as error:
                    self.log.append(f"db saw {type(error).__name__}")
                    connection.rollback()
                    self._step("db rollback")
                    raise
                else:
                    self._step("db commit")
                    connection.commit()
            finally:
                self.log.append("db close")

    def _cache(self, context: Context) -> Iterator[dict[str, str]]:
        """A second generator that commits after its yield; it stores nothing."""
        self._step("cache open")
        try:
            try:
                yield {}
            except BaseException:
                self._step("cache rollback")
                raise
            else:
                self._step("cache commit")
        finally:
            self.log.append("cache close")

    def middleware(self, name: str) -> Callable[[Context], Iterator[None]]:
        """A transaction middleware that only logs."""

        def logged(context: Context) -> Iterator[None]:
            self._step(f"{name} begin")
            try:
                yield
            except BaseException as error:
                self.log.append(f"{name} abort {type(error).__name__}")
                raise
            else:
                self._step(f"{name} commit")

        return logged


class Backend:
    """A transactional resource, with commit and close as separate steps."""

    kind = "authority"

    def __init__(self, log: list[str], close_error: Exception | None = None) -> None:
        self.log = log
        self.close_error = close_error

    def prepare(self) -> None:
        self.log.append("backend prepare")

    def commit(self) -> None:
        self.log.append("backend commit")

    def rollback(self) -> None:
        self.log.append("backend rollback")

    def close(self) -> None:
        self.log.append("backend close")
        if self.close_error is not None:
            raise self.close_error
