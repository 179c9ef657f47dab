"""HTTP services on httpx2. Install ``polydatum[http]``.

A request to another server cannot be undone. So this backend takes no part in the outcome: it only creates, shares and
closes a client.
"""

from __future__ import annotations

import contextlib
import sys
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

from polydatum.backends.sources import given_client, shown_url
from polydatum.clients import AsyncBackend, Backend
from polydatum.errors import MissingClientError

try:
    import httpx2
except ImportError as error:
    raise MissingClientError("HttpBackend", "httpx2", "http") from error


class HttpBackend(Backend[httpx2.Client]):
    """A shared HTTP client as a resource: ``dm.register_resources(mail=HttpBackend("https://mail.example/api/"))``.

    Services get the `httpx2.Client` itself, the same in all contexts of the process and safe to share among threads;
    paths are relative to the URL. A request is sent at once and cannot be taken back, however the context ends, and
    ``read_only=True`` does not prevent it: send what matters in an ``on_commit`` hook.

    The client keeps no cookies between requests, which are made for many users, unless you pass ``cookies=``.

    Args:
        source: the URL of a server, or a client of your own, of httpx2 or httpx, which is never closed.
        ping_path: the path that `ping` requests by GET and expects a 2xx for. Without it, any answer to a HEAD of the
            URL will do, and a client of your own without a ``base_url`` is not pinged at all.
        options: passed on to the new client: ``headers``, ``auth``, ``timeout``, ``limits``, ``transport``, ...

    Raises:
        ConfigurationError: if the source is something else, or if options are given along with a client.

    Example:
        >>> from polydatum import DataManager
        >>> server = httpx2.MockTransport(lambda request: httpx2.Response(200, text=f"hello, {request.url.path}"))
        >>> dm = DataManager()
        >>> dm.register_resources(greeter=HttpBackend("http://greeter/api/", transport=server))
        >>> with dm.context() as ctx:
        ...     ctx.greeter.get("ann").text
        'hello, /api/ann'
        >>> dm.ping()["greeter"].ok
        True
        >>> dm.close()
    """

    def __init__(self, source: str | Any, *, ping_path: str | None = None, **options: Any) -> None:
        super().__init__(given_client(self, source, options, *_kinds("Client")))
        self._source = _Source(source, ping_path, options)

    def connect(self) -> httpx2.Client:
        """Create the client, which connects on the first request."""
        return httpx2.Client(**self._source.options())

    def disconnect(self, client: httpx2.Client) -> None:
        """Close its connections."""
        client.close()

    def begin(self, context: Any, client: httpx2.Client, name: str) -> contextlib.nullcontext[httpx2.Client]:
        """The client as it is."""
        return contextlib.nullcontext(client)

    def ping(self, client: httpx2.Client) -> None:
        """One exchange, or none for a client without a ``base_url``; see the class."""
        for method, path in self._source.question(client):
            self._source.judge(client.request(method, path))

    def __repr__(self) -> str:
        return f"HttpBackend({self._source!r})"


class AsyncHttpBackend(AsyncBackend[httpx2.AsyncClient]):
    """The async twin of `HttpBackend`: services get an `httpx2.AsyncClient`, one per event loop.

    A request that is cancelled closes its connection.
    """

    def __init__(self, source: str | Any, *, ping_path: str | None = None, **options: Any) -> None:
        super().__init__(given_client(self, source, options, *_kinds("AsyncClient")))
        self._source = _Source(source, ping_path, options)

    async def connect(self) -> httpx2.AsyncClient:
        """As `HttpBackend.connect`."""
        return httpx2.AsyncClient(**self._source.options())

    async def disconnect(self, client: httpx2.AsyncClient) -> None:
        """As `HttpBackend.disconnect`."""
        await client.aclose()

    async def begin(self, context: Any, client: httpx2.AsyncClient, name: str) -> contextlib.nullcontext[Any]:
        """As `HttpBackend.begin`."""
        return contextlib.nullcontext(client)

    async def ping(self, client: httpx2.AsyncClient) -> None:
        """As `HttpBackend.ping`."""
        for method, path in self._source.question(client):
            self._source.judge(await client.request(method, path))

    def __repr__(self) -> str:
        return f"AsyncHttpBackend({self._source!r})"


def _kinds(name: str) -> list[type]:
    """The client class of httpx2, and of httpx if the application has imported it."""
    return [getattr(module, name) for module in (httpx2, sys.modules.get("httpx")) if module is not None]


class _Source:
    """A client, or how to create one, and how to ping its server; its repr shows no secret."""

    def __init__(self, source: Any, ping_path: str | None, options: dict[str, Any]) -> None:
        self._source = source
        self._ping_path = ping_path
        self._options = options

    def options(self) -> dict[str, Any]:
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        return {"base_url": self._source, "cookies": no_cookies, **self._options}

    def question(self, client: Any) -> list[tuple[str, str]]:
        """The method and path of the ping: one request, or none."""
        if self._ping_path is not None:
            return [("GET", self._ping_path)]
        return [("HEAD", "")] if str(client.base_url) else []

    def judge(self, response: Any) -> None:
        if self._ping_path is not None:
            response.raise_for_status()

    def __repr__(self) -> str:
        if isinstance(self._source, str):
            return repr(shown_url(self._source))
        return f"<{type(self._source).__module__.partition('.')[0]}.{type(self._source).__name__}>"
