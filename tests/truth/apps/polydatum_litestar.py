"""Polydatum in Litestar."""

from collections.abc import AsyncIterator
from typing import Any

from litestar import Litestar, Request, Response, get, post
from litestar.middleware import DefineMiddleware
from litestar.response import Stream

from asgi_polydatum import PolydatumMiddleware, stream_context
from tests.truth.apps.polydatum_layer import dm
from tests.truth.apps.web_litestar import conflict, end, stream
from tests.truth.bank import Conflict


@post("/pay/{check:str}", sync_to_thread=False)
def pay(check: str, request: Request[Any, Any, Any]) -> Response[str]:
    request.dal.payments.pay(check)  # type: ignore[attr-defined]
    return end(check)


@get("/names", sync_to_thread=False)
def names(request: Request[Any, Any, Any]) -> Stream:
    async def lines() -> AsyncIterator[str]:
        async with stream_context(request) as ctx:
            for line in ctx.dal.payments.names():
                yield line

    return stream(lines())


app = Litestar(
    [pay, names],
    middleware=[DefineMiddleware(PolydatumMiddleware, data_manager=dm)],
    exception_handlers={Conflict: conflict},
)
