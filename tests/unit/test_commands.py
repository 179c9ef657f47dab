"""Commands: what may be one, how it is made, and running it here."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from polydatum import (
    AsyncResourceError,
    Command,
    CommandError,
    CommandNotAllowed,
    ConfigurationError,
    Context,
    DataAccessLayer,
    DataManager,
    InvalidCommandArguments,
    InvalidCommandPath,
    Service,
    UnknownCommand,
    command,
)
from polydatum.commands import is_command


class Photos(Service[Any]):
    @command
    async def develop(self, number: int) -> str:
        return f"photo {number} in {self._ctx.state}"


class Items(Service[Any]):
    photos = Photos()

    def __init__(self) -> None:
        self.added: list[Any] = []

    def setup(self, data_manager: Any) -> None:
        super().setup(data_manager)
        self.added = []

    @command
    def add(self, name: str, tags: Any = (), *, price: float = 0.0) -> str:
        self.added.append((name, tags, price))
        self._ctx.progress(1, 2)
        return f"{name} for {self._ctx.meta.user}"

    def remove_all(self) -> None:
        self.added.clear()

    @command
    def fail(self) -> None:
        raise ZeroDivisionError

    @staticmethod
    def helper() -> None: ...

    @staticmethod
    @command
    def unit() -> str:
        return "piece"

    @command
    def _private(self) -> None: ...


class Shop(DataAccessLayer):
    items = Items()


@pytest.fixture
def dm() -> DataManager[Shop, Any]:
    return DataManager(Shop)


@pytest.fixture
def items(dm: DataManager[Shop, Any]) -> Items:
    return dm.get_dal().items


@pytest.fixture(params=["bare", "middleware"])
def any_dm(request: pytest.FixtureRequest, dm: DataManager[Shop, Any]) -> DataManager[Shop, Any]:
    """A manager with and without method middleware."""
    if request.param == "middleware":

        def around(call: Any) -> Iterator[None]:
            result = yield
            return result

        dm.register_method_middleware(around)
    return dm


def test_by_path_and_by_method_are_the_same(any_dm: DataManager[Shop, Any]) -> None:
    by_path = any_dm.command("items.add", "tea", price=2.5)
    by_method = command(any_dm.get_dal().items.add, "tea", price=2.5)
    assert by_path == by_method == any_dm.command("dal.items.add", "tea", price=2.5)
    assert hash(by_path) == hash(by_method)
    assert by_path != any_dm.command("items.add", "tea")
    assert by_path != "items.add"
    assert (by_method.path, by_method.args, by_method.kwargs) == ("items.add", ["tea"], {"price": 2.5})


def test_it_runs_in_a_fresh_context(any_dm: DataManager[Shop, Any]) -> None:
    outcomes: list[Context] = []

    def note(context: Context) -> Iterator[None]:
        outcomes.append(context)
        yield

    any_dm.register_context_middleware(note)
    with any_dm.context() as outer:
        assert any_dm.command("items.add", "tea").run(meta={"user": "ann"}) == "tea for ann"
        assert any_dm.get_active_context() is outer
    assert any_dm.get_dal().items.added == [("tea", (), 0.0)]
    assert [str(context.outcome) for context in outcomes] == ["committed", "committed"]


def test_it_goes_through_the_middleware(dm: DataManager[Shop, Any]) -> None:
    seen: list[str] = []

    def note(call: Any, proceed: Any) -> Any:
        seen.append(call.path)
        return proceed(call)

    dm.replace_service("items", Plain())
    dm.register_method_middleware(note)
    dm.command("items.go").run()
    assert seen == ["items.go"]


class Plain(Service[Any]):
    @command
    def go(self) -> str:
        return "gone"


def test_arguments_arrive_as_json_here_too(dm: DataManager[Shop, Any], items: Items) -> None:
    tags = ["hot", ("a", "b")]
    made = dm.command("items.add", "tea", tags)
    tags.clear()
    made.run()
    made.args[1].clear()
    made.run()
    assert items.added == [("tea", ["hot", ["a", "b"]], 0.0)] * 2


def test_an_error_rolls_back_and_is_raised(dm: DataManager[Shop, Any]) -> None:
    with pytest.raises(ZeroDivisionError):
        dm.command("items.fail").run()


def test_progress_is_told_to_who_listens(dm: DataManager[Shop, Any]) -> None:
    told: list[Any] = []
    dm.command("items.add", "tea").run(progress=lambda done, total: told.append((done, total)))
    with dm.context() as context:
        context.on_progress(lambda done, total: told.append("first"))
        context.on_progress(lambda done, total: told.append("second"))
        context.progress(5)
    with dm.context() as context:
        context.progress(5)
    assert told == [(1, 2), "first", "second"]


def test_what_a_listener_raises_ends_the_work(dm: DataManager[Shop, Any]) -> None:
    def revoked(done: float, total: float | None) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        dm.command("items.add", "tea").run(progress=revoked)


@pytest.mark.anyio
async def test_arun_runs_both_kinds(any_dm: DataManager[Shop, Any]) -> None:
    assert await any_dm.command("items.photos.develop", 3).arun() == "photo 3 in open"
    assert await any_dm.command("items.add", "tea").arun(meta={"user": "ann"}) == "tea for ann"


def test_run_refuses_an_async_method(dm: DataManager[Shop, Any]) -> None:
    assert dm.command("items.photos.develop", 3).is_async
    with pytest.raises(AsyncResourceError, match=r"^command 'items\.photos\.develop' .*arun"):
        dm.command("items.photos.develop", 3).run()


def test_in_an_override_it_runs_the_other_service(dm: DataManager[Shop, Any], items: Items) -> None:
    made = dm.command("items.add", "tea")
    other = Items()
    with dm.override(services={"items": other}):
        made.run()
    made.run()
    assert other.added == items.added == [("tea", (), 0.0)]


def test_a_method_that_a_test_has_patched_is_run_patched(
    any_dm: DataManager[Shop, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = any_dm.command("items.add", "tea")
    with monkeypatch.context() as patch:
        patch.setattr(any_dm.get_dal().items, "add", lambda name: f"no {name}")
        assert made.run() == "no tea"
    assert made.run(meta={"user": "ann"}) == "tea for ann"


def test_a_method_patched_on_its_class_is_run_patched(
    dm: DataManager[Shop, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = dm.command("items.add", "tea")
    monkeypatch.setattr(Items, "add", lambda self, name: f"no {name}")
    assert made.run() == "no tea"


def test_a_static_method_can_be_one(any_dm: DataManager[Shop, Any]) -> None:
    assert any_dm.command("items.unit").run() == "piece"


def test_what_is_registered_later_can_be_run(dm: DataManager[Shop, Any]) -> None:
    with pytest.raises(UnknownCommand):
        dm.command("plain.go")
    dm.register_services(plain=Plain())
    assert dm.command("plain.go").run() == "gone"


# --- Refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "error", "problem"),
    [
        ("items.remove_all", CommandNotAllowed, "decorate the method with @command"),
        ("items.helper", CommandNotAllowed, "decorate the method with @command"),
        ("dal.items.remove_all", CommandNotAllowed, "'items.remove_all' may not"),
        ("items.ad", UnknownCommand, "did you mean 'items.add'?"),
        ("zzz.yyy", UnknownCommand, "there is no such method of a service"),
        ("items.photos", UnknownCommand, "did you mean"),
        ("items.added", UnknownCommand, "did you mean"),
        ("items.setup", UnknownCommand, "did you mean"),
        ("items.register_services", UnknownCommand, "no such method"),
        ("items.add.run", UnknownCommand, "did you mean"),
        ("items._private", InvalidCommandPath, "segment 2"),
        ("items.__init__", InvalidCommandPath, "segment 2"),
        ("items", InvalidCommandPath, "a service and a method"),
        (5, InvalidCommandPath, "int"),
    ],
)
def test_paths_that_are_refused(dm: DataManager[Shop, Any], path: Any, error: Any, problem: str) -> None:
    with pytest.raises(error, match=problem):
        dm.command(path)


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), (("tea",), {"colour": "red"}), ((), {"self": 1})]
)
def test_arguments_that_do_not_fit(dm: DataManager[Shop, Any], args: Any, kwargs: Any) -> None:
    with pytest.raises(InvalidCommandArguments, match=r"have to fit \(name: "):
        dm.command("items.add", *args, **kwargs)


def test_arguments_that_are_no_json(dm: DataManager[Shop, Any]) -> None:
    with pytest.raises(InvalidCommandArguments, match="argument '2' contains a set"):
        dm.command("items.add", "tea", {1})


def test_a_method_that_is_not_marked(dm: DataManager[Shop, Any], items: Items) -> None:
    with pytest.raises(CommandNotAllowed, match=r"Items\.remove_all"):
        command(items.remove_all)


def test_a_method_of_a_service_that_is_not_registered() -> None:
    with pytest.raises(ConfigurationError, match="not registered yet"):
        command(Plain().go)


@pytest.mark.parametrize("thing", [print, staticmethod(print), 5, Plain, [].append])
def test_what_cannot_be_marked(thing: Any) -> None:
    with pytest.raises(ConfigurationError, match="plain method"):
        command(thing)
    with pytest.raises(ConfigurationError, match="plain method"):
        command(thing, 5)


def of_a_class(dm: DataManager[Shop, Any]) -> Any:
    return Items.remove_all


def marked_already(dm: DataManager[Shop, Any]) -> Any:
    return Photos.develop


def static(dm: DataManager[Shop, Any]) -> Any:
    return dm.get_dal().items.unit


def made_in_a_function(dm: DataManager[Shop, Any]) -> Any:
    class Late(Items):
        def go(self) -> None: ...

    return Late.go


@pytest.mark.parametrize("found", [of_a_class, marked_already, static, made_in_a_function])
@pytest.mark.parametrize("args", [(), (5,)])
def test_a_function_of_a_class_is_not_marked_from_outside(
    any_dm: DataManager[Shop, Any], found: Any, args: tuple[Any, ...]
) -> None:
    """It was meant as a call."""
    function = found(any_dm)
    was_one = is_command(function)
    with pytest.raises(ConfigurationError, match=r"name the method by the DAL, .* or by its path, dm\.command"):
        command(function, *args)
    assert is_command(function) is was_one


def test_a_function_of_its_own_may_be_a_command_of_several_services(dm: DataManager[Shop, Any]) -> None:
    def go(self: Any) -> str:
        return type(self).__name__

    first, second = (type(name, (Service,), {"go": command(go)}) for name in ("First", "Second"))
    dm.register_services(first=first(), second=second())
    assert [dm.command(path).run() for path in ("first.go", "second.go")] == ["First", "Second"]


def test_a_command_cannot_be_pickled_and_copies_are_itself(dm: DataManager[Shop, Any]) -> None:
    made = dm.command("items.add", "secret")
    with pytest.raises(CommandError, match=r"<Command items\.add> cannot be pickled.*send\(\) it.*dm\.command\(path"):
        pickle.dumps(made)
    assert copy.copy(made) is made
    assert copy.deepcopy([made])[0] is made


def test_an_override_of_a_subclass_has_to_be_marked_again(dm: DataManager[Shop, Any]) -> None:
    class Quiet(Plain):
        def go(self) -> str:
            return "unmarked"

    dm.register_services(quiet=Quiet())
    with pytest.raises(CommandNotAllowed):
        dm.command("quiet.go")


def test_a_command_shows_its_path_and_no_arguments(dm: DataManager[Shop, Any]) -> None:
    assert repr(dm.command("items.add", "secret")) == "<Command items.add>"


def test_the_mark_leaves_the_method_what_it_is(dm: DataManager[Shop, Any]) -> None:
    with dm.dal(meta={"user": "ann"}) as dal:
        assert dal.items.add("tea") == "tea for ann"
    assert isinstance(dm.command("items.add", "tea"), Command)


def test_describe_tells_commands(dm: DataManager[Shop, Any]) -> None:
    methods = dm.describe()["services"]["items"]["methods"]
    assert {name: facts["command"] for name, facts in methods.items()} == {
        "add": True,
        "remove_all": False,
        "fail": True,
        "helper": False,
        "unit": True,
    }
