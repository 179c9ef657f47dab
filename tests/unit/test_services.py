"""Services: what they reach, how they nest, whom they belong to."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from polydatum import (
    AlreadyRegisteredError,
    DataAccessLayer,
    DataManager,
    InvalidServiceError,
    NoActiveContextError,
    Service,
    ValueResource,
)
from polydatum.services import nested_services, public_methods


class Photos(Service):
    def tag(self) -> Any:
        return self._ctx.tag


class Items(Service):
    photos = Photos()

    def tag(self) -> Any:
        return self._ctx.tag


class ShopDAL(DataAccessLayer):
    items = Items()


def tagged(tag: str, dal_class: Any = None) -> DataManager[Any, Any]:
    dm = DataManager(dal_class)
    dm.register_resources(tag=ValueResource(tag))
    return dm


async def test_a_service_reaches_its_context(drive: Any) -> None:
    """``_ctx``, ``_dal`` and ``_data_manager`` inside a method; a resource by both spellings."""

    class Reach(Service):
        def everything(self) -> Any:
            return self._ctx, self._dal, self._data_manager, self._ctx.tag, self._data_manager.tag

    dm = tagged("red")
    dm.register_services(reach=Reach())
    async with drive.block(dm.context()) as ctx:
        assert ctx.dal.reach.everything() == (ctx, dm.get_dal(), dm, "red", "red")


@pytest.mark.parametrize("name", ["_ctx", "_dal"])
def test_without_a_context(name: str) -> None:
    """Use outside of any context is an error that says so; the manager is known all the same."""
    dm = tagged("red", ShopDAL)
    service = dm.get_dal().items
    with pytest.raises(NoActiveContextError, match="service Items"):
        getattr(service, name)
    assert service._data_manager is dm


def test_unbound() -> None:
    """A service that nobody registered has no manager and no context."""
    service = Items()
    assert service._data_manager is None
    with pytest.raises(NoActiveContextError):
        _ = service._ctx


def test_nesting_both_ways() -> None:
    """Nested services are class attributes or registered ones, at any depth, before or after the registration."""
    photos, deep, late = Photos(), Photos(), Photos()
    items = Items()
    dm = tagged("red")
    dm.register_services(shop=Service().register_services(items=items.register_services(extra=photos)))
    photos.register_services(deep=deep)
    deep.register_services(late=late)
    with dm.dal() as dal:
        assert dal.shop.items is items
        assert dal.shop.items.extra is photos
        assert dal.shop.items.extra.deep is deep
        assert dal.shop.items.extra.deep.late.tag() == "red"
        assert dal.shop.items.photos.tag() == "red"


def test_register_services_gives_the_service() -> None:
    """So that registrations can be written nested."""
    service = Items()
    assert service.register_services(a=Photos(), b=Photos()) is service


def test_without_super_init() -> None:
    """A subclass with a constructor of its own need not call that of Service."""

    class Forgetful(Service):
        def __init__(self, size: int) -> None:
            self.size = size

        def area(self) -> Any:
            return self.size, self._ctx.tag

    dm = tagged("red")
    dm.register_services(forgetful=Forgetful(3).register_services(nested=Forgetful(4)))
    with dm.dal() as dal:
        assert dal.forgetful.area() == (3, "red")
        assert dal.forgetful.nested.area() == (4, "red")


def test_setup_is_called_once_nested_first() -> None:
    """When a service is bound to its manager; the manager is known before and after ``super().setup``."""
    calls: list[str] = []

    class Prepared(Service):
        def __init__(self, name: str) -> None:
            self.name = name

        def setup(self, data_manager: Any) -> None:
            super().setup(data_manager)
            assert self._data_manager is data_manager
            calls.append(self.name)

    dm = DataManager()
    dm.register_services(a=Prepared("a").register_services(b=Prepared("b"), c=Prepared("c")))
    with dm.dal(), dm.dal():
        pass
    assert calls == ["b", "c", "a"]


def test_two_managers_of_one_dal_class() -> None:
    """Each binds its own copies, recursively, so that they never answer for each other."""
    red, blue = tagged("red", ShopDAL), tagged("blue", ShopDAL)
    with red.dal() as one, blue.dal() as two:
        assert (one.items.tag(), one.items.photos.tag()) == ("red", "red")
        assert (two.items.tag(), two.items.photos.tag()) == ("blue", "blue")
        assert one.items is not two.items
        assert one.items.photos is not two.items.photos
    assert ShopDAL.items._data_manager is None
    assert Items.photos._data_manager is None


def test_copies_are_shallow() -> None:
    """What a service of the class was made with is shared by its copies."""

    class Cached(Service):
        def __init__(self) -> None:
            self.cache: dict[str, int] = {}

    class CachedDAL(DataAccessLayer):
        cached = Cached().register_services(below=Cached())

    first, second = DataManager(CachedDAL).get_dal(), DataManager(CachedDAL).get_dal()
    assert first.cached.cache is second.cached.cache
    assert first.cached.below is not second.cached.below  # type: ignore[attr-defined]
    assert first.cached.below.cache is second.cached.below.cache  # type: ignore[attr-defined]
    assert dict(nested_services(first.cached))["below"] is first.cached.below  # type: ignore[attr-defined]


def test_copies_by_the_service_itself() -> None:
    """Slots are copied, and a ``__copy__`` of the class's own is asked."""

    class Slotted(Service):
        __slots__ = ("size",)

        def __init__(self) -> None:
            self.size = 3

    class Copied(Service):
        copies = 0

        def __copy__(self) -> Copied:
            other = type(self)()
            other.copies = self.copies + 1
            return other

    class OddDAL(DataAccessLayer):
        slotted = Slotted()
        copied = Copied()

    dal = DataManager(OddDAL).get_dal()
    assert dal.slotted.size == 3
    assert dal.copied.copies == 1


def test_one_service_twice_on_a_class() -> None:
    """A service used for two attributes of the class becomes one of its own for each."""

    class TwiceDAL(DataAccessLayer):
        first = Items()
        second = first

    dm = tagged("red", TwiceDAL)
    with dm.dal() as dal:
        assert (dal.first.tag(), dal.second.tag()) == ("red", "red")


def test_bound_to_another_live_manager() -> None:
    """Such a service is refused, wherever it is nested; the class attribute is the remedy that is named."""
    service, nested = Items(), Photos()
    dm, other = DataManager(), DataManager()
    dm.register_services(items=service.register_services(nested=nested))
    for given in (service, Items().register_services(nested=nested)):
        with pytest.raises(InvalidServiceError, match="bound to another DataManager.*on the DAL class"):
            other.register_services(items=given)
    with pytest.raises(InvalidServiceError, match="service 'nested'"):
        other.register_services(items2=Items().register_services(nested=nested))
    dm.register_services(again=service)
    assert service._data_manager is dm


def test_bound_to_a_dead_manager() -> None:
    """A service does not keep its manager alive, and can be registered again when that is gone."""
    service = Items()
    dm: Any = DataManager()
    dm.register_services(items=service)
    gone = weakref.ref(dm)
    del dm
    gc.collect()
    assert gone() is None
    other = tagged("blue")
    other.register_services(items=service)
    with other.dal() as dal:
        assert dal.items.tag() == "blue"
        assert dal.items.photos.tag() == "blue"


def test_bound_to_a_manager_that_nobody_holds() -> None:
    """Is dead at once, whenever the garbage collector comes round: as a fixture that makes a manager for each test."""
    service = Items()
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            DataManager().register_services(items=service)
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("name", "service", "said"),
    [
        ("items", object(), "it is not a Service"),
        ("items", Items, "it is the class Items; register an instance"),
        ("items", int, "it is the class int"),
        ("_items", Items(), "public identifier"),
        ("two words", Items(), "public identifier"),
        ("register_services", Items(), "attribute of that name"),
    ],
)
def test_what_is_no_service(name: str, service: Any, said: str) -> None:
    """Refused on a manager, on a DAL and on a service alike."""
    dm = DataManager()
    for holder in (dm, dm.get_dal(), Items()):
        with pytest.raises(InvalidServiceError, match=said):
            holder.register_services(**{name: service})


def test_a_class_in_the_place_of_a_service() -> None:
    """On the DAL class or on a service: said when the manager is made, not at the first call."""

    class WrongDAL(DataAccessLayer):
        items = Items

    class Wrong(Service):
        photos = Photos

    with pytest.raises(InvalidServiceError, match=r"service 'items': it is the class Items; write Items\(\)"):
        DataManager(WrongDAL)
    with pytest.raises(InvalidServiceError, match=r"service 'photos': it is the class Photos; write Photos\(\)"):
        DataManager().register_services(wrong=Wrong())


def test_names_that_are_taken() -> None:
    """By a class attribute, by a registered service, by anything else of the holder's class."""
    dm = DataManager(ShopDAL)
    dm.register_services(more=Items())
    for name in ("items", "more"):
        with pytest.raises(AlreadyRegisteredError, match=f"service '{name}'"):
            dm.register_services(**{name: Items()})
    service = Items().register_services(more=Photos())
    for name in ("photos", "more"):
        with pytest.raises(AlreadyRegisteredError):
            service.register_services(**{name: Photos()})
    with pytest.raises(InvalidServiceError, match="Items has an attribute of that name"):
        service.register_services(tag=Photos())


def test_inherited_and_hidden_services() -> None:
    """A subclass of a DAL has its services, may replace one and may take one away."""

    class Better(Items):
        def tag(self) -> Any:
            return "better"

    class Base(DataAccessLayer):
        items = Items()
        other = Items()
        _private = Items()

    class Derived(Base):
        items = Better()
        other = None  # type: ignore[assignment]

    dm = tagged("red", Derived)
    with dm.dal() as dal:
        assert dal.items.tag() == "better"
        assert dal.other is None
    assert list(dm.describe()["services"]) == ["items"]


def test_a_nested_service_taken_away() -> None:
    """An instance may do without a service of its class."""
    service: Any = Items()
    service.photos = None
    dm = tagged("red")
    dm.register_services(items=service)
    with dm.dal() as dal:
        assert dal.items.photos is None
        assert dal.items.tag() == "red"
    assert dm.describe()["services"]["items"]["services"] == {}


def test_public_methods() -> None:
    """Functions that the class or its user-defined bases define; nothing private, inherited from us, or a value."""

    class Mixin:
        def mixed(self) -> None: ...
        def hidden(self) -> None: ...

    class Odd(Mixin, Items):
        value = 3
        hidden = None  # type: ignore[assignment]
        nested = Photos()

        def own(self) -> None: ...
        async def later(self) -> None: ...
        def _private(self) -> None: ...

        @property
        def prop(self) -> int:
            return 1

        @staticmethod
        def static() -> None: ...

        @classmethod
        def cls(cls) -> None: ...

        def setup(self, data_manager: Any) -> None:
            super().setup(data_manager)

        def register_services(self, **services: Any) -> Any:
            return super().register_services(**services)

    assert set(public_methods(Odd())) == {"mixed", "own", "later", "static", "cls", "tag"}


def test_typed_context() -> None:
    """``Service[ShopContext]`` is for type checkers; it runs like any other."""

    class Typed(Service[Any]):
        def tag(self) -> Any:
            return self._ctx.tag

    dm = tagged("red")
    dm.register_services(typed=Typed())
    with dm.dal() as dal:
        assert dal.typed.tag() == "red"
