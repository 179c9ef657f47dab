"""A dependency that opens and closes a session; the endpoint commits on success."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy.orm import Session

from tests.truth import bank
from tests.truth.apps.web_fastapi import end, make_app, stream


def get_session() -> Iterator[Session]:
    with bank.Sessions() as session:
        yield session


app = make_app()
OfRequest = Annotated[Session, Depends(get_session)]


@app.post("/pay/{check}")
def pay(check: str, session: OfRequest) -> JSONResponse:
    bank.pay(session, check)
    answer = end(check)
    if answer.status_code < 400:
        session.commit()
    return answer


@app.get("/names")
def names(session: OfRequest) -> StreamingResponse:
    return stream(bank.names(session))
