"""The bank as a plain WSGI function, without a framework."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

from tests.servers.apps import endpoints
from tests.servers.apps.bank import dm
from wsgi_polydatum import PolydatumWSGI, stream_context

TEXT = ("Content-Type", "text/plain")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    dal = environ["polydatum.dal"]
    match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
        case "POST", "/transfer":
            text = endpoints.transfer(dal, query["key"], query.get("fail"), query.get("gate")).encode()
            start_response("200 OK", [TEXT, ("Content-Length", str(len(text))), *endpoints.HEADERS.items()])
            return [text]
        case "GET", "/who":
            text = endpoints.who(dal, query.get("gate")).encode()
            start_response("200 OK", [TEXT, ("Content-Length", str(len(text)))])
            return [text]
        case "GET", "/stream":
            start_response("200 OK", [TEXT])
            return endpoints.chunks(stream_context(environ))
        case "POST", "/late":
            dal.accounts.transfer(fail=query.get("fail"))
            start_response("200 OK", [TEXT, *endpoints.HEADERS.items()])
            return endpoints.late_chunks(dal)
        case "POST", "/unsendable":
            dal.accounts.transfer()
            start_response("200 OK", [TEXT, ("X-Name", endpoints.UNSENDABLE)])
            return [b"transferred"]
        case "GET", "/healthy":
            start_response("200 OK", [TEXT, ("Content-Length", "7")])
            return [b"healthy"]
        case _:
            start_response("404 Not Found", [TEXT, ("Content-Length", "0")])
            return []


app = PolydatumWSGI(application, dm)
