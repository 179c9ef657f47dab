"""The load by asyncio, where wrk is not installed."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from time import perf_counter

from tests.load.slices import Slice

PATIENCE = 10.0


def drive(port: int, requests: Sequence[bytes], *, connections: int, seconds: float) -> Slice:
    """Send requests for some seconds."""
    return asyncio.run(_drive(port, itertools.cycle(requests), connections, seconds))


def ask(port: int, request: bytes) -> tuple[int, bytes]:
    """Send one request; gives the status and the body of the answer."""
    return asyncio.run(_ask(port, request))


async def _drive(port: int, requests: Iterator[bytes], connections: int, seconds: float) -> Slice:
    latencies: Counter[int] = Counter()
    failures = 0
    begun = perf_counter()

    async def client() -> None:
        nonlocal failures
        async with Connection(port) as connection:
            while (sent := perf_counter()) - begun < seconds:
                status, _ = await connection.ask(next(requests))
                latencies[round((perf_counter() - sent) * 1e6)] += 1
                failures += not 200 <= status < 300

    async with asyncio.timeout(seconds + PATIENCE), asyncio.TaskGroup() as clients:
        for _ in range(connections):
            clients.create_task(client())
    return Slice(latencies.total(), perf_counter() - begun, failures, latencies)


async def _ask(port: int, request: bytes) -> tuple[int, bytes]:
    async with Connection(port) as connection:
        return await connection.ask(request)


class Connection:
    """A connection that is kept alive, with one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; gives the status and the body of the answer."""
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"\r\ncontent-length: *(\d+)", head)
        if length is None:
            body = b"".join([chunk async for chunk in self._chunks()])
        else:
            body = await self._reader.readexactly(int(length[1]))
        return int(head.split(maxsplit=2)[1]), body

    async def _chunks(self) -> AsyncIterator[bytes]:
        """Of an answer that does not tell its length, as Django's do."""
        while size := int(await self._reader.readline(), 16):
            yield (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readline()
