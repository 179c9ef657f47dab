"""The DAL: services by attribute, methods by path, and the proxies that method middleware needs."""

from __future__ import annotations

from typing import Any

import pytest

from polydatum import (
    AlreadyRegisteredError,
    CommandError,
    DataAccessLayer,
    DataManager,
    DynamicDAL,
    InvalidCommandPath,
    InvalidServiceError,
    Service,
    UnknownCommand,
)


class Photos(Service):
    def add(self, name: str) -> str:
        return f"added {name}"


class Items(Service):
    photos = Photos()
    size = 3

    def get(self, id: int) -> str:
        return f"item {id}"

    def _secret(self) -> str:
        return "secret"

    @property
    def prop(self) -> int:
        return 4


class ShopDAL(DataAccessLayer):
    items = Items()


def through(call: Any) -> Any:
    """A method middleware that changes nothing."""
    return (yield)


def shop(*, middleware: bool, typed: bool) -> DataManager[Any, Any]:
    dm: DataManager[Any, Any]
    if typed:
        dm = DataManager(ShopDAL)
    else:
        dm = DataManager()
        dm.register_services(items=Items())
    dm.get_dal().items.register_services(extra=Photos().register_services(deep=Photos()))
    if middleware:
        dm.register_method_middleware(through)
    return dm


@pytest.fixture(params=["bare", "middleware"])
def middleware(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "middleware")


@pytest.fixture(params=["dynamic", "typed"])
def dm(request: pytest.FixtureRequest, middleware: bool) -> DataManager[Any, Any]:
    return shop(middleware=middleware, typed=request.param == "typed")


PATHS = [
    ("items.get", "item 7"),
    ("dal.items.get", "item 7"),
    ("items.photos.add", "added 7"),
    ("items.extra.add", "added 7"),
    ("items.extra.deep.add", "added 7"),
]


@pytest.mark.parametrize(("path", "result"), PATHS)
def test_paths(dm: DataManager[Any, Any], path: str, result: str) -> None:
    """A path ends in a public method, reached through registered services, with and without method middleware."""
    with dm.dal() as dal:
        assert dal[path](7) == result
        assert dal[path](7) == result


NOWHERE = [
    "items.other",
    "other.get",
    "items.other.get",
    "items.size",
    "items.prop",
    "items.photos",
    "items.get.call",
    "items.register_services",
    "items.setup",
    "items.extra.deep",
    "register_services.get",
]
NO_PATHS: list[Any] = [
    "items",
    "items._secret",
    "items.__class__",
    "items.__init__.__globals__",
    "items.photos._data_manager.close",
    "_resolve.x",
    "a..b",
    "",
    7,
    None,
    b"items.get",
]


@pytest.mark.parametrize("path", NOWHERE)
def test_paths_that_lead_nowhere(dm: DataManager[Any, Any], path: str) -> None:
    """Values, properties, services, our own methods and attributes of attributes are no end of a path."""
    with dm.dal() as dal, pytest.raises(UnknownCommand) as caught:
        dal[path]
    assert isinstance(caught.value, CommandError)
    assert isinstance(caught.value, LookupError)
    assert caught.value.path == path
    assert "Proxy" not in str(caught.value)


@pytest.mark.parametrize("path", NO_PATHS, ids=repr)
def test_what_is_no_path(dm: DataManager[Any, Any], path: Any) -> None:
    """Private names, dunders and everything that is not dotted text."""
    with dm.dal() as dal, pytest.raises(InvalidCommandPath):
        dal[path]


@pytest.mark.parametrize("path", [["items", "get"], {"items": 1}])
def test_a_path_that_cannot_be_hashed(path: Any) -> None:
    """Is no path either, and is refused like the rest."""
    with DataManager(ShopDAL).dal() as dal, pytest.raises(CommandError):
        dal[path]


def test_paths_follow_later_registrations() -> None:
    """What a path led to is not kept when services or middleware change."""
    dm = shop(middleware=False, typed=True)
    seen: list[str] = []
    with dm.dal() as dal:
        assert dal["items.get"](1) == "item 1"

    @dm.method_middleware
    def watching(call: Any) -> Any:
        seen.append(call.path)
        return (yield)

    with dm.dal() as dal:
        dal["items.get"](1)
    assert seen == ["items.get"]

    class Others(Service):
        def get(self, id: int) -> str:
            return f"other {id}"

    dm.replace_service("items", Others())
    with dm.dal() as dal:
        assert dal["items.get"](1) == "other 1"
        with pytest.raises(UnknownCommand):
            dal["items.photos.add"]


def test_replace_service() -> None:
    """For good; the former one is given back, and what is no service is refused."""
    dm = shop(middleware=False, typed=True)
    former, new = dm.get_dal().items, Photos()
    assert dm.get_dal().replace_service("items", new) is former
    assert dm.get_dal().items is new
    with dm.dal() as dal:
        assert dal["items.add"]("x") == "added x"
    assert dm.replace_service("items", former) is new
    with dm.dal() as dal:
        assert dal.items.get(1) == "item 1"
    with pytest.raises(UnknownCommand, match=r"no such service \(registered: items\)"):
        dm.replace_service("other", Photos())
    with pytest.raises(UnknownCommand, match="registered: none"):
        DataManager().replace_service("other", Photos())
    with pytest.raises(InvalidServiceError, match="not a Service"):
        dm.replace_service("items", object())  # type: ignore[arg-type]
    other = DataManager()
    other.register_services(photos=(bound := Photos()))
    with pytest.raises(InvalidServiceError, match="another DataManager"):
        dm.replace_service("items", bound)


def test_a_replaced_service_counts_once() -> None:
    """Although the class still has the former one."""
    dm = DataManager(ShopDAL)
    dm.replace_service("items", Photos())
    dm.register_services(more=Items())
    assert list(dm.describe()["services"]) == ["items", "more"]
    with pytest.raises(AlreadyRegisteredError):
        dm.register_services(items=Items())
    with dm.dal() as dal:
        assert dal["items.add"]("x") == "added x"


def test_register_services_on_the_dal() -> None:
    """Gives the DAL back, and keeps what it was given."""
    dm = DataManager()
    dal = dm.get_dal()
    items = Items()
    assert dal.register_services(items=items, photos=Photos()) is dal
    assert dal.items is items
    assert isinstance(dal, DynamicDAL)


def test_the_dal_is_shared() -> None:
    """One for all contexts: inside an inner context the outer one's DAL works in the inner."""

    class Names(Service):
        def name(self) -> Any:
            return self._ctx.meta.user

    dm = DataManager()
    dm.register_services(names=Names())
    with dm.context({"user": "ann"}) as outer:
        with dm.context({"user": "bo"}) as inner:
            assert outer.dal is inner.dal is dm.get_dal()
            assert outer.dal.names.name() == "bo"
        assert outer.dal.names.name() == "ann"


def test_repr() -> None:
    """Names the class and its services."""
    assert repr(DataManager(ShopDAL).get_dal()) == "<ShopDAL items>"
    assert repr(DataAccessLayer()) == "<DataAccessLayer >"


# --- Proxies -------------------------------------------------------------------------------------------------------


class Rich(Service):
    """A service with more than methods."""

    nested = Photos()

    def __init__(self) -> None:
        self.things = {"a": 1}
        self.colour = "red"

    def get(self) -> str:
        return self.colour

    @property
    def shade(self) -> str:
        return f"dark {self.colour}"

    def __getitem__(self, key: str) -> int:
        return self.things[key]

    def __contains__(self, key: object) -> bool:
        return key in self.things

    def __len__(self) -> int:
        return len(self.things)

    def __iter__(self) -> Any:
        return iter(self.things)

    def __bool__(self) -> bool:
        return False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    def __eq__(self, other: object) -> bool:
        return other == "rich"

    def __hash__(self) -> int:
        return 5

    def __repr__(self) -> str:
        return "<a rich one>"

    def __enter__(self) -> str:
        return "entered"

    def __exit__(self, *raised: object) -> None:
        self.colour = "left"


@pytest.fixture
def rich() -> Any:
    dm = DataManager()
    service = Rich()
    dm.register_services(rich=service)
    dm.register_method_middleware(through)
    with dm.dal() as dal:
        assert dal.rich is not service
        yield dal.rich
    assert dm.replace_service("rich", Rich()) is service


def test_without_middleware_there_is_no_proxy() -> None:
    """``dal.items`` is the service itself."""
    items = Items()
    dm = DataManager()
    dm.register_services(items=items)
    with dm.dal() as dal:
        assert dal.items is items


def test_a_proxy_reports_the_class_of_its_service(rich: Any) -> None:
    """isinstance, repr and dir answer as the service does."""
    assert rich.__class__ is Rich
    assert isinstance(rich, Rich)
    assert isinstance(rich.nested, Photos)
    assert repr(rich) == "<a rich one>"
    assert set(dir(rich)) >= {"get", "shade", "nested", "things"}


def test_a_proxy_passes_attributes_through(rich: Any) -> None:
    """Values, properties and private names are the service's, to read, write and delete."""
    assert (rich.colour, rich.shade) == ("red", "dark red")
    rich.colour = "blue"
    assert (rich.colour, rich.shade, rich.get()) == ("blue", "dark blue", "blue")
    del rich.colour
    with pytest.raises(AttributeError):
        _ = rich.colour
    assert rich._data_manager is not None
    assert rich.nested.add("x") == "added x"


def test_a_proxy_forwards_special_methods(rich: Any) -> None:
    """Python looks these up on the class, so the proxy's class has those the service's class defines."""
    assert rich["a"] == 1
    assert "a" in rich
    assert len(rich) == 1
    assert list(rich) == ["a"]
    assert not rich
    assert rich(1, x=2) == ((1,), {"x": 2})
    assert rich == "rich"
    assert hash(rich) == 5
    with rich as entered:
        assert entered == "entered"
    assert rich.colour == "left"


def test_a_proxy_has_no_special_methods_of_its_own() -> None:
    """A plain service stays plain: no length, not callable, true."""
    dm = DataManager(ShopDAL)
    dm.register_method_middleware(through)
    items = dm.get_dal().items
    assert items
    assert not callable(items)
    with pytest.raises(TypeError):
        len(items)  # type: ignore[arg-type]
    assert items == items
    assert isinstance(hash(items), int)
    assert items.size == 3
    assert items.prop == 4
    assert items._secret() == "secret"
    assert repr(items) == repr(items._service)  # type: ignore[attr-defined]


def test_assigning_a_method_through_a_proxy() -> None:
    """As ``mock.patch.object(dal.items, "get")`` does: the assigned one is called, then the former one again."""
    dm = DataManager(ShopDAL)
    dm.register_method_middleware(through)
    with dm.dal() as dal, pytest.MonkeyPatch.context() as patch:
        patch.setattr(dal.items, "get", lambda id: "patched")
        assert dal.items.get(1) == "patched"
        patch.undo()
        assert dal.items.get(1) == "item 1"
        composed = dal.items.get
        dal.items.get = composed
        assert dal.items.get(1) == "item 1"
        dal.items.get = lambda id: "assigned"  # type: ignore[method-assign]
        assert dal["items.get"](1) == dal.items.get(1) == "assigned"
        del dal.items.get
        assert dal.items.get(1) == "item 1"
