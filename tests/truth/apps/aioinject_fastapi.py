"""aioinject in FastAPI."""

from contextlib import contextmanager

from aioinject import Container, Injected, Scoped
from aioinject.ext.fastapi import AioInjectMiddleware, inject
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy.orm import Session

from tests.truth import bank
from tests.truth.apps.web_fastapi import end, make_app, stream

container = Container()
container.register(Scoped(contextmanager(bank.session_of_request)))

app = make_app()
app.add_middleware(AioInjectMiddleware, container=container)


@app.post("/pay/{check}")
@inject
async def pay(check: str, session: Injected[Session]) -> JSONResponse:
    bank.pay(session, check)
    return end(check)


@app.get("/names")
@inject
async def names(session: Injected[Session]) -> StreamingResponse:
    return stream(bank.names(session))
