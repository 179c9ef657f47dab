"""The base class of all tests: a host, a shop, and how to call a view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polydatum.testing.hosts import Answer, Call, Host
from polydatum.testing.shop import Shop


class Suite:
    """Tests of an adapter through its `Host`."""

    host: Host

    @pytest.fixture
    def shop(self, tmp_path: Path) -> Shop:
        return Shop(tmp_path)

    def needs(self, feature: str) -> None:
        """Skip the test if the framework lacks a feature, with the host's reason."""
        if feature in self.host.absent:
            pytest.skip(self.host.absent[feature])

    def call(self, shop: Shop, view: Any, **options: Any) -> Answer:
        return self.host.call(Call(view, shop.dm, shop.log, **options))
