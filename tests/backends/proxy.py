"""A TCP proxy that cuts or delays one exchange between a client and its server, in either direction."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

CHUNK = 65536
Direction = Literal["request", "reply"]


@dataclass(frozen=True)
class Fault:
    """What happens to an exchange, counted from 0 since it was armed.

    A cut request never reaches the server; a cut reply never reaches the client, though the server has done the work.
    """

    exchange: int
    direction: Direction
    delay: float | None = None
    """Seconds; None: the connection is cut instead."""
    lasts: bool = False
    """Whether every later connection is refused, until it is armed anew."""


class Proxy:
    """Listens on a loopback port of its own and forwards to a server, for as long as a ``with`` block lasts."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self.requests: list[bytes] = []
        """The beginning of each request since it was armed, or since the start."""
        self._fault: Fault | None = None
        self.struck = False
        """Whether the armed fault has happened."""
        self._refuses = False
        self._sockets: list[socket.socket] = []
        self._connections: list[_Connection] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._closing = threading.Event()

    def __enter__(self) -> Proxy:
        self._threads[0].start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for one in self._sockets:
                _hang_up(one)
        for thread in self._threads:
            thread.join()

    @property
    def exchanges(self) -> int:
        """Requests seen since it was armed, or since the start."""
        return len(self.requests)

    def arm(self, fault: Fault | None) -> None:
        """From now on, count anew, and let a fault happen; None: none."""
        with self._lock:
            self.requests, self._fault, self.struck, self._refuses = [], fault, False, False
            for connection in self._connections:
                connection.begin_anew()

    def hang_up(self) -> None:
        """Cut all connections, and refuse others until it is armed anew: the server has gone away."""
        with self._lock:
            self._refuses = True
            for one in self._sockets:
                _hang_up(one)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses:
                client.close()
                continue
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            for one in (client, server):  # small packets are forwarded at once, as the client and the server send them
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(self, client, server)
            with self._lock:
                if self._closing.is_set():
                    _hang_up(client)
                    _hang_up(server)
                    return
                self._sockets += (client, server)
                self._connections.append(connection)
                for pump in (connection.forward_requests, connection.forward_replies):
                    self._threads.append(threading.Thread(target=pump))
                    self._threads[-1].start()

    def _begin(self, request: bytes) -> int:
        with self._lock:
            self.requests.append(request)
            return len(self.requests) - 1

    def _strikes(self, exchange: int, direction: Direction) -> Fault | None:
        with self._lock:
            fault = self._fault
            if fault is None or (fault.exchange, fault.direction) != (exchange, direction):
                return None
            self._fault, self.struck, self._refuses = None, True, fault.lasts
            return fault

    def wait(self, seconds: float) -> None:
        self._closing.wait(seconds)


class SlowProxy(Proxy):
    """Every reply is late, some more than others, so that those of different tasks overlap."""

    def _strikes(self, exchange: int, direction: Direction) -> Fault | None:
        return Fault(exchange, direction, random.uniform(0, 0.004)) if direction == "reply" else None


def before(host: Any, proxy_class: type[Proxy] = Proxy) -> Proxy:
    """A proxy between a host's backends and the server at its URL."""
    place = urlsplit(host.url)
    assert place.hostname
    assert place.port
    proxy = proxy_class(place.hostname, place.port)
    host.port = proxy.port
    return proxy


class _Connection:
    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._exchange = -1
        self._replied = True

    def begin_anew(self) -> None:
        """What comes next is a request, even if there was no reply to the one before: some are sent without waiting."""
        self._replied = True

    def forward_requests(self) -> None:
        while data := _received(self._client):
            if self._replied:  # more of the same request otherwise
                self._exchange, self._replied = self._proxy._begin(data), False
            if not self._passes("request") or not _sent(self._server, data):
                break
        self._hang_up()

    def forward_replies(self) -> None:
        while data := _received(self._server):
            passes = self._passes("reply")
            self._replied = True
            if not passes or not _sent(self._client, data):
                break
        self._hang_up()

    def _passes(self, direction: Direction) -> bool:
        fault = self._proxy._strikes(self._exchange, direction)
        if fault is None:
            return True
        if fault.delay is None:
            return False
        self._proxy.wait(fault.delay)
        return True

    def _hang_up(self) -> None:
        _hang_up(self._client)
        _hang_up(self._server)


def _received(one: socket.socket) -> bytes:
    try:
        return one.recv(CHUNK)
    except OSError:
        return b""


def _sent(one: socket.socket, data: bytes) -> bool:
    try:
        one.sendall(data)
    except OSError:
        return False
    return True


def _hang_up(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
