"""``polydatum.errors`` of 0.9.1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import polydatum
from polydatum import errors
from polydatum.dal import DataManager
from polydatum.services import Service

ALIASES = {
    "PolydatumException": "PolydatumError",
    "AlreadyExistsException": "AlreadyRegisteredError",
    "MiddlewareException": "MiddlewareError",
    "MiddlewareSetupException": "MiddlewareSetupError",
    "ResourceException": "ResourceError",
    "ResourceSetupException": "ResourceSetupError",
    "ServiceError": "ServiceError",
    "NotFound": "NotFound",
}


@pytest.mark.parametrize(("name", "ours"), ALIASES.items())
def test_aliases(name: str, ours: str) -> None:
    """The same objects under both names."""
    assert getattr(errors, name) is getattr(errors, ours) is getattr(polydatum, ours)
    assert issubclass(getattr(errors, name), errors.PolydatumException)


def test_errors_on_close() -> None:
    """Can be imported and caught."""
    assert issubclass(errors.ErrorsOnClose, errors.ResourceException)


def test_codes() -> None:
    """500 and 404."""
    assert errors.ServiceError.code == 500
    assert errors.NotFound.code == 404
    assert errors.NotFound("item").code == 404


def test_already_exists() -> None:
    """Raised for a service or resource that is registered twice."""
    dm = DataManager()
    dm.register_services(items=Service())
    with pytest.raises(errors.AlreadyExistsException):
        dm.register_services(items=Service())


def test_middleware_setup() -> None:
    """Raised for a context middleware that never yields; one that yields twice is a RuntimeError."""

    def never(context: Any) -> Iterator[None]:
        return
        yield

    def twice(context: Any) -> Iterator[None]:
        yield
        yield

    dm = DataManager()
    dm.register_context_middleware(never)
    with pytest.raises(errors.MiddlewareSetupException), dm.context():
        pass
    dm = DataManager()
    dm.register_context_middleware(twice)
    with pytest.raises(RuntimeError), dm.context():
        pass
