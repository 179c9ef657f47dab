"""The Context classes that a manager generates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from polydatum import Context, DataManager, ValueResource


class ShopContext(Context):
    """The context of a shop."""

    rate: float


def test_it_passes_for_the_context_class() -> None:
    """By name, module and docstring; one class for all contexts of a manager."""
    dm = DataManager(context_class=ShopContext)
    for made in (dm.context(), dm.dal()):
        cls = type(made)
        assert issubclass(cls, ShopContext)
        assert (cls.__name__, cls.__qualname__, cls.__module__) == ("ShopContext", "ShopContext", __name__)
        assert cls.__doc__ == "The context of a shop."
    assert type(dm.context()) is type(dm.context())
    assert type(DataManager(context_class=ShopContext).context()) is not type(dm.context())


def test_resources_are_descriptors_of_the_class() -> None:
    """Asked for on the class, they give themselves, of either scope."""
    dm = DataManager()
    dm.register_resources(rate=ValueResource(1))
    dm.register_app_resources(engine=ValueResource(2))
    cls: Any = type(dm.context())
    assert cls.rate.name == "rate"
    assert cls.engine.name == "engine"


class CountingContext(Context):
    """Has blocks of its own, so that the manager's fast ones do not stand in for them."""

    entered = 0

    def __enter__(self) -> Any:
        self.entered += 1
        return super().__enter__()

    async def __aenter__(self) -> Any:
        self.entered += 1
        return await super().__aenter__()


@pytest.mark.parametrize("middleware", [False, True])
async def test_blocks_that_a_context_class_overrides(drive: Any, middleware: bool) -> None:
    """They run, also where entering gives the DAL; and set up what there is."""
    log: list[str] = []

    def logged(context: Any) -> Iterator[None]:
        log.append("set up")
        yield

    dm = DataManager(context_class=CountingContext)
    if middleware:
        dm.register_context_middleware(logged)
    block: Any = dm.context()
    async with drive.block(block) as ctx:
        assert ctx is block
    giving: Any = dm.dal()
    async with drive.block(giving) as dal:
        assert dal is dm.get_dal()
    assert block.entered == giving.entered == 1
    assert log == ["set up"] * (2 * middleware)


def test_contexts_keep_the_class_they_were_made_of() -> None:
    """When a resource is replaced, later contexts are of another class."""
    dm = DataManager()
    dm.register_resources(rate=ValueResource(1))
    with dm.context() as before:
        dm.replace_resource("rate", ValueResource(2))
        with dm.context() as after:
            assert type(after) is not type(before)
            assert (before.rate, after.rate) == (1, 2)


def test_a_supplying_manager_and_an_older_context() -> None:
    """What is registered after the context's class was made is found by asking the manager."""

    class Supplying(DataManager[Any, Any]):
        def get_resource(self, name: str) -> Any:
            return super().get_resource(name)

    dm = Supplying()
    dm.register_resources(rate=ValueResource(1))
    with dm.context() as before:
        dm.replace_resource("rate", ValueResource(2))
        dm.register_resources(late=ValueResource(3))
        assert (before.rate, before.late) == (1, 3)
