"""``polydatum.context`` of 0.9.1: DataAccessContext, Meta, get_active_context, and the hooks to override."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

import polydatum
import polydatum.context
from polydatum.context import DataAccessContext, Meta, get_active_context
from polydatum.dal import DataManager
from polydatum.resources import ValueResource


def test_names() -> None:
    """Aliases are the same objects."""
    assert DataAccessContext is polydatum.Context
    assert polydatum.context.Meta is polydatum.Meta


def test_meta() -> None:
    """get, require, items, and attributes."""
    meta = Meta(user_id=0, name=None)
    assert meta.get("user_id") == 0
    assert meta.get("other") is None
    assert meta.get("other", 3) == 3
    assert meta.user_id == 0
    assert ("user_id", 0) in meta.items()


def test_meta_differences() -> None:
    """Documented: a missing key raises instead of giving None, and require accepts falsy values."""
    meta = Meta(user_id=0)
    assert meta.require("user_id") == 0
    with pytest.raises(AttributeError):
        _ = meta.other
    for error in (ValueError, KeyError, AttributeError):
        with pytest.raises(error):
            meta.require("other")


def test_get_active_context() -> None:
    """None if there is none."""
    dm = DataManager()
    assert get_active_context() is None
    with dm.context() as context:
        assert get_active_context() is context
        assert dm.get_active_context() is context
        with dm.context() as inner:
            assert get_active_context() is inner
    assert get_active_context() is None


def test_hooks_of_a_subclass() -> None:
    """``_setup_hook``, ``_teardown_hook(exception)`` and ``_final_hook(exception)``, through ``context_class``."""
    events: list[Any] = []

    class HookedContext(DataAccessContext):
        def _setup_hook(self) -> None:
            events.append("setup")

        def _teardown_hook(self, exception: Any) -> None:
            events.append(("teardown", exception))

        def _final_hook(self, exception: Any) -> None:
            events.append(("final", exception))

    def db(context: Any) -> Iterator[int]:
        try:
            yield 1
        finally:
            events.append("db ends")

    dm = DataManager(context_class=HookedContext)
    dm.register_resources(db=db)
    with dm.context() as context:
        assert isinstance(context, HookedContext)
        assert context.db == 1
    assert events == ["setup", ("teardown", None), "db ends", ("final", None)]
    events.clear()
    error = KeyError()
    with pytest.raises(KeyError), dm.context() as context:
        _ = context.db
        raise error
    assert events == ["setup", ("teardown", error), "db ends", ("final", error)]


def test_a_context_made_by_its_class() -> None:
    """DataAccessContext(data_manager, meta)."""
    dm = DataManager()
    dm.register_resources(value=ValueResource(1))
    with DataAccessContext(dm, {"user": "ann"}) as context:
        assert dm.get_active_context() is context
        assert (context.value, context.meta.user, context.data_manager) == (1, "ann", dm)


def test_opened_already() -> None:
    """``"name" in context``."""
    dm = DataManager()
    dm.register_resources(value=ValueResource(1), other=ValueResource(2))
    with dm.context() as context:
        assert "value" not in context
        _ = context.value
        assert "value" in context
        assert "other" not in context


def test_resource_exit_errors() -> None:
    """A list of ``sys.exc_info()`` triples; documented difference: the first is raised as well."""
    dm = DataManager()
    context = dm.context()
    assert context.get_resource_exit_errors() == []

    def failing(context: Any) -> Iterator[int]:
        try:
            yield 1
        finally:
            raise OSError("broken pipe")

    def failing_too(context: Any) -> Iterator[int]:
        try:
            yield 2
        finally:
            try:
                raise LookupError("second")
            except LookupError:
                assert sys.exc_info()[0] is LookupError
                raise

    dm.register_resources(a=failing, b=failing_too)
    with pytest.raises(LookupError), context:
        assert (context.a, context.b) == (1, 2)
    triples = context.get_resource_exit_errors()
    assert [(kind, str(error)) for kind, error, _ in triples] == [
        (LookupError, "second"),
        (OSError, "broken pipe"),
    ]
    assert all(isinstance(triple, tuple) and triple[2] is not None for triple in triples)


def test_used_twice() -> None:
    """A RuntimeError."""
    dm = DataManager()
    context = dm.context()
    with context:
        with pytest.raises(RuntimeError):
            context.__enter__()
    with pytest.raises(RuntimeError):
        context.__enter__()
