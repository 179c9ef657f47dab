"""``polydatum.services`` of 0.9.1: Service."""

from __future__ import annotations

from typing import Any

import polydatum
from polydatum.dal import DataManager
from polydatum.services import Service


def test_names() -> None:
    """The same object."""
    assert Service is polydatum.Service


def test_what_a_service_reaches() -> None:
    """``_data_manager``, ``_dal`` and ``_ctx``."""

    class Reach(Service):
        def reach(self) -> Any:
            return self._data_manager, self._dal, self._ctx

    dm = DataManager()
    dm.register_services(reach=Reach())
    with dm.context() as context:
        assert context.dal.reach.reach() == (dm, context.dal, context)


def test_setup() -> None:
    """``setup(data_manager)`` is called at the registration, for nested services as well."""
    calls: list[Any] = []

    class Prepared(Service):
        def setup(self, data_manager: Any) -> None:
            super().setup(data_manager)
            calls.append((self, data_manager))

    outer, inner = Prepared(), Prepared()
    dm = DataManager()
    dm.register_services(outer=outer.register_services(inner=inner))
    assert sorted(calls, key=lambda call: call[0] is outer) == [(inner, dm), (outer, dm)]


def test_nesting() -> None:
    """register_services gives the service itself."""
    service, nested = Service(), Service()
    assert service.register_services(nested=nested) is service
    assert service.nested is nested  # type: ignore[attr-defined]
