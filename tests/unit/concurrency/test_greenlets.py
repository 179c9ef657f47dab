"""Greenlets of gevent, each of which has ContextVars of its own."""

from __future__ import annotations

from typing import Any

import pytest

from polydatum import DataManager, NoActiveContextError, bind

gevent = pytest.importorskip("gevent")


@pytest.fixture
def dm() -> DataManager[Any, Any]:
    return DataManager()


def test_a_greenlet_has_no_context_of_its_own(dm: DataManager[Any, Any]) -> None:
    with dm.context() as context:
        assert gevent.spawn(dm.get_active_context).get() is None
        assert gevent.spawn(bind(dm.get_active_context)).get() is context


def test_greenlets_see_only_their_own_context(dm: DataManager[Any, Any]) -> None:
    """They take turns while their contexts are open."""

    def work(number: int) -> bool:
        with dm.context(meta={"user": number}):
            for _ in range(10):
                gevent.sleep(0)
                if dm.require_active_context().meta.user != number:
                    return False
        return dm.get_active_context() is None

    greenlets = [gevent.spawn(work, number) for number in range(100)]
    assert all(greenlet.get() for greenlet in greenlets)
    with pytest.raises(NoActiveContextError):
        dm.require_active_context()
