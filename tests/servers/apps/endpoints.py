"""The endpoints of the bank, as far as they are the same in every framework."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from polydatum import Context, ContextClosedError
from tests.servers.apps.gates import NEVER, PAUSE, wait, wait_async
from tests.servers.apps.journal import write

HEADERS = {"X-Endpoint": "transfer", "Set-Cookie": "receipt=1"}
"""What a transfer is answered with; none of it may be seen when the commit fails."""
UNSENDABLE = "\u00fa\u010det.pdf"
"""A value of a header that no server sends."""


def transfer(dal: Any, key: str, fail: str | None, gate: str | None) -> str:
    dal.accounts.transfer(fail=fail)
    wait(gate)
    with late_use_noted(key):
        dal.accounts.confirm()
    return "transferred"


async def transfer_async(dal: Any, key: str, fail: str | None, gate: str | None) -> str:
    dal.accounts.transfer(fail=fail)
    await wait_async(gate)
    with late_use_noted(key):
        dal.accounts.confirm()
    return "transferred"


@contextlib.contextmanager
def late_use_noted(key: str) -> Iterator[None]:
    """Tell the journal if a request uses its context after that has ended."""
    try:
        yield
    except ContextClosedError:
        write("refused", key)
        raise


def who(dal: Any, gate: str | None) -> str:
    before = dal.visits.who()
    wait(gate)
    return f"{before} {dal.visits.who()}"


async def who_async(dal: Any, gate: str | None) -> str:
    before = dal.visits.who()
    await wait_async(gate)
    return f"{before} {dal.visits.who()}"


def chunks(context: Context) -> Iterator[bytes]:
    """A body that goes on for as long as somebody takes it."""
    with context:
        yield f"{context.dal.visits.who()}\n".encode()
        for number in range(int(NEVER / PAUSE)):
            time.sleep(PAUSE)
            yield b"%d\n" % number


async def chunks_async(context: Context) -> AsyncIterator[bytes]:
    async with context:
        yield f"{context.dal.visits.who()}\n".encode()
        for number in range(int(NEVER / PAUSE)):
            await asyncio.sleep(PAUSE)
            yield b"%d\n" % number


def late_chunks(dal: Any) -> Iterator[bytes]:
    """A body that uses the DAL of a request which has ended."""
    yield b"first\n"
    yield dal.visits.who().encode()


async def late_chunks_async(dal: Any) -> AsyncIterator[bytes]:
    yield b"first\n"
    yield dal.visits.who().encode()
