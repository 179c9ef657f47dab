"""`HttpBackend` and `AsyncHttpBackend` over a small HTTP server of this process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import runpy
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import httpx2
import pytest
import trio

from polydatum.backends import http
from polydatum.backends.http import AsyncHttpBackend, HttpBackend
from polydatum.errors import ConfigurationError, MissingClientError
from polydatum.testing import BackendContract, BackendHost
from polydatum.testing.backend_contract import Bench, gone, settled
from tests.backends.proxy import Fault, Proxy

DELAYS = (0.05, 0.5, 2.0) if os.environ.get("POLYDATUM_FAULTS") == "all" else (0.05,)
SENT_AT_ONCE = "a request is sent at once, and cannot be undone"


class Handler(BaseHTTPRequestHandler):
    """Keeps texts under paths; ``/slow`` is answered never, ``/cookie`` with a cookie."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Texts

    def setup(self) -> None:
        self.server.open.add(self.client_address)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.server.open.discard(self.client_address)

    def do_GET(self) -> None:
        if self.path == "/slow":
            with contextlib.suppress(OSError):
                self.connection.recv(1)  # until the client hangs up
            self.close_connection = True
        elif self.path == "/cookie":
            self.answer(200, self.headers.get("Cookie", ""), {"Set-Cookie": "user=ann"})
        elif self.path in self.server.texts:
            self.answer(200, self.server.texts[self.path])
        else:
            self.answer(404, "")

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        self.server.texts[self.path] = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.answer(204, "")

    def answer(self, status: int, text: str, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    def log_message(self, *args: Any) -> None:
        pass


class Texts(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.texts: dict[str, str] = {}
        self.open: set[Any] = set()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up."""
        self.open.discard(client_address)


@pytest.fixture(scope="module")
def texts() -> Iterator[Texts]:
    with Texts() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class HttpHost(BackendHost):
    absent: Mapping[str, str] = {
        "rollback": SENT_AT_ONCE,
        "isolation": SENT_AT_ONCE,
        "savepoints": SENT_AT_ONCE,
        "read_only": "which requests write only the server knows",
    }
    secret = "a-secret-of-the-tests"

    def __init__(self, server: Texts, *, is_async: bool) -> None:
        self.server = server
        self.is_async = is_async
        self.kind: Any = AsyncHttpBackend if is_async else HttpBackend
        if not is_async:
            self.absent = {**self.absent, "cancel": "a sync request cannot be cancelled"}

    def url(self, port: int | None = None) -> str:
        return f"http://ann:{self.secret}@127.0.0.1:{port or self.server.server_port}"

    def backend(self) -> Any:
        return self.new(self.url())

    def new(self, url: str, **options: Any) -> Any:
        return self.kind(url, verify=False, **options)  # loading certificates takes 0.1 s

    def given(self) -> tuple[Any, Any]:
        client: Any = (httpx.AsyncClient if self.is_async else httpx.Client)(base_url=self.url(), verify=False)
        return self.kind(client), client

    def dispose(self, client: Any) -> Any:
        assert not client.is_closed
        return client.aclose() if self.is_async else client.close()

    def unreachable(self) -> Any:
        with socket.create_server(("127.0.0.1", 0)) as free:
            return self.new(self.url(free.getsockname()[1]))

    def write(self, value: Any, key: str, text: str) -> Any:
        return value.put(f"/{key}", content=text)

    def read(self, value: Any, key: str) -> Any:
        async def read() -> str | None:
            return found_in(await value.get(f"/{key}"))

        return read() if self.is_async else found_in(value.get(f"/{key}"))

    def look(self, key: str) -> str | None:
        return self.server.texts.get(f"/{key}")

    def slow(self, value: Any) -> Any:
        return value.get("/slow")

    def connections(self) -> tuple[int, int]:
        return len(self.server.open), 0


def found_in(response: Any) -> str | None:
    return response.text if response.status_code == 200 else None


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def host(request: pytest.FixtureRequest, texts: Texts) -> Iterator[HttpHost]:
    host = HttpHost(texts, is_async=request.param)
    yield host
    assert gone(host, 0) == (0, 0)


class TestHttp(BackendContract):
    @pytest.fixture
    def host(self, host: HttpHost) -> BackendHost:  # type: ignore[override]
        return host


def ping(host: HttpHost, backend: Any) -> Any:
    found: list[Any] = []

    async def scenario() -> None:
        bench = Bench(host, backend)
        found.append(await bench.ping())
        await bench.close()

    host.run(scenario())
    return found[0]


class TestPing:
    def test_a_path_wants_to_be_answered_well(self, host: HttpHost) -> None:
        host.server.texts["/health"] = "ok"
        assert ping(host, host.new(host.url(), ping_path="/health")).ok
        assert ping(host, host.new(host.url(), ping_path="/missing")).error == "HTTPStatusError"

    def test_without_a_path_any_answer_will_do(self, host: HttpHost) -> None:
        assert ping(host, host.new(host.url() + "/missing")).ok

    def test_a_client_of_no_server_in_particular(self, host: HttpHost) -> None:
        """There is nobody to ask."""
        client: Any = (httpx2.AsyncClient if host.is_async else httpx2.Client)()
        assert ping(host, host.kind(client)).ok
        if host.is_async:
            asyncio.run(client.aclose())
        else:
            client.close()


class TestBackends:
    @pytest.mark.parametrize("options", [{}, {"cookies": {}}], ids=["none", "wanted"])
    def test_cookies(self, host: HttpHost, options: dict[str, Any]) -> None:
        """One user's do not go out with the next one's request."""
        seen: list[str] = []

        async def scenario() -> None:
            bench = Bench(host, host.new(host.url(), **options))
            for _ in range(2):
                async with bench.context() as ctx:
                    client = await bench.value(ctx)
                    seen.append((await settled(client.get("/cookie"))).text)
            await bench.close()

        host.run(scenario())
        assert seen == ["", "user=ann" if options else ""]

    def test_trio(self, texts: Texts) -> None:
        host = HttpHost(texts, is_async=True)

        async def scenario() -> None:
            bench = Bench(host)
            async with bench.context() as ctx:
                await bench.write(ctx)
                assert await bench.read(ctx) == "tea"
            await bench.close()

        trio.run(scenario)
        assert gone(host, 0) == (0, 0)

    @pytest.mark.parametrize("kind", [HttpBackend, AsyncHttpBackend])
    def test_options_are_for_a_url(self, kind: Any) -> None:
        client = httpx.Client() if kind is HttpBackend else httpx.AsyncClient()
        with pytest.raises(ConfigurationError, match=r"timeout=...\): options apply only if the client"):
            kind(client, timeout=1)

    def test_repr(self) -> None:
        assert (
            repr(HttpBackend("https://ann:secret@mail/api?token=secret")) == "HttpBackend('https://ann:***@mail/api')"
        )
        with httpx.Client() as client:
            assert repr(HttpBackend(client)) == "HttpBackend(<httpx.Client>)"

    def test_without_httpx2(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The message says what to install."""
        monkeypatch.setitem(sys.modules, "httpx2", None)
        with pytest.raises(MissingClientError, match=r"pip install 'polydatum\[http\]'"):
            runpy.run_path(http.__file__)


class TestFaults:
    """A context that writes, reads and writes, whose exchanges are cut and delayed."""

    @pytest.mark.parametrize("exchange", range(3))
    @pytest.mark.parametrize("direction", ["request", "reply"])
    @pytest.mark.parametrize("delay", [None, *DELAYS])
    def test_an_exchange(self, host: HttpHost, exchange: int, direction: Any, delay: float | None) -> None:
        """A cut one is an error of the client, and rolls back what can be; the next context works."""
        outcomes: list[str] = []

        async def scenario(port: int) -> None:
            bench = Bench(host, host.new(host.url(port)))
            for name in ("first", "second"):
                try:
                    async with bench.context() as ctx:
                        await bench.write(ctx, f"{name}-a")
                        assert await bench.read(ctx, f"{name}-a") == "tea"
                        await bench.write(ctx, f"{name}-b")
                except httpx2.TransportError:
                    assert delay is None
                outcomes.append(str(ctx.outcome))
            assert bench.look("second-b") == "tea"
            await bench.close()

        with Proxy("127.0.0.1", host.server.server_port) as proxy:
            proxy.arm(Fault(exchange, direction, delay))
            host.run(scenario(proxy.port))
            assert proxy.struck
        assert outcomes == ["committed" if delay else "rolled_back", "committed"]
