"""The clients of a soak test: their requests, and what they see of the answers."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from urllib.parse import urlencode

from tests.soak.books import ACCOUNTS, USERS

AT_ONCE = 16
PATIENCE = 30.0
MIXTURE = {
    "clean": 60,
    "raised": 7,
    "swallowed": 3,
    "returned": 5,
    "refused": 5,
    "reset": 10,
    "cancelled": 10,
}
"""Of a hundred requests. Some raise, or swallow an SQL error; the 4xx are returned or raised."""
SPREAD = 1.4
"""A reset or cancel comes at a random moment within the current duration of requests, or a bit later."""
FIRST_GUESS = 0.03
LIMITS = range(1, 5)
"""Statement timeouts in milliseconds; two of the statements sleep for two milliseconds."""


@dataclass
class Seen:
    """What the clients have seen of each request.

    Attributes:
        statuses: by id; None: no answer.
        outcomes: the outcomes of cancelled requests' contexts, as the server has reported them.
        crossed: answers that carried another user's data.
        broken: errors on connections that were not cut on purpose.
    """

    kinds: dict[int, str] = field(default_factory=dict)
    statuses: dict[int, int | None] = field(default_factory=dict)
    outcomes: dict[int, str] = field(default_factory=dict)
    crossed: list[int] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


class Connection:
    """One kept-alive connection to the server; reconnects after it was cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, target: str) -> None:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        request = f"POST {target} HTTP/1.1\r\nHost: soak\r\nContent-Length: 0\r\n\r\n"
        self._streams[1].write(request.encode())
        await self._streams[1].drain()

    async def receive(self) -> tuple[int, dict[str, str], bytes]:
        assert self._streams is not None
        reader = self._streams[0]
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        status = int(first.split()[1])
        # After an exception of the application uvicorn closes the connection without announcing it.
        if status >= 500 or headers.get("connection", "").lower() == "close":
            self.close()
        return status, headers, body

    def reset(self) -> None:
        """Close like a crashed client: any further data is answered with RST."""
        assert self._streams is not None
        raw = self._streams[1].get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Clients:
    """Several concurrent clients that share a number of requests.

    Args:
        port: the server's port.
        canaries: the canaries of all users.
        cancels: the parameter that makes the server cancel a request, in milliseconds.
        chance: the random number generator.
    """

    def __init__(self, port: int, canaries: list[str], cancels: str, chance: random.Random) -> None:
        self._port = port
        self._canaries = canaries
        self._cancels = cancels
        self._chance = chance
        self._usual = FIRST_GUESS
        self.seen = Seen()

    async def send(self, ids: range) -> None:
        kinds = [kind for kind, share in MIXTURE.items() for _ in range(share)]
        left = iter(ids)

        async def client() -> None:
            connection = Connection(self._port)
            for id in left:
                kind = self._chance.choice(kinds)
                self.seen.kinds[id] = kind
                self.seen.statuses[id] = None
                try:
                    async with asyncio.timeout(PATIENCE):
                        await self._one(connection, id, kind)
                except (OSError, EOFError, ValueError, TimeoutError) as error:
                    self.seen.broken.append(f"{kind} {id}: {type(error).__name__}: {error}")
                    connection.close()
            connection.close()

        await asyncio.gather(*(client() for _ in range(AT_ONCE)))

    async def _one(self, connection: Connection, id: int, kind: str) -> None:
        user = self._chance.randrange(USERS)
        begun = monotonic()
        await connection.send("/carry-out?" + urlencode(self._order(id, user, kind)))
        if kind == "reset":
            await asyncio.sleep(self._moment())
            connection.reset()
            return
        status, headers, body = await connection.receive()
        if kind == "clean":
            self._usual += (monotonic() - begun - self._usual) / 20
        self.seen.statuses[id] = status
        if "x-outcome" in headers:
            self.seen.outcomes[id] = headers["x-outcome"]
        if status < 300:
            found = json.loads(body)
            if found != {"id": id, "canaries": [self._canaries[user]] * 3}:
                self.seen.crossed.append(id)

    def _order(self, id: int, user: int, kind: str) -> dict[str, Any]:
        source, target = self._chance.sample(range(ACCOUNTS), 2)
        order = {
            "id": id,
            "user": user,
            "source": source,
            "target": target,
            "amount": self._chance.randrange(1, 100),
            "ending": "clean" if kind in ("reset", "cancelled") else kind,
            "nap": 0.002 if kind in ("reset", "cancelled") else 0,
            "limit": 0,
        }
        if kind == "cancelled" and self._cancels == "limit":
            order["limit"] = self._chance.choice(LIMITS)
        elif kind == "cancelled":
            order[self._cancels] = self._moment() * 1000
        return order

    def _moment(self) -> float:
        return self._chance.random() * self._usual * SPREAD
