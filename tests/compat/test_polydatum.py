"""``polydatum`` of 0.9.1: the names at the top."""

from __future__ import annotations

from typing import Any

import pytest

import polydatum
import polydatum.dal
import polydatum.services
from polydatum import DataAccessLayer, DataManager, Service
from polydatum.resources import ValueResource


def test_names() -> None:
    """The same objects wherever they are imported from."""
    assert polydatum.DataManager is polydatum.dal.DataManager
    assert polydatum.DataAccessLayer is polydatum.dal.DataAccessLayer
    assert polydatum.Service is polydatum.services.Service


def test_an_application_of_that_time() -> None:
    """Registers by name, opens a context, calls a service."""

    class UserService(Service):
        def get(self) -> Any:
            return self._data_manager.table[self._ctx.meta.require("user_id")]

    dm = DataManager()
    dm.register_services(users=UserService())
    dm.register_resources(table=ValueResource({7: "ann"}))
    with dm.context(meta={"user_id": 7}) as context:
        assert context.dal.users.get() == "ann"
        assert dm.get_dal().users.get() == "ann"
    with dm.dal(meta={"user_id": 7}) as dal:
        assert dal.users.get() == "ann"


def test_dal_class_of_the_manager() -> None:
    """A subclass of the manager names its DAL class."""

    class ShopDAL(DataAccessLayer):
        pass

    class ShopManager(DataManager[Any, Any]):
        DataAccessLayer = ShopDAL

    dm = ShopManager()
    assert isinstance(dm.get_dal(), ShopDAL)
    with dm.dal() as dal:
        assert isinstance(dal, ShopDAL)


def test_use_without_a_context() -> None:
    """A RuntimeError."""
    dm = DataManager()
    dm.register_services(users=Service())
    dm.register_resources(table=ValueResource(1))
    with pytest.raises(RuntimeError):
        _ = dm.get_dal().users._ctx
    with pytest.raises(RuntimeError):
        _ = dm.table
