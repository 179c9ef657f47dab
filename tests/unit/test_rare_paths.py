"""Branches that only a rare order of events, or odd code of users, reaches."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from polydatum import ConfigurationError, DataAccessLayer, DataManager, InvalidServiceError, Service


def test_a_cached_value_that_somebody_deleted() -> None:
    """Its resource closes all the same, in sync and async contexts."""
    log: list[str] = []

    def db(context: Any) -> Iterator[str]:
        yield "db"
        log.append("db closed")

    async def pg(context: Any) -> AsyncIterator[str]:
        yield "pg"
        log.append("pg closed")

    dm = DataManager()
    dm.register_resources(db=db, pg=pg)

    async def main() -> Any:
        async with dm.context() as ctx:
            assert (ctx.db, await ctx.pg) == ("db", "pg")
            vars(ctx).pop("db")
            vars(ctx).pop("_async_pg")
        return ctx

    assert asyncio.run(main()).outcome == "committed"
    with dm.context() as ctx:
        assert ctx.db == "db"
        vars(ctx).pop("db")
    assert ctx.outcome == "committed"
    assert log == ["pg closed", "db closed", "db closed"]


def test_another_thread_opens_it_just_before_the_claim() -> None:
    """Whoever claims a resource looks whether it is open by now."""
    opened: list[int] = []

    def db(context: Any) -> Iterator[int]:
        opened.append(threading.get_ident())
        yield len(opened)

    dm = DataManager()
    dm.register_resources(db=db)

    class Raced(dict[Any, Any]):
        """Claims before whose first one another thread has opened the resource."""

        raced = False

        def setdefault(self, key: Any, default: Any = None) -> Any:
            if not self.raced:
                self.raced = True
                thread = threading.Thread(target=lambda: key.db)
                thread.start()
                thread.join(10)
            return super().setdefault(key, default)

    dm._resources["db"].claims = Raced()
    with dm.context() as ctx:
        assert ctx.db == 1
    assert len(opened) == 1


def test_a_class_in_place_of_a_service() -> None:
    """Forgotten parentheses are found when the manager is made."""

    class Items(Service):
        def name(self) -> str:
            return "items"

    class ShopDAL(DataAccessLayer):
        items = Items

    with pytest.raises(InvalidServiceError, match=r"class Items; write Items\(\)"):
        DataManager(ShopDAL)


def test_an_instance_in_place_of_the_dal_class() -> None:
    """The manager makes the DAL itself."""

    class ShopDAL(DataAccessLayer):
        pass

    with pytest.raises(ConfigurationError, match=r"not an instance: DataManager\(ShopDAL\)"):
        DataManager(ShopDAL())  # type: ignore[call-overload]


def test_a_hook_that_cannot_be_called() -> None:
    """``ctx.on_commit(print("x"))`` registers None: said at once."""
    with DataManager().context() as ctx, pytest.raises(TypeError, match="NoneType is not callable"):
        ctx.on_commit(None)  # type: ignore[type-var]


def test_a_service_that_hides_one_of_its_class() -> None:
    """An instance may take a nested service of its class away."""

    class Photos(Service):
        pass

    class Items(Service):
        photos: Any = Photos()

        def __init__(self) -> None:
            self.photos = None

    dm = DataManager()
    dm.register_services(items=Items())
    assert dm.describe()["services"]["items"]["services"] == {}
