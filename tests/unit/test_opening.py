"""Claims on resources, where two come at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest

from polydatum import ContextClosedError, DataManager, ResourceCycleError, ValueResource, bind
from polydatum.opening import Opening, await_, claim, enter_opening, release, wait, waits


def test_waiting_for_an_opening_that_has_just_ended() -> None:
    """It is over before the waiter is on its list: nobody waits."""
    dm = DataManager()
    dm.register_resources(value=ValueResource(1))
    with dm.context() as ctx:
        opening: Opening = [type(ctx).__dict__["value"], None]
        assert claim(ctx, opening) is None
        release(ctx, opening)
        wait(opening)
        asyncio.run(await_(opening))
        assert ctx.value == 1


async def test_a_context_that_closes_while_its_first_resource_is_claimed(drive: Any) -> None:
    """Opener and closer: at least one of the two sees the other, and the opener gives up."""

    class Claims(dict[Any, Any]):
        def setdefault(self, claim: Any, mine: Any) -> Any:
            claim[1]._state = "closing"
            return super().setdefault(claim, mine)

    def db(context: Any) -> Iterator[int]:
        yield 1

    dm = DataManager()
    dm.register_resources(db=drive.part(db))
    async with drive.block(dm.context()) as ctx:
        resource = type(ctx).__dict__["db"]
        resource.under_way, former = Claims(), resource.under_way
        with pytest.raises(ContextClosedError, match="its context is closing"):
            await drive.value(ctx.db)
        assert resource.under_way == dm._under_way == {}
        resource.under_way = former
        ctx._state = "open"
        assert await drive.value(ctx.db) == 1


def test_an_opening_that_is_over_is_looked_through() -> None:
    """What a task inherits from an opening that has ended counts no more; what that one ran in still does."""
    dm = DataManager()
    dm.register_resources(outer=ValueResource(1), inner=ValueResource(2))
    with dm.context() as ctx:
        outer: Opening = [type(ctx).__dict__["outer"], None]
        inner: Opening = [type(ctx).__dict__["inner"], outer]
        assert claim(ctx, outer) is claim(ctx, inner) is None
        release(ctx, inner)

        def inside() -> None:
            enter_opening(inner)
            assert ctx.outer == 1

        with pytest.raises(ResourceCycleError, match="outer -> outer"):
            copy_context().run(inside)
        release(ctx, outer)
        copy_context().run(inside)
        assert ctx.outer == 1


def test_a_loop_that_ended_just_now_is_none() -> None:
    """Between the look at who waits for whom and the error, one of them ends: nothing stands in the way."""

    class Ending(list[Any]):
        """An opening that is over once it was looked at."""

        def __getitem__(self, place: Any) -> Any:
            if place == 0:
                return next(looks)
            return super().__getitem__(place)

    looks = iter([object(), None, None, None])
    mine: Opening = Ending([object(), None])

    def inside() -> None:
        enter_opening(mine)
        wait(mine)

    copy_context().run(inside)
    assert waits == []


def test_a_thread_that_an_opener_waits_for_counts_as_the_opener() -> None:
    """If it was given the context by `bind`; its own openings are of another thread."""

    def outer(context: Any) -> Iterator[int]:
        with ThreadPoolExecutor() as pool:
            yield pool.submit(bind(lambda: context.inner)).result()

    def inner(context: Any) -> Iterator[int]:
        yield context.outer

    dm = DataManager()
    dm.register_resources(outer=outer, inner=inner)
    with dm.context() as ctx, pytest.raises(ResourceCycleError, match="outer -> inner -> outer"):
        ctx.outer  # noqa: B018 - opens it
