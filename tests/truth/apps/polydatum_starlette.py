"""Polydatum in Starlette."""

from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from asgi_polydatum import PolydatumMiddleware, stream_context
from asgi_polydatum.starlette import Request
from tests.truth.apps.polydatum_layer import BankDAL, dm
from tests.truth.bank import Conflict


def end(check: str) -> JSONResponse:
    match check:
        case "raised":
            raise HTTPException(409)
        case "handled":
            raise Conflict
        case "returned":
            return JSONResponse({"detail": "conflict"}, 409)
        case "crashed":
            raise RuntimeError("a bug")
    return JSONResponse({"paid": True}, 201)


def pay(request: Request[BankDAL]) -> JSONResponse:
    check = request.path_params["check"]
    request.dal.payments.pay(check)
    return end(check)


def names(request: Request[BankDAL]) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        async with stream_context(request) as ctx:
            for line in ctx.dal.payments.names():
                yield line

    return StreamingResponse(lines(), media_type="text/plain")


def conflict(request: StarletteRequest, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "conflict"}, 409)


app = Starlette(
    routes=[Route("/pay/{check}", pay, methods=["POST"]), Route("/names", names)],
    exception_handlers={Conflict: conflict},
)
app.add_middleware(PolydatumMiddleware, data_manager=dm)
