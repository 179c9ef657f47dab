"""What a context keeps of its resources."""

from __future__ import annotations

from typing import Any

from polydatum import DataManager, ValueResource


async def test_taking_back(drive: Any) -> None:
    """An opener that comes too late takes back what the closer has not taken from the list, once."""
    dm = DataManager()
    dm.register_resources(value=ValueResource(1))
    handle = object()
    async with drive.block(dm.context()) as ctx:
        assert not ctx._take_back(handle)
        ctx._append(type(ctx).__dict__["value"], handle)
        assert "value" in ctx
        assert ctx._take_back(handle)
        assert "value" not in ctx
        assert not ctx._take_back(handle)
