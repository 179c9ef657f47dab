"""Claims on resources, where two come at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from polydatum import ContextClosedError, DataManager, ValueResource
from polydatum.opening import Opening, await_, claim, release, wait


def claimed(dm: DataManager[Any, Any], ctx: Any, name: str) -> Opening:
    """An opening of a resource, not claimed yet."""
    opening = Opening()
    opening.resource = type(ctx).__dict__[name]
    opening.parent = None
    opening.waiters = None
    return opening


def test_waiting_for_an_opening_that_has_just_ended() -> None:
    """It is over before the waiter is on its list: nobody waits."""
    dm = DataManager()
    dm.register_resources(value=ValueResource(1))
    with dm.context() as ctx:
        opening = claimed(dm, ctx, "value")
        assert claim(ctx, opening) is None
        release(ctx, opening)
        wait(ctx, opening)
        asyncio.run(await_(ctx, opening))
        assert ctx.value == 1


async def test_a_context_that_closes_while_its_first_resource_is_claimed(drive: Any) -> None:
    """Opener and closer: at least one of the two sees the other, and the opener gives up."""

    class Claims(dict[Any, Any]):
        def setdefault(self, owner: Any, mine: Any) -> Any:
            owner._state = "closing"
            return super().setdefault(owner, mine)

    def db(context: Any) -> Iterator[int]:
        yield 1

    dm = DataManager()
    dm.register_resources(db=drive.part(db))
    async with drive.block(dm.context()) as ctx:
        resource = type(ctx).__dict__["db"]
        resource.claims, former = Claims(), resource.claims
        with pytest.raises(ContextClosedError, match="its context is closing"):
            await drive.value(ctx.db)
        assert resource.claims == dm._under_way == {}
        resource.claims = former
        ctx._state = "open"
        assert await drive.value(ctx.db) == 1
