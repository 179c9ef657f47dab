"""``polydatum.dal`` of 0.9.1: DataAccessLayer and DataManager."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import polydatum
from polydatum.dal import DataAccessLayer, DataManager
from polydatum.resources import ValueResource
from polydatum.services import Service


class Items(Service):
    def name(self) -> str:
        return "items"


class Others(Service):
    def name(self) -> str:
        return "others"


def test_names() -> None:
    """The same objects as ours."""
    from polydatum import layer, manager

    assert DataAccessLayer is polydatum.DataAccessLayer is layer.DataAccessLayer
    assert DataManager is polydatum.DataManager is manager.DataManager


def test_data_access_layer() -> None:
    """register_services gives the DAL, replace_service puts another in place, paths lead to methods."""
    dm = DataManager()
    dal = dm.get_dal()
    assert dal.register_services(items=Items().register_services(sub=Items())) is dal
    with dm.dal() as same:
        assert same is dal
        assert dal["items.name"]() == dal["dal.items.name"]() == dal["items.sub.name"]() == "items"
    dal.replace_service("items", Others())
    with dm.dal():
        assert dal.items.name() == dal["items.name"]() == "others"


def test_paths_end_in_a_method() -> None:
    """Documented difference: ``dal["items"]`` gives no service."""
    dm = DataManager()
    dm.register_services(items=Items())
    with dm.dal() as dal, pytest.raises(ValueError):
        dal["items"]


def test_resource_manager_first() -> None:
    """The optional first argument: resources that are there from the start, by position or by name."""
    resources = {"rate": ValueResource(0.2)}
    for dm in (DataManager(resources), DataManager(resource_manager=resources)):
        with dm.context() as context:
            assert context.rate == 0.2


def test_middleware_and_resources() -> None:
    """register_context_middleware takes several; register_resources and replace_resource take names."""
    events: list[str] = []

    def one(context: Any) -> Iterator[None]:
        events.append("one")
        yield

    def two(context: Any) -> Iterator[None]:
        events.append("two")
        yield

    dm = DataManager()
    dm.register_context_middleware(one, two)
    dm.register_resources(rate=ValueResource(1))
    dm.replace_resource("rate", ValueResource(2))
    with dm.context() as context:
        assert context.rate == dm.rate == 2
    assert events == ["one", "two"]


def test_get_middleware_and_get_resource() -> None:
    """Both can be overridden."""
    events: list[str] = []

    def watching(context: Any) -> Iterator[None]:
        events.append("watching")
        yield

    class Own(DataManager[Any, Any]):
        def get_middleware(self, context: Any) -> Any:
            return [watching, *super().get_middleware(context)]

        def get_resource(self, name: str) -> Any:
            if name == "made_up":
                return ValueResource("made up")
            return super().get_resource(name)

    dm = Own()
    rate = ValueResource(1)
    dm.register_resources(rate=rate)
    with dm.context() as context:
        assert (context.made_up, context.rate, dm.made_up) == ("made up", 1, "made up")
        with pytest.raises(AttributeError):
            _ = context.other
    assert events == ["watching"]
    assert dm.get_resource("rate") is rate


def test_active_context() -> None:
    """get_active_context gives None, require_active_context raises RuntimeError, if there is none."""
    dm = DataManager()
    assert dm.get_active_context() is None
    with pytest.raises(RuntimeError):
        dm.require_active_context()
    with dm.context() as context:
        assert dm.get_active_context() is dm.require_active_context() is context


def test_dal_and_context() -> None:
    """Both take the meta as their first argument, or by name."""
    dm = DataManager()
    for block in (
        dm.dal({"user": 1}),
        dm.dal(meta={"user": 1}),
        dm.context({"user": 1}),
        dm.context(meta={"user": 1}),
    ):
        with block:
            assert dm.require_active_context().meta.user == 1


def test_suppressing_rolls_back() -> None:
    """Documented difference: a middleware that swallows changes what the caller sees, and nothing is kept."""
    ended: list[str] = []

    def db(context: Any) -> Iterator[int]:
        try:
            yield 1
        except BaseException:
            ended.append("rolled back")
            raise
        else:
            ended.append("committed")

    def swallowing(context: Any) -> Iterator[None]:
        try:
            yield
        except KeyError:
            pass

    dm = DataManager()
    dm.register_resources(db=db)
    dm.register_context_middleware(swallowing)
    with dm.context() as context:
        _ = context.db
        raise KeyError
    assert ended == ["rolled back"]
