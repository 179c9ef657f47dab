"""svcs: by default, factories are not told of errors."""

from collections.abc import AsyncIterator

import svcs.fastapi
from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy.orm import Session

from tests.truth import bank
from tests.truth.apps.web_fastapi import end, make_app, stream


@svcs.fastapi.lifespan
async def lifespan(app: FastAPI, registry: svcs.Registry) -> AsyncIterator[dict[str, object]]:
    registry.register_factory(Session, bank.session_of_request)
    yield {}


app = make_app(lifespan=lifespan)


@app.post("/pay/{check}")
async def pay(check: str, services: svcs.fastapi.DepContainer) -> JSONResponse:
    bank.pay(await services.aget(Session), check)
    return end(check)


@app.get("/names")
async def names(services: svcs.fastapi.DepContainer) -> StreamingResponse:
    return stream(bank.names(await services.aget(Session)))
