from __future__ import annotations

from pathlib import Path

import pytest

from polydatum.testing.shop import Shop
from tests.contract.django_settings import configure


@pytest.fixture(scope="session")
def django_settings() -> None:
    configure()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)
