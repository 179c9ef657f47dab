"""Every example of the page that Polydatum grew from, as it stands there, against a real pool of SQLite connections."""

from __future__ import annotations

import queue
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polydatum import DataManager, NotFound, Service


class Database:
    """A pool as simple as can be: connections are checked out and in."""

    def __init__(self, path: Path, size: int = 2) -> None:
        self.idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self.size = size
        for _ in range(size):
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            self.idle.put(connection)

    def checkout_connection(self) -> sqlite3.Connection:
        return self.idle.get_nowait()

    def checkin_connection(self, connection: sqlite3.Connection) -> None:
        self.idle.put(connection)

    @property
    def checked_out(self) -> int:
        return self.size - self.idle.qsize()

    def close(self) -> None:
        assert self.checked_out == 0
        while not self.idle.empty():
            self.idle.get_nowait().close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    db = Database(tmp_path / "shop.db")
    connection = db.checkout_connection()
    connection.executescript(
        "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT);"
        "CREATE TABLE photos (item_id INTEGER, file TEXT);"
        "INSERT INTO items VALUES (1, 'tea');"
    )
    db.checkin_connection(connection)
    yield db
    db.close()


class ItemService(Service):
    """Gets things, and gives None for what is not there."""

    def get_item(self, id: int) -> Any:
        return self._data_manager.db.execute("SELECT * FROM items WHERE id = :id", {"id": id}).fetchone()

    def rename(self, id: int, name: str) -> None:
        self._data_manager.db.execute("UPDATE items SET name = :name WHERE id = :id", {"id": id, "name": name})


class PhotoService(Service):
    """Needs the item to exist, and raises NotFound otherwise."""

    def create(self, item_id: int, file: str) -> None:
        if self._dal.items.get_item(item_id) is None:
            raise NotFound(f"item {item_id}")
        self._ctx.db.execute("INSERT INTO photos VALUES (?, ?)", (item_id, file))

    def count(self) -> int:
        return int(self._ctx.db.execute("SELECT count(*) FROM photos").fetchone()[0])


@pytest.fixture
def dm(database: Database) -> DataManager[Any, Any]:
    def db_pool(context: Any) -> Iterator[sqlite3.Connection]:
        conn = database.checkout_connection()
        yield conn
        database.checkin_connection(conn)

    dm = DataManager()
    dm.register_services(items=ItemService())
    dm.register_resources(db=db_pool)
    return dm


@pytest.fixture
def safe_dm(dm: DataManager[Any, Any], database: Database) -> DataManager[Any, Any]:
    """The same with a pool that is checked in after an error, too, as check() advises."""

    def db_pool(context: Any) -> Iterator[sqlite3.Connection]:
        conn = database.checkout_connection()
        try:
            yield conn
        finally:
            database.checkin_connection(conn)

    assert dm.check() != []
    dm.replace_resource("db", db_pool)
    assert dm.check() == []
    return dm


def transaction_middleware(context: Any) -> Iterator[Any]:
    """As on the page: the bare ``except`` swallows."""
    trans = context.db
    trans.execute("BEGIN")
    try:
        yield trans
    except:  # noqa: E722
        trans.execute("ROLLBACK")
    else:
        trans.execute("COMMIT")


def name_of(database: Database, id: int) -> str | None:
    connection = database.checkout_connection()
    try:
        row = connection.execute("SELECT name FROM items WHERE id = ?", (id,)).fetchone()
        return None if row is None else str(row["name"])
    finally:
        database.checkin_connection(connection)


def test_with_dm_dal_as_dal(dm: DataManager[Any, Any], database: Database) -> None:
    """A service method called through the DAL; the connection is checked out on touch and checked in at the end."""
    with dm.dal() as dal:
        assert database.checked_out == 0
        item = dal.items.get_item(1)
        assert database.checked_out == 1
    assert item["name"] == "tea"
    assert database.checked_out == 0


def test_none_and_not_found(safe_dm: DataManager[Any, Any], database: Database) -> None:
    """Methods that get give None; methods that rely on an object raise NotFound."""
    dm = safe_dm
    dm.register_services(photos=PhotoService())
    with dm.dal() as dal:
        assert dal.items.get_item(7) is None
        dal.photos.create(1, "tea.jpg")
        assert dal.photos.count() == 1
    with pytest.raises(NotFound, match="item 7") as caught, dm.dal() as dal:
        dal.photos.create(7, "none.jpg")
    assert caught.value.code == 404


def test_a_pool_without_try(dm: DataManager[Any, Any], database: Database) -> None:
    """The page's generator has its check-in after a bare yield: check() says that it does not run on an error."""
    assert [(problem.code, problem.subject) for problem in dm.check()] == [("unguarded-teardown", "resource 'db'")]
    with pytest.raises(KeyError), dm.context() as ctx:
        connection = ctx.db
        raise KeyError
    assert database.checked_out == 1
    database.checkin_connection(connection)


@pytest.mark.parametrize("door", ["dal", "manager"])
def test_nested_services(dm: DataManager[Any, Any], door: str) -> None:
    """Registered nested, on the DAL or on the manager; called through both."""

    class SomeService(Service):
        def somemethod(self) -> str:
            return "some"

    class SubService(Service):
        def somemethod(self) -> Any:
            return (
                "sub",
                self._dal.someservice.somemethod(),
                self._data_manager.db.execute("SELECT 1").fetchone()[0],
            )

    register = dm.get_dal().register_services if door == "dal" else dm.register_services
    register(someservice=SomeService().register_services(subservice=SubService()))
    with dm.dal() as dal:
        assert dal.someservice.somemethod() == "some"
        assert dal.someservice.subservice.somemethod() == ("sub", "some", 1)


def test_the_transaction_commits(dm: DataManager[Any, Any], database: Database) -> None:
    """The middleware's else branch runs when nothing was raised."""
    dm.register_context_middleware(transaction_middleware)
    with dm.context() as ctx:
        ctx.dal.items.rename(1, "coffee")
    assert ctx.outcome == "committed"
    assert name_of(database, 1) == "coffee"


def test_the_transaction_swallows(safe_dm: DataManager[Any, Any], database: Database) -> None:
    """Its bare except swallows: the caller sees nothing, everything rolls back, and the outcome tells."""
    dm = safe_dm
    seen: list[str] = []

    def outer(context: Any) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            seen.append(type(error).__name__)
            raise

    dm.register_context_middleware(outer, transaction_middleware)
    error = ValueError("half-way")
    with dm.context() as ctx:
        ctx.dal.items.rename(1, "coffee")
        raise error
    assert ctx.outcome == "rolled_back"
    assert ctx.outcome.suppressed is error
    assert ctx.outcome.reason is not None
    assert "transaction_middleware" in ctx.outcome.reason
    assert seen == ["RolledBack"]
    assert name_of(database, 1) == "tea"
    assert database.checked_out == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_the_transaction_does_not_swallow_an_interrupt(
    safe_dm: DataManager[Any, Any], database: Database, error: type[BaseException]
) -> None:
    """It rolls back, and the interrupt goes on all the same."""
    safe_dm.register_context_middleware(transaction_middleware)
    with pytest.raises(error), safe_dm.context() as ctx:
        ctx.dal.items.rename(1, "coffee")
        raise error
    assert ctx.outcome == "rolled_back"
    assert name_of(database, 1) == "tea"


def test_middleware_that_is_an_object(safe_dm: DataManager[Any, Any], database: Database) -> None:
    """With ``__call__``; it sees the context, and through it the meta and the resources."""

    class Transaction:
        def __init__(self) -> None:
            self.users: list[Any] = []

        def __call__(self, context: Any) -> Iterator[None]:
            self.users.append(context.meta.user)
            context.db.execute("BEGIN")
            try:
                yield
            except BaseException:
                context.db.execute("ROLLBACK")
                raise
            else:
                context.db.execute("COMMIT")

    dm, transaction = safe_dm, Transaction()
    dm.register_context_middleware(transaction)
    with dm.dal(meta={"user": "ann"}) as dal:
        dal.items.rename(1, "coffee")
    assert transaction.users == ["ann"]
    assert name_of(database, 1) == "coffee"
    with pytest.raises(ValueError), dm.context() as ctx:
        ctx.dal.items.rename(1, "milk")
        raise ValueError
    assert name_of(database, 1) == "coffee"
