from __future__ import annotations

import pytest

from tests.contract.django_settings import configure


@pytest.fixture(scope="session")
def django_settings() -> None:
    configure()
