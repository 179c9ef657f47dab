"""DataManager: registration, names, override, what it says about itself."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from polydatum import (
    AlreadyRegisteredError,
    ConfigurationError,
    Context,
    DataAccessLayer,
    DataManager,
    DynamicDAL,
    Inbox,
    InvalidResourceError,
    InvalidServiceError,
    LocalQueue,
    NoActiveContextError,
    Service,
    UnknownCommand,
    UnknownResourceError,
    ValueResource,
)


class Photos(Service):
    def name(self) -> str:
        return "photos"


class Items(Service):
    photos = Photos()

    def name(self) -> str:
        return "items"

    def tag(self) -> Any:
        return self._ctx.tag


class FakeItems(Items):
    def name(self) -> str:
        return "fake items"


class FakePhotos(Photos):
    def name(self) -> str:
        return "fake photos"


class ShopDAL(DataAccessLayer):
    items = Items()
    photos = Photos()


def through(call: Any) -> Any:
    """A method middleware that changes nothing."""
    return (yield)


@pytest.fixture(params=["typed", "dynamic", "typed with middleware", "dynamic with middleware"])
def dm(request: pytest.FixtureRequest) -> DataManager[Any, Any]:
    if request.param.startswith("typed"):
        manager: DataManager[Any, Any] = DataManager(ShopDAL)
    else:
        manager = DataManager()
        manager.register_services(items=Items(), photos=Photos())
    manager.get_dal().items.register_services(extra=Photos())
    manager.register_resources(tag=ValueResource("red"))
    if "middleware" in request.param:
        manager.register_method_middleware(through)
    return manager


# --- Making one ----------------------------------------------------------------------------------------------------


def test_dal_classes() -> None:
    """The class that is passed, that of the manager's class, or the dynamic one."""

    class Own(DataManager[Any, Any]):
        DataAccessLayer = ShopDAL

    assert isinstance(DataManager(ShopDAL).get_dal(), ShopDAL)
    assert isinstance(Own().get_dal(), ShopDAL)
    assert isinstance(DataManager().get_dal(), DynamicDAL)
    assert repr(DataManager(ShopDAL)) == "<DataManager of <ShopDAL items, photos>, 0 resources>"


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((int,), {}, "takes a subclass of DataAccessLayer, not int"),
        ((ShopDAL(),), {}, r"takes the class of the DAL, not an instance: DataManager\(ShopDAL\)"),
        ((), {"context_class": dict}, "context_class has to be a subclass of Context, not dict"),
        ((), {"teardown_timeout": 0}, "teardown_timeout has to be a number of seconds above 0"),
        ((), {"teardown_timeout": float("nan")}, "teardown_timeout"),
        ((), {"commit_order": "db"}, r"commit_order has to be a sequence of names, such as \['db'\], not a string"),
    ],
)
def test_what_it_is_not_made_of(arguments: Any, options: Any, said: str) -> None:
    """Refused at once."""
    with pytest.raises(ConfigurationError, match=said):
        DataManager(*arguments, **options)


async def test_dal_block(drive: Any) -> None:
    """``with dm.dal() as dal`` gives the DAL, and is a context all the same."""
    dm = DataManager(ShopDAL)
    block = dm.dal({"user": "ann"})
    async with drive.block(block) as dal:
        assert dal is dm.get_dal()
        assert dm.require_active_context() is block
        assert dm.require_active_context().meta.user == "ann"
        assert dal.items.name() == "items"
    assert isinstance(block, Context)
    assert block.outcome == "committed"


# --- Resources -----------------------------------------------------------------------------------------------------


async def test_resources_of_the_current_context(drive: Any) -> None:
    """``dm.db`` is another spelling of that of the current context; registered names only."""
    dm = DataManager()
    dm.register_resources(tag=lambda context: contextlib.nullcontext(object()))
    with pytest.raises(NoActiveContextError):
        _ = dm.tag
    async with drive.block(dm.context()) as ctx:
        assert await drive.value(dm.tag) is await drive.value(ctx.tag)
        for name in ("other", "_tag", "meta"):
            with pytest.raises(UnknownResourceError, match=r"registered: tag"):
                getattr(dm, name)
    assert not hasattr(dm, "other")
    assert not hasattr(dm, "__html__")


def test_attributes_before_the_constructor() -> None:
    """A manager that is being unpickled or copied does not recurse."""
    with pytest.raises(UnknownResourceError):
        _ = object.__new__(DataManager).tag


RESERVED = sorted(
    {name for cls in (Context, DataManager) for name in dir(cls) if not name.startswith("_")} - {"DataAccessLayer"}
)


@pytest.mark.parametrize("name", [*RESERVED, "DataAccessLayer"])
@pytest.mark.parametrize("register", ["register_resources", "register_app_resources"])
def test_reserved_names(name: str, register: str) -> None:
    """The public names of Context and DataManager are refused."""
    with pytest.raises(InvalidResourceError, match="choose another"):
        getattr(DataManager(), register)(**{name: ValueResource(1)})


def test_names_of_a_context_class_are_reserved() -> None:
    """Those that are declared only are free; those with a value are not."""

    class ShopContext(Context):
        tag: str

        def basket(self) -> None: ...

    dm = DataManager(context_class=ShopContext)
    dm.register_resources(tag=ValueResource(1))
    with pytest.raises(InvalidResourceError, match="choose another"):
        dm.register_resources(basket=ValueResource(1))


@pytest.mark.parametrize("name", ["_db", "__db__", "two words", "1st", "", "a.b"])
def test_names_that_are_none(name: str) -> None:
    """A resource's name is a public identifier."""
    dm = DataManager()
    with pytest.raises(InvalidResourceError, match="public identifier"):
        dm.register_resources(**{name: ValueResource(1)})
    with pytest.raises(InvalidResourceError, match="public identifier"):
        dm.register_app_resources(**{name: ValueResource(1)})


def test_a_name_is_registered_once() -> None:
    """In either scope; replace_resource is the way to change one."""
    dm = DataManager()
    dm.register_resources(tag=ValueResource(1))
    dm.register_app_resources(app=ValueResource(1))
    for name in ("tag", "app"):
        for register in (dm.register_resources, dm.register_app_resources):
            with pytest.raises(AlreadyRegisteredError, match=f"resource '{name}'.*replace_resource"):
                register(**{name: ValueResource(2)})


def test_replace_resource() -> None:
    """For good, for contexts opened later."""
    dm = DataManager()
    dm.register_resources(tag=ValueResource(1))
    with dm.context() as before:
        dm.replace_resource("tag", ValueResource(2))
        assert before.tag == 1
        with dm.context() as after:
            assert after.tag == 2
        with pytest.raises(InvalidResourceError):
            dm.replace_resource("tag", 3)
        with pytest.raises(UnknownResourceError):
            dm.replace_resource("other", ValueResource(1))
    assert dm.get_resource("tag").value == 2
    with pytest.raises(UnknownResourceError):
        dm.get_resource("other")


async def test_registered_while_contexts_are_open(drive: Any) -> None:
    """A new resource is there for them, too; a new middleware for later ones."""
    dm = DataManager()
    seen: list[str] = []
    async with drive.block(dm.context()) as ctx:
        dm.register_resources(late=ValueResource(1))
        assert ctx.late == 1

        @dm.context_middleware
        def watching(context: Any) -> Iterator[None]:
            seen.append("set up")
            yield

    assert seen == []
    async with drive.block(dm.context()):
        assert seen == ["set up"]


def test_many_resources() -> None:
    """More than have a place prepared for them."""
    dm = DataManager()
    names = [f"r{number}" for number in range(45)]
    for name in names:
        dm.register_resources(**{name: ValueResource(name)})
    with dm.context() as ctx:
        assert [getattr(ctx, name) for name in names] == names
    with dm.override(resources={"r44": ValueResource(0)}), dm.context() as ctx:
        assert (ctx.r44, ctx.r0) == (0, "r0")


def test_decorators_give_the_function_back() -> None:
    """``@dm.resource`` registers by the function's name and leaves it what it was."""
    dm = DataManager()

    def tag(context: Any) -> Iterator[str]:
        yield "red"

    assert dm.resource(tag) is tag
    with dm.context() as ctx:
        assert ctx.tag == "red"


# --- Override ------------------------------------------------------------------------------------------------------


async def test_override_services(dm: DataManager[Any, Any], drive: Any) -> None:
    """By name and by dotted path, for contexts opened in the block; everything is as before afterwards."""
    async with drive.block(dm.context()) as before:
        with dm.override(services={"photos": (fake := FakePhotos()), "items.photos": FakePhotos()}):
            async with drive.block(dm.dal()) as dal:
                assert dal.photos.name() == dal.items.photos.name() == "fake photos"
                assert dal["photos.name"]() == dal["items.photos.name"]() == "fake photos"
                assert (dal.items.name(), dal.items.extra.name(), dal["items.extra.name"]()) == (
                    *("items", "photos", "photos"),
                )
                assert dal.items.tag() == "red"
                assert fake._data_manager is dm
            assert before.dal.photos.name() == before.dal.items.photos.name() == "photos"
            assert before.dal["items.photos.name"]() == "photos"
        async with drive.block(dm.dal()) as dal:
            assert dal.photos.name() == dal.items.photos.name() == "photos"
            assert dal["photos.name"]() == dal["items.photos.name"]() == "photos"


async def test_override_registered_nested_services(dm: DataManager[Any, Any], drive: Any) -> None:
    """A nested service that was registered, and one below a replaced one."""
    with dm.override(services={"items.extra": FakePhotos()}):
        async with drive.block(dm.dal()) as dal:
            assert dal.items.extra.name() == dal["items.extra.name"]() == "fake photos"
            assert dal.items.photos.name() == "photos"
    with dm.override(services={"items": FakeItems()}):
        async with drive.block(dm.dal()) as dal:
            assert (dal.items.name(), dal.items.photos.name(), dal.items.tag()) == (
                "fake items",
                "photos",
                "red",
            )
            assert not hasattr(dal.items, "extra")
    async with drive.block(dm.dal()) as dal:
        assert dal.items.extra.name() == "photos"


async def test_overrides_nest(dm: DataManager[Any, Any], drive: Any) -> None:
    """The inner one adds to the outer one."""
    with dm.override(services={"photos": FakePhotos()}, resources={"tag": ValueResource("blue")}):
        with dm.override(services={"items": FakeItems()}):
            async with drive.block(dm.dal()) as dal:
                assert (dal.photos.name(), dal.items.name(), dal.items.tag()) == (
                    "fake photos",
                    "fake items",
                    "blue",
                )
        async with drive.block(dm.dal()) as dal:
            assert (dal.photos.name(), dal.items.name(), dal.items.tag()) == ("fake photos", "items", "blue")
    async with drive.block(dm.dal()) as dal:
        assert (dal.photos.name(), dal.items.name(), dal.items.tag()) == ("photos", "items", "red")


async def test_override_resources(drive: Any, recorder: Any) -> None:
    """Contexts that are open already keep what they have, opened or not; through every spelling."""
    dm = DataManager()
    dm.register_services(items=Items())
    dm.register_resources(tag=drive.part(recorder.part("tag", "red")), other=ValueResource("old"))
    async with drive.block(dm.context()) as before:
        with dm.override(resources={"tag": ValueResource("blue"), "other": ValueResource("new")}):
            async with drive.block(dm.context()) as ctx:
                assert (ctx.tag, dm.tag, ctx.dal.items.tag(), ctx.other) == ("blue", "blue", "blue", "new")
            assert await drive.value(before.tag) == "red"
            assert await drive.value(dm.tag) == "red"
            assert (before.other, dm.other) == ("old", "old")
    assert recorder == ["tag opens", "tag commits", "tag ends"]
    async with drive.block(dm.context()) as ctx:
        assert await drive.value(ctx.tag) == "red"


async def test_override_app_resources(drive: Any, recorder: Any) -> None:
    """Stays in the application's scope; contexts that are open already keep theirs, by both spellings."""
    dm = DataManager()
    dm.register_app_resources(engine=drive.part(recorder.part("engine", "real")))
    async with drive.block(dm.context()) as before:
        assert await drive.value(before.engine) == "real"
        with dm.override(resources={"engine": drive.part(recorder.part("engine", "fake"))}):
            async with drive.block(dm.context()) as ctx:
                assert await drive.value(ctx.engine) == await drive.value(dm.engine) == "fake"
            assert await drive.value(before.engine) == "real"
            assert await drive.value(dm.engine) == "real"
            assert recorder == ["engine opens", "engine opens"]
        assert await drive.value(dm.engine) == "real"
    await drive.close_manager(dm)
    assert recorder.count("engine ends") == 2


def test_override_ends_with_its_block() -> None:
    """However that ends."""
    dm = DataManager()
    dm.register_resources(tag=ValueResource(1))
    with pytest.raises(KeyError), dm.override(resources={"tag": ValueResource(2)}):
        raise KeyError
    with dm.context() as ctx:
        assert ctx.tag == 1


@pytest.mark.parametrize(
    ("services", "resources", "error"),
    [
        ({"other": FakeItems}, {}, UnknownCommand),
        ({"items.other": FakeItems}, {}, UnknownCommand),
        ({"other.photos": FakePhotos}, {}, UnknownCommand),
        ({"items.photos.deeper.still": FakePhotos}, {}, UnknownCommand),
        ({"": FakePhotos}, {}, UnknownCommand),
        ({"items": object}, {}, InvalidServiceError),
        ({"items.photos": lambda: FakePhotos}, {}, InvalidServiceError),
        ({}, {"other": ValueResource(1)}, UnknownResourceError),
        ({}, {"tag": 3}, InvalidResourceError),
        ({"photos": FakePhotos, "other": FakePhotos}, {"tag": ValueResource("blue")}, UnknownCommand),
    ],
)
def test_what_cannot_be_overridden(dm: DataManager[Any, Any], services: Any, resources: Any, error: Any) -> None:
    """Names that lead nowhere and things that are none are refused, and nothing has changed."""
    made = {path: make() for path, make in services.items()}
    with pytest.raises(error), dm.override(services=made, resources=resources):
        pass
    with dm.dal() as dal:
        assert (dal.items.name(), dal.photos.name(), dal.items.tag()) == ("items", "photos", "red")


def test_override_with_a_service_of_another_manager() -> None:
    """Is refused like everywhere."""
    dm, other = DataManager(ShopDAL), DataManager()
    other.register_services(photos=(taken := Photos()))
    with (
        pytest.raises(InvalidServiceError, match="another DataManager"),
        dm.override(services={"photos": taken}),
    ):
        pass


def test_override_twice_with_one_fake() -> None:
    """A fake can be used again, in another block."""
    dm, fake = DataManager(ShopDAL), FakePhotos()
    for _ in range(2):
        with dm.override(services={"photos": fake}), dm.dal() as dal:
            assert dal.photos is fake


async def test_middleware_registered_inside_an_override(drive: Any, recorder: Any) -> None:
    """Is no part of the override, and stays."""
    dm = DataManager()
    dm.register_resources(tag=ValueResource(1))
    with dm.override(resources={"tag": ValueResource(2)}):
        dm.register_context_middleware(recorder.part("mw"))
    async with drive.block(dm.context()):
        assert recorder == ["mw opens"]


# --- Subclasses that choose ----------------------------------------------------------------------------------------


async def test_get_middleware(drive: Any, recorder: Any) -> None:
    """A subclass chooses per context: from those registered, and others."""

    class Choosing(DataManager[Any, Any]):
        def get_middleware(self, context: Any) -> Any:
            chosen = list(super().get_middleware(context))
            if context.meta.user == "ann":
                return [*chosen, drive.part(recorder.part("more"))]
            return chosen[:1]

    dm = Choosing()
    dm.register_context_middleware(drive.part(recorder.part("a")), drive.part(recorder.part("b")))
    async with drive.block(dm.context({"user": "ann"})):
        pass
    assert recorder[:3] == ["a opens", "b opens", "more opens"]
    recorder.clear()
    async with drive.block(dm.context()):
        pass
    assert recorder == ["a opens", "a commits", "a ends"]
    assert len(list(DataManager.get_middleware(dm, None))) == 2


async def test_get_resource(drive: Any, recorder: Any) -> None:
    """A subclass supplies resources that are registered nowhere; they open and close like any other."""

    class Supplying(DataManager[Any, Any]):
        def get_resource(self, name: str) -> Any:
            if name.startswith("shard_"):
                return drive.part(recorder.part(name))
            return super().get_resource(name)

    dm = Supplying()
    dm.register_resources(tag=ValueResource("red"))
    for _ in range(2):
        recorder.clear()
        async with drive.block(dm.context()) as ctx:
            assert await drive.value(ctx.shard_1) == "shard_1"
            assert await drive.value(dm.shard_2) == "shard_2"
            assert await drive.value(ctx.shard_1) == "shard_1"
            assert ctx.tag == dm.tag == "red"
            for thing in (ctx, dm):
                assert not hasattr(thing, "other")
                assert not hasattr(thing, "_shard")
        assert recorder == [
            *(
                "shard_1 opens",
                "shard_2 opens",
                "shard_2 commits",
                "shard_2 ends",
                "shard_1 commits",
                "shard_1 ends",
            ),
        ]


# --- What it says about itself -------------------------------------------------------------------------------------


def guarded(context: Any) -> Iterator[int]:
    try:
        yield 1
    finally:
        print()


def unguarded(context: Any) -> Iterator[int]:
    yield 1
    print()


async def async_unguarded(context: Any) -> AsyncIterator[int]:
    yield 1
    print()


def sync_form(call: Any, proceed: Any) -> Any:
    return proceed(call)


class Reports(Service):
    """Numbers for the office.

    More words.
    """

    nested = Photos()

    async def build(self, month: int = 1) -> str:
        """Build one."""
        return ""


def test_check() -> None:
    """Nothing is opened or called; a manager without problems has none."""
    dm = DataManager(ShopDAL)
    assert dm.check() == []
    dm.register_resources(fine=guarded, value=ValueResource(1), photos=guarded, bare=unguarded, abare=async_unguarded)
    dm.register_context_middleware(guarded, unguarded, contextlib.contextmanager(unguarded))
    dm.register_services(reports=Reports())
    dm.register_method_middleware(sync_form)
    found = dm.check()
    assert [(problem.code, problem.subject) for problem in found] == [
        ("name-clash", "resource 'photos'"),
        ("unguarded-teardown", "resource 'bare'"),
        ("unguarded-teardown", "resource 'abare'"),
        ("unguarded-teardown", "context middleware 'unguarded'"),
        ("mismatched-middleware", "method 'reports.build'"),
    ]
    assert "rename one" in found[0].message
    assert "'try: ... finally:' or a 'with' block" in found[1].message
    assert "sync_form" in found[-1].message
    assert str(found[0]) == "name-clash resource 'photos': a service has the same name; rename one of them"


def test_check_finds_names_in_commit_order_that_are_none() -> None:
    """A typo there is seen only when two databases have written."""
    dm = DataManager(commit_order=["pg", "mysqk"])
    dm.register_resources(pg=guarded, mysql=guarded)
    (found,) = dm.check()
    assert (found.code, found.subject) == ("unknown-resource", "commit_order")
    assert "'mysqk'" in found.message
    assert "mysql, pg" in found.message


def test_check_cannot_know_what_a_subclass_supplies() -> None:
    class Supplying(DataManager[Any, Any]):
        def get_resource(self, name: str) -> Any:
            return guarded

    class Picky(Inbox):
        def check(self, data_manager: Any) -> None:
            raise ConfigurationError("nothing here suits me")

    dm = Supplying(commit_order=["shard_1"])
    dm.register_command_queue(LocalQueue(dm), inbox=Picky())
    assert dm.check() == []


def test_describe() -> None:
    """Plain data: services with their methods, resources, middleware."""
    dm = DataManager()
    dm.register_services(reports=Reports())
    dm.register_resources(
        db=guarded, pg=async_unguarded, rate=ValueResource(1), made=contextlib.contextmanager(guarded)
    )
    dm.register_app_resources(engine=guarded)
    dm.register_context_middleware(guarded, async_unguarded)
    dm.register_method_middleware(through, sync_form)
    described = dm.describe()
    assert json.loads(json.dumps(described)) == described
    reports = described["services"]["reports"]
    assert (reports["class"], reports["doc"]) == ("Reports", "Numbers for the office.")
    assert list(reports["methods"]) == ["build"]
    build = reports["methods"]["build"]
    assert build["async"] is True
    assert build["doc"] == "Build one."
    assert build["signature"].startswith("(month")
    assert reports["services"]["nested"]["methods"]["name"]["async"] is False
    assert described["resources"] == {
        "db": {"kind": "Generator", "scope": "context", "async": False, "factory": "guarded"},
        "pg": {"kind": "AsyncGenerator", "scope": "context", "async": True, "factory": "async_unguarded"},
        "rate": {"kind": "value", "scope": "context", "async": False, "factory": "ValueResource"},
        "made": {"kind": "Callable", "scope": "context", "async": False, "factory": "guarded"},
        "engine": {"kind": "Generator", "scope": "app", "async": False, "factory": "guarded"},
    }
    assert described["context_middleware"] == [
        {"name": "guarded", "async": False},
        {"name": "async_unguarded", "async": True},
    ]
    assert [one["name"] for one in described["method_middleware"]] == ["through", "sync_form"]
    assert DataManager().describe() == {
        "services": {},
        "resources": {},
        "context_middleware": [],
        "method_middleware": [],
    }


def test_describe_with_method_middleware_on() -> None:
    """The services themselves are described, not what surrounds them."""
    dm = DataManager(ShopDAL)
    before = dm.describe()
    dm.register_method_middleware(through)
    with dm.dal():
        assert dm.describe()["services"] == before["services"]
