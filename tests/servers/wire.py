"""HTTP/1.1 over a bare socket: how a connection ends has to be under the control of the test."""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import NamedTuple, Self

DEADLINE = 20.0


class Head(NamedTuple):
    """The status and the headers of an answer; of headers of one name the last, save cookies."""

    status: int
    headers: dict[str, str]


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class BrokenOff(Exception):
    """The server closed the connection before the answer had come to its end."""


class Connection:
    """A connection to a server on this machine."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()

    def ask(self, method: str, target: str) -> None:
        """Send a request, without waiting for the answer."""
        length = "Content-Length: 0\r\n" if method == "POST" else ""
        self._socket.sendall(f"{method} {target} HTTP/1.1\r\nHost: bank\r\n{length}\r\n".encode())

    def head(self) -> Head:
        """The head of the answer, once it is there.

        Raises:
            BrokenOff: if there is none.
        """
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return Head(int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs})

    def until(self, wanted: bytes) -> bytes:
        """What was received, up to and including certain bytes, framing and all."""
        while wanted not in self._received:
            self._receive()
        end = self._received.index(wanted) + len(wanted)
        got, self._received = self._received[:end], self._received[end:]
        return got

    def answer(self) -> Answer:
        """The answer, read to its end.

        Raises:
            BrokenOff: if the server breaks it off.
        """
        status, headers = self.head()
        return Answer(status, headers, self._body(headers))

    def fetch(self, method: str, target: str) -> Answer:
        """Send a request and read the answer to its end."""
        self.ask(method, target)
        return self.answer()

    def reset(self) -> None:
        """Leave at once, as a client does that has crashed: what is still to come is answered with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.until(b"\r\n"), 16):
                body += self._exactly(size)
                self.until(b"\r\n")
            self.until(b"\r\n")
            return body
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"]))
        return self._rest()

    def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            self._receive()
        got, self._received = self._received[:size], self._received[size:]
        return got

    def _rest(self) -> bytes:
        """All there is until the server closes: an answer of HTTP/1.0."""
        try:
            while True:
                self._receive()
        except BrokenOff:
            got, self._received = self._received, b""
            return got

    def _receive(self) -> None:
        try:
            more = self._socket.recv(65536)
        except ConnectionResetError:
            more = b""
        if not more:
            raise BrokenOff(f"the server closed the connection; received so far: {self._received!r}")
        self._received += more
