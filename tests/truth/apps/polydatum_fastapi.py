"""Polydatum in FastAPI."""

from collections.abc import AsyncIterator

from fastapi.responses import JSONResponse, StreamingResponse

from asgi_polydatum import PolydatumMiddleware, stream_context
from asgi_polydatum.starlette import Request
from tests.truth.apps.polydatum_layer import BankDAL, dm
from tests.truth.apps.web_fastapi import end, make_app, stream

app = make_app()
app.add_middleware(PolydatumMiddleware, data_manager=dm)


@app.post("/pay/{check}")
def pay(check: str, request: Request[BankDAL]) -> JSONResponse:
    request.dal.payments.pay(check)
    return end(check)


@app.get("/names")
def names(request: Request[BankDAL]) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        async with stream_context(request) as ctx:
            for line in ctx.dal.payments.names():
                yield line

    return stream(lines())
