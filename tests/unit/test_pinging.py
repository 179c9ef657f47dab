"""Pings: all at once, none longer than the limit, and no server twice at a time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any

import anyio
import pytest

from polydatum import AsyncBackend, Backend, ConfigurationError, DataManager, Ping
from tests.unit.test_clients import AsyncLedgers, Ledgers, Shelf, in_child

LIMIT = 0.2
LONG = 10.0
LATE = Ping(False, LIMIT, "TimeoutError")


class Mute(Backend[str]):
    """Its server takes every connection, and says nothing until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.is_asked, self.may_answer = threading.Event(), threading.Event()

    def connect(self) -> str:
        return "client"

    def ping(self, client: str) -> None:
        self.asked += 1
        self.is_asked.set()
        assert self.may_answer.wait(LONG)


class AsyncMute(AsyncBackend[str]):
    """Its async twin."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.is_asked, self.may_answer = anyio.Event(), anyio.Event()

    async def connect(self) -> str:
        return "client"

    async def ping(self, client: str) -> None:
        self.asked += 1
        self.is_asked.set()
        await self.may_answer.wait()


class Stubborn(AsyncMute):
    """A cancel does not end it: some clients first tell the server, and wait for its answer to that."""

    async def ping(self, client: str) -> None:
        try:
            await super().ping(client)
        except asyncio.CancelledError:
            await self.may_answer.wait()
            raise


def managed(**backends: Any) -> Any:
    dm: Any = DataManager()
    dm.register_resources(**backends)
    return dm


async def pings(drive: Any, dm: Any, limit: float = LIMIT) -> Any:
    return await dm.aping(timeout=limit) if drive.is_async else dm.ping(timeout=limit)


async def test_a_silent_server_is_not_waited_for(drive: Any) -> None:
    """It does not keep the others from being asked, either."""
    mute: Any = AsyncMute() if drive.has_async_parts else Mute()
    fine = AsyncLedgers() if drive.has_async_parts else Ledgers()
    dm = managed(mute=mute, fine=fine)
    found = await pings(drive, dm)
    assert found["mute"] == LATE
    assert found["fine"].ok
    mute.may_answer.set()
    await drive.close_manager(dm)


async def test_all_are_asked_at_once(drive: Any) -> None:
    """Each answers only when the others are asked, too."""
    barrier = threading.Barrier(3)

    class Together(Ledgers):
        def ping(self, client: Any) -> None:
            barrier.wait(LONG)

    dm = managed(a=Together(), b=Together(), c=Together())
    assert all(ping.ok for ping in (await pings(drive, dm, LONG)).values())
    await drive.close_manager(dm)


async def test_all_async_ones_are_asked_at_once(drive: Any) -> None:
    if not drive.has_async_parts:
        return
    one, two = AsyncMute(), AsyncMute()

    class Answering(AsyncMute):
        async def ping(self, client: str) -> None:
            await one.is_asked.wait()
            await two.is_asked.wait()
            one.may_answer.set()
            two.may_answer.set()

    dm = managed(one=one, answering=Answering(), two=two)
    assert all(ping.ok for ping in (await pings(drive, dm, LONG)).values())
    await drive.close_manager(dm)


async def test_who_has_not_answered_is_not_asked_again(drive: Any) -> None:
    """Each question would hold a thread and a connection more. Once it has answered, it is."""
    mute = Mute()
    dm = managed(mute=mute)
    for _ in range(3):
        assert (await pings(drive, dm))["mute"] == LATE
    assert mute.asked == 1
    mute.may_answer.set()
    assert (await pings(drive, dm, LONG))["mute"].ok  # it may be the first question's answer
    before = mute.asked
    assert (await pings(drive, dm, LONG))["mute"].ok
    assert mute.asked == before + 1
    await drive.close_manager(dm)


def test_a_client_that_does_not_mind_cancels() -> None:
    """It is left behind, and not asked again until it has ended."""
    stubborn = Stubborn()
    dm = managed(stubborn=stubborn)

    async def main() -> None:
        for _ in range(3):
            assert (await dm.aping(timeout=LIMIT))["stubborn"] == LATE
        assert stubborn.asked == 1
        stubborn.may_answer.set()
        await dm.aping(timeout=LONG)
        assert (await dm.aping(timeout=LONG))["stubborn"].ok
        await dm.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("kind", [Mute, AsyncMute])
def test_one_who_asks_gives_up(kind: Any) -> None:
    """A client of the health endpoint has gone: the others get their answer."""
    mute = kind()
    dm = managed(mute=mute)

    async def main() -> None:
        one, two = (asyncio.create_task(dm.aping(timeout=LONG)) for _ in range(2))
        if kind is Mute:
            await asyncio.to_thread(mute.is_asked.wait, LONG)
        else:
            await mute.is_asked.wait()
        one.cancel()
        await asyncio.wait([one])
        assert one.cancelled()
        mute.may_answer.set()
        assert (await two)["mute"].ok
        assert mute.asked == 1
        await dm.aclose()

    asyncio.run(main())


def test_a_loop_that_ends_before_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    """It is not missed."""
    mute = Mute()
    dm = managed(mute=mute)
    asyncio.run(dm.aping(timeout=LIMIT))
    mute.may_answer.set()
    assert dm.ping()["mute"].ok
    assert caplog.text == ""
    dm.close()


def test_a_sync_ping_asks_async_backends() -> None:
    """In an event loop of its own, over a client of its own, wherever it is called."""
    backend = AsyncLedgers()
    dm = managed(db=backend)
    assert dm.ping()["db"].ok
    assert [client.closed for client in backend.made] == [True]

    async def main() -> None:
        assert dm.ping()["db"].ok

    asyncio.run(main())
    assert [client.closed for client in backend.made] == [True, True]
    dm.close()


def test_a_given_async_client_is_asked_where_it_belongs() -> None:
    """A sync ping does not say that it is fine, for it has not asked."""
    client = Shelf()
    dm = managed(db=AsyncLedgers(client))
    ping = dm.ping()["db"]
    assert (ping.ok, ping.error) == (False, "AsyncResourceError")
    assert asyncio.run(dm.aping())["db"].ok
    assert not client.closed


async def test_what_is_no_error_of_a_client_gets_out(drive: Any) -> None:
    class Interrupted(Ledgers):
        def ping(self, client: Any) -> None:
            raise SystemExit(3)

    with pytest.raises(SystemExit) if drive.name != "trio" else pytest.raises(BaseExceptionGroup):
        await pings(drive, managed(db=Interrupted()))


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
async def test_limits_that_are_none(drive: Any, limit: float) -> None:
    with pytest.raises(ConfigurationError, match="timeout has to be a number of seconds above 0"):
        await pings(drive, DataManager(), limit)


async def test_nobody_to_ask(drive: Any) -> None:
    assert await pings(drive, DataManager()) == {}


def test_a_child_asks_anew() -> None:
    """The parent's question is not answered in a child, which has none of its threads."""
    mute = Mute()
    dm = managed(mute=mute)
    assert dm.ping(timeout=LIMIT)["mute"] == LATE

    def check() -> None:
        mute.may_answer = threading.Event()
        mute.may_answer.set()
        assert dm.ping(timeout=LONG)["mute"].ok

    in_child(check)
    mute.may_answer.set()
    dm.close()


AT_EXIT = """
import threading
from polydatum import Backend, DataManager

class Mute(Backend):
    def connect(self):
        return threading.Event()
    def ping(self, client):
        client.wait()

dm = DataManager()
dm.register_resources(db=Mute())
print(dm.ping(timeout=0.2)["db"].error)
"""


def test_a_silent_server_does_not_hold_up_the_end_of_the_program() -> None:
    ended = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, check=True, timeout=LONG)
    assert ended.stdout == "TimeoutError\n"
    assert ended.stderr == ""
