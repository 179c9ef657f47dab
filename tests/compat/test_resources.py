"""``polydatum.resources`` of 0.9.1: Resource and ValueResource."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import polydatum
from polydatum.dal import DataManager
from polydatum.errors import ResourceSetupException
from polydatum.resources import Resource, ValueResource


def test_names() -> None:
    """The same objects."""
    assert Resource is polydatum.Resource
    assert ValueResource is polydatum.ValueResource


def test_resource_classes() -> None:
    """A resource as an object; a ready value as one."""
    events: list[str] = []

    class Pool(Resource):
        def __init__(self, dsn: str) -> None:
            self.dsn = dsn

        def __call__(self, context: Any) -> Iterator[str]:  # type: ignore[override]
            events.append("setup")
            yield f"connection to {self.dsn}"
            events.append("teardown")

    value = object()
    dm = DataManager()
    dm.register_resources(db=Pool("shop"), value=ValueResource(value))
    with dm.context() as context:
        assert events == []
        assert context.db == dm.db == "connection to shop"
        assert context.value is value
    assert events == ["setup", "teardown"]


def test_never_and_twice() -> None:
    """Never yielded: ResourceSetupException. Yielded twice: RuntimeError."""

    def never(context: Any) -> Iterator[int]:
        return
        yield

    def twice(context: Any) -> Iterator[int]:
        yield 1
        yield 2

    dm = DataManager()
    dm.register_resources(never=never, twice=twice)
    with pytest.raises(ResourceSetupException), dm.context() as context:
        _ = context.never
    with pytest.raises(RuntimeError), dm.context() as context:
        _ = context.twice


def test_a_failing_teardown_is_reported() -> None:
    """Documented difference: it is raised, not swallowed, and listed by the context."""

    def failing(context: Any) -> Iterator[int]:
        yield 1
        raise OSError("broken pipe")

    dm = DataManager()
    dm.register_resources(db=failing)
    with pytest.raises(OSError, match="broken pipe"), dm.context() as context:
        _ = context.db
    assert [kind for kind, _, _ in context.get_resource_exit_errors()] == [OSError]
