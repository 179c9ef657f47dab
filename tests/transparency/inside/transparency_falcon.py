"""Puts the adapters around every Falcon application: that for WSGI, and that for ASGI."""

from __future__ import annotations

from functools import partial
from typing import Any

import falcon
import falcon.asgi
from transparency_manager import manager

from asgi_polydatum import PolydatumMiddleware
from wsgi_polydatum import PolydatumWSGI

_call_wsgi = falcon.App.__call__
_call_asgi = falcon.asgi.App.__call__


def call_wsgi(self: Any, env: Any, start_response: Any) -> Any:
    return PolydatumWSGI(partial(_call_wsgi, self), manager)(env, start_response)


async def call_asgi(self: Any, scope: Any, receive: Any, send: Any) -> None:
    await PolydatumMiddleware(partial(_call_asgi, self), manager)(scope, receive, send)


falcon.App.__call__ = call_wsgi  # type: ignore[method-assign]
falcon.asgi.App.__call__ = call_asgi  # type: ignore[method-assign]
