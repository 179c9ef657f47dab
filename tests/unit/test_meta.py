"""Meta: read-only through and through, lazy on touch."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest

from polydatum import DataManager, Meta, MetaKeyError, MetaReadOnlyError, lazy
from polydatum.meta import LazyFacts


def test_user_request_params_always_exist() -> None:
    """Nobody has to ask whether there is a user: None, None, empty."""
    meta = Meta()
    assert (meta.user, meta.request, dict(meta.params)) == (None, None, {})
    assert meta.keys() == ("user", "request", "params")


def test_reading() -> None:
    """By attribute, key, get, require and in; keys that clash with methods by key."""
    meta = Meta({"user": "ann", "items": 3, "get": 4}, tenant=0)
    assert (meta.user, meta["user"], meta.get("user"), meta.require("user")) == ("ann",) * 4
    assert (meta["items"], meta["get"], meta.tenant) == (3, 4, 0)
    assert dict(meta.items()) == {
        "user": "ann",
        "request": None,
        "params": {},
        "items": 3,
        "get": 4,
        "tenant": 0,
    }
    assert "tenant" in meta
    assert "other" not in meta
    assert len(meta) == len(list(meta)) == 6
    assert {**meta} == dict(meta.items())


def test_unknown_keys() -> None:
    """A key that was never set raises by attribute and key, and gives the default by get."""
    meta = Meta()
    with pytest.raises(MetaKeyError, match="no 'tenant'"):
        _ = meta.tenant
    with pytest.raises(MetaKeyError):
        meta["tenant"]
    with pytest.raises(MetaKeyError):
        meta.require("tenant")
    assert meta.get("tenant") is None
    assert meta.get("tenant", 5) == 5
    assert not hasattr(meta, "tenant")
    assert not hasattr(meta, "__html__")


def test_require() -> None:
    """Falsy values will do, None will not."""
    meta = Meta(zero=0, text="")
    assert meta.require("zero") == 0
    assert meta.require("text") == ""
    with pytest.raises(MetaKeyError):
        meta.require("user")


def _set(meta: Any) -> None:
    meta.user = 1


def _set_new(meta: Any) -> None:
    meta.other = 1


def _delete(meta: Any) -> None:
    del meta.user


def _set_item(meta: Any) -> None:
    meta["user"] = 1


def _delete_item(meta: Any) -> None:
    del meta["user"]


@pytest.mark.parametrize("write", [_set, _set_new, _delete, _set_item, _delete_item])
def test_writing_is_refused(write: Any) -> None:
    """No spelling of a write changes a fact."""
    meta = Meta(user="ann")
    with pytest.raises(MetaReadOnlyError, match="read-only"):
        write(meta)
    assert meta.user == "ann"


def test_freezing_asks_no_proxy_for_its_class() -> None:
    """A proxy that loads what it stands for when it is looked at, such as Django's ``request.user``, is left alone."""

    class Proxy:
        @property
        def __class__(self) -> Any:
            raise AssertionError("loaded")

    user = Proxy()
    meta = Meta({"now": user, "late": lazy(lambda: user)})
    assert meta.now is user
    assert meta.late is user


def test_nested_values_are_frozen() -> None:
    """Dicts, lists and sets become read-only copies, all the way down; lazy ones, too."""
    given = {"list": [1, {"deep": [2]}], "set": {3}, "tuple": ([4],), "dict": {"a": {"b": []}}}
    meta = Meta({**given, "late": lazy(lambda: {"x": [5]})})
    assert meta["list"] == (1, {"deep": (2,)})
    assert meta["set"] == frozenset({3})
    assert meta["tuple"] == ((4,),)
    assert meta["late"] == {"x": (5,)}
    for mapping in (meta["dict"], meta["dict"]["a"], meta["list"][1], meta["late"]):
        assert isinstance(mapping, MappingProxyType)
        with pytest.raises(TypeError):
            mapping["a"] = 1  # type: ignore[index]
    given["list"].append(9)  # type: ignore[attr-defined]
    assert len(meta["list"]) == 2


def test_other_objects_stay_what_they_are() -> None:
    """A request is passed on as it is, and so is a callable that is not lazy."""
    request, call = object(), lambda: 1
    meta = Meta(request=request, call=call)
    assert meta.request is request
    assert meta.call is call


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"])
def test_no_copies(again: Any) -> None:
    """Meta belongs to one context."""
    with pytest.raises(TypeError, match="read the values|send the values"):
        again(Meta(user="ann"))


def test_repr_shows_keys_only() -> None:
    """Values may be secret."""
    assert repr(Meta(token="s3cret")) == "<Meta user, request, params, token>"


def test_lazy_is_evaluated_once_on_touch() -> None:
    """Nothing runs before the touch; every spelling of reading gives the one value."""
    calls: list[int] = []
    meta = Meta(user=lazy(lambda: calls.append(1) or "ann"))
    assert calls == []
    assert (meta.user, meta["user"], meta.get("user"), meta.require("user")) == ("ann",) * 4
    assert dict(meta.items())["user"] == "ann"
    assert calls == [1]


def test_lazy_none_is_a_value() -> None:
    """A lazy value may well be None, and is not asked for again."""
    calls: list[int] = []
    meta = Meta(user=lazy(lambda: calls.append(1)))
    assert meta.user is None
    assert meta.user is None
    assert calls == [1]


@pytest.mark.parametrize("error", [ValueError, KeyError, AttributeError])
def test_lazy_that_fails_is_tried_again(error: type[Exception]) -> None:
    """The error reaches the reader as it is; the next touch asks anew."""
    answers: list[Any] = [error("no database"), "ann"]

    def load() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    meta = Meta(user=lazy(load))
    with pytest.raises(error, match="no database"):
        _ = meta.user
    assert meta.user == "ann"


@pytest.mark.parametrize(
    "read_by", [lambda f: Meta(user=lazy(f)), lambda f: Meta(Late(user=lazy(f)))], ids=["at once", "late"]
)
def test_lazy_is_evaluated_once_by_many_threads(read_by: Any) -> None:
    """Whoever touches it first evaluates it; the others get that value."""
    calls: list[int] = []
    entered, go_on = threading.Event(), threading.Event()

    def load() -> object:
        calls.append(1)
        entered.set()
        assert go_on.wait(5)
        return object()

    meta = read_by(load)
    seen: list[Any] = []
    threads = [threading.Thread(target=lambda: seen.append(meta.user)) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert entered.wait(5)
    go_on.set()
    for thread in threads:
        thread.join()
    assert calls == [1]
    assert len(seen) == 4
    assert len(set(seen)) == 1


def test_lazy_that_somebody_else_evaluates_meanwhile_is_not_evaluated_again() -> None:
    value = lazy(lambda: "ann")

    class Waited:
        """A lock that another thread has had before."""

        def __enter__(self) -> None:
            value._lock = threading.RLock()
            assert value.evaluate() == "ann"
            value._value = "bob"

        def __exit__(self, *args: Any) -> None: ...

    value._lock = Waited()  # type: ignore[assignment]
    assert value.evaluate() == "bob"
    assert value.evaluate() == "bob"


def test_lazy_that_gives_a_lazy_is_evaluated_through() -> None:
    """Adapters look for the user late, and may find what is to be looked up later still."""
    calls: list[int] = []
    found = lazy(lambda: calls.append(1) or {"name": "ann"})
    meta = Meta(user=lazy(lambda: found))
    assert calls == []
    assert (meta.user, meta.user) == ({"name": "ann"}, {"name": "ann"})
    assert calls == [1]


def test_lazy_drops_its_function() -> None:
    """What the function closes over, such as a request, is let go once the value is there."""
    value = lazy(lambda: 1)
    assert value.evaluate() == 1
    assert value._fn is None


class Late(LazyFacts, Mapping[str, Any]):
    """Facts that are asked for one by one."""

    def __init__(self, **facts: Any) -> None:
        self.facts = facts
        self.asked: list[str] = []

    def __getitem__(self, key: str) -> Any:
        self.asked.append(key)
        return self.facts[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.facts)

    def __len__(self) -> int:
        return len(self.facts)


def test_what_is_read_late_is_asked_for_once_when_it_is_read() -> None:
    """The names are there from the start; what nobody reads is never asked for."""
    facts = Late(user="ann", tags=["a"], other=1)
    meta = Meta(facts, more=[2])
    assert meta.keys() == tuple(meta) == ("user", "request", "params", "tags", "other", "more")
    assert (len(meta), "tags" in meta, "tenant" in meta) == (6, True, False)
    assert repr(meta) == "<Meta user, request, params, tags, other, more>"
    assert facts.asked == []
    assert (meta.user, meta["user"], meta.tags, meta.tags, meta.more) == ("ann", "ann", ("a",), ("a",), (2,))
    assert facts.asked == ["user", "tags"]


def test_what_is_read_late_may_lack_what_always_exists() -> None:
    meta = Meta(Late())
    assert (meta.user, meta.request, dict(meta.params), meta.get("tenant")) == (None, None, {}, None)
    with pytest.raises(MetaKeyError, match="no 'tenant'"):
        _ = meta.tenant
    assert dict(meta.items()) == {"user": None, "request": None, "params": {}}


async def test_meta_of_a_context(drive: Any) -> None:
    """Given as a mapping or as a Meta; evaluated values stay readable after the close."""
    dm = DataManager()
    meta = Meta(user=lazy(lambda: "ann"))
    async with drive.block(dm.context(meta)) as ctx:
        assert ctx.meta is meta
        assert ctx.meta.user == "ann"
    assert ctx.meta.user == "ann"
    async with drive.block(dm.context({"user": "bo"})) as ctx:
        pass
    assert ctx.meta.user == "bo"
    assert ctx.meta is ctx.meta
    async with drive.block(dm.context()) as ctx:
        assert ctx.meta.user is None
