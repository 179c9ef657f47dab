"""The ledger on Starlette, with a middleware that cancels requests, as a server or a timeout does."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_polydatum import PolydatumMiddleware, health
from tests.soak.layer import Order, async_manager

dm = async_manager()


async def carry_out(request: Request) -> JSONResponse:
    order = Order(request.query_params)
    dal: Any = request.scope["state"]["dal"]
    return JSONResponse(await dal.ledger.carry_out(order), order.status)


class Cancelling:
    """Cancels a request after ``cancel`` milliseconds, and reports the outcome of its context."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        after = dict(parse_qsl(scope.get("query_string", b"").decode())).get("cancel")
        if after is None:
            await self.app(scope, receive, send)
            return
        has_started = False

        async def watched(message: Any) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        task = asyncio.ensure_future(self.app(scope, receive, watched))
        handle = asyncio.get_running_loop().call_later(float(after) / 1000, task.cancel)
        try:
            await asyncio.wait([task])
            if task.cancelled() and not has_started:
                outcome = str(scope["polydatum.context"].outcome)
                headers = [(b"content-length", b"0"), (b"x-outcome", outcome.encode())]
                await send({"type": "http.response.start", "status": 503, "headers": headers})
                await send({"type": "http.response.body"})
            elif not task.cancelled():
                task.result()
        finally:
            handle.cancel()


inner = Starlette(routes=[Route("/carry-out", carry_out, methods=["POST"]), Route("/health", health(dm))])
inner.add_middleware(PolydatumMiddleware, data_manager=dm)
app = Cancelling(inner)
