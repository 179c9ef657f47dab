"""wireup in FastAPI: its scope spans the endpoint."""

import wireup.integration.fastapi
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy.orm import Session
from wireup import Injected, create_async_container

from tests.truth import bank
from tests.truth.apps.web_fastapi import end, make_app, stream
from tests.truth.apps.wireup_session import session_factory

app = make_app()


@app.post("/pay/{check}")
async def pay(check: str, session: Injected[Session]) -> JSONResponse:
    bank.pay(session, check)
    return end(check)


@app.get("/names")
async def names(session: Injected[Session]) -> StreamingResponse:
    return stream(bank.names(session))


container = create_async_container(injectables=[session_factory, wireup.integration.fastapi])
wireup.integration.fastapi.setup(container, app)
