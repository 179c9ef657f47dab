"""Services as class attributes: what type checkers see of them. Read by mypy and pyright, never run."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

from polydatum import (
    Context,
    DataAccessLayer,
    DataManager,
    ErrorRecord,
    Meta,
    NotFound,
    Outcome,
    Problem,
    Service,
    ValueResource,
)


class ShopContext(Context):
    """Declares the types of resources."""

    db: sqlite3.Connection
    rate: float


class PhotoService(Service[ShopContext]):
    def add(self, file: str, *, cover: bool = False) -> int:
        assert_type(self._ctx, ShopContext)
        assert_type(self._ctx.db, sqlite3.Connection)
        return len(file)


class ItemService(Service[ShopContext]):
    photos = PhotoService()

    def get_item(self, id: int) -> tuple[int, str] | None:
        assert_type(self._ctx.rate, float)
        row: tuple[int, str] | None = self._ctx.db.execute("SELECT ...", (id,)).fetchone()
        return row

    async def build(self) -> list[str]:
        if self.get_item(1) is None:
            raise NotFound("item 1")
        return []

    def names(self) -> Iterator[str]:
        yield "tea"


class PlainService(Service):
    """Without a context class; everything on the context is dynamic."""

    def get(self) -> bytes:
        assert_type(self._ctx, Any)
        return b""


class ShopDAL(DataAccessLayer):
    items = ItemService()
    plain = PlainService()


dm = DataManager(ShopDAL, context_class=ShopContext)
assert_type(dm, DataManager[ShopDAL, ShopContext])
assert_type(dm.get_dal(), ShopDAL)


def sync() -> None:
    with dm.dal(meta={"user": "ann"}) as dal:
        assert_type(dal, ShopDAL)
        assert_type(dal.items, ItemService)
        assert_type(dal.items.get_item(1), tuple[int, str] | None)
        assert_type(dal.items.photos, PhotoService)
        assert_type(dal.items.photos.add("tea.jpg", cover=True), int)
        assert_type(dal.items.names(), Iterator[str])
        assert_type(dal.plain.get(), bytes)
        dal.items.get_itm(1)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        dal.items.get_item("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        dal.itms  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        dal["items.get_item"](1)


def contexts() -> None:
    ctx = dm.context(Meta(user="ann"))
    assert_type(ctx, ShopContext)
    with ctx as entered:
        assert_type(entered, ShopContext)
        assert_type(entered.db, sqlite3.Connection)
        assert_type(entered.rate, float)
        assert_type(entered.meta, Meta)
        entered.bd  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    assert_type(ctx.state, str)
    assert_type(ctx.outcome, Outcome | None)
    assert_type(dm.get_active_context(), ShopContext | None)
    assert_type(dm.require_active_context(), ShopContext)


def adapters() -> None:
    ctx = dm.context().open()
    assert_type(ctx, ShopContext)
    outcome = ctx.close(KeyError(), status=500, keep_current=True)
    assert_type(outcome, Outcome)
    assert_type(outcome.errors, tuple[ErrorRecord, ...])
    assert_type(outcome.suppressed, BaseException | None)
    assert_type(outcome.http_status, int | None)
    word: str = outcome
    print(word)
    ctx.leave()


async def asynchronous() -> None:
    async with dm.dal() as dal:
        assert_type(dal, ShopDAL)
        assert_type(await dal.items.build(), list[str])
    async with dm.context() as ctx:
        assert_type(ctx, ShopContext)
    opened = await dm.context().aopen()
    assert_type(opened, ShopContext)
    assert_type(await opened.aclose(status=200), Outcome)
    await dm.aclose()


def overriding() -> None:
    with dm.override(services={"items.photos": PhotoService()}, resources={"rate": ValueResource(0.1)}):
        with dm.dal() as dal:
            assert_type(dal.items.photos, PhotoService)
    assert_type(dm.check(), list[Problem])
    assert_type(dm.describe(), dict[str, Any])
    dm.override(services={"items": object()})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]


def rollback_rule(exc: BaseException | None, status: int | None) -> bool:
    return exc is not None


with_rule = DataManager(ShopDAL, rollback_on=rollback_rule, teardown_timeout=1)
with with_rule.dal() as ruled:
    assert_type(ruled, ShopDAL)


class OtherDAL(ShopDAL):
    """A subclass keeps what it inherits."""

    async_items = ItemService()


assert_type(DataManager(OtherDAL).get_dal().items, ItemService)
assert_type(DataManager(OtherDAL).get_dal().async_items.photos, PhotoService)


def db(context: ShopContext) -> Iterator[sqlite3.Connection]:
    yield sqlite3.connect("shop.db")


async def pg(context: ShopContext) -> AsyncIterator[int]:
    yield 1


dm.register_resources(db=db, pg=pg, rate=ValueResource(0.2))
dm.register_app_resources(engine=lambda manager: db(manager))
