"""The bank in FastAPI, with sync endpoints and the DAL as a dependency."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from asgi_polydatum import PolydatumMiddleware, stream_context
from asgi_polydatum.starlette import get_dal
from tests.servers.apps import endpoints
from tests.servers.apps.bank import dm

BankDal = Annotated[Any, Depends(get_dal)]

app = FastAPI()
app.add_middleware(PolydatumMiddleware, data_manager=dm)


@app.post("/transfer", response_class=PlainTextResponse)
def transfer(dal: BankDal, response: Response, key: str, fail: str | None = None, gate: str | None = None) -> str:
    response.headers.update(endpoints.HEADERS)
    return endpoints.transfer(dal, key, fail, gate)


@app.get("/who", response_class=PlainTextResponse)
def who(dal: BankDal, gate: str | None = None) -> str:
    return endpoints.who(dal, gate)


@app.get("/stream")
def stream(request: Request) -> Response:
    return StreamingResponse(endpoints.chunks_async(stream_context(request)))


@app.post("/late")
def late(dal: BankDal, fail: str | None = None) -> Response:
    dal.accounts.transfer(fail=fail)
    return StreamingResponse(endpoints.late_chunks(dal), headers=endpoints.HEADERS)


@app.get("/healthy", response_class=PlainTextResponse)
async def healthy() -> str:
    return "healthy"
