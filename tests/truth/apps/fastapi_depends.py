"""A dependency that commits after its ``yield``, with the default scope."""

from typing import Annotated

from fastapi import Depends
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy.orm import Session

from tests.truth import bank
from tests.truth.apps.web_fastapi import end, make_app, stream

app = make_app()
OfRequest = Annotated[Session, Depends(bank.session_of_request)]


@app.post("/pay/{check}")
def pay(check: str, session: OfRequest) -> JSONResponse:
    bank.pay(session, check)
    return end(check)


@app.get("/names")
def names(session: OfRequest) -> StreamingResponse:
    return stream(bank.names(session))
