"""modern-di in FastAPI; the endpoint commits."""

from typing import Annotated

from fastapi.responses import JSONResponse, StreamingResponse
from modern_di import Container
from modern_di_fastapi import FromDI, setup_di
from sqlalchemy.orm import Session

from tests.truth import bank
from tests.truth.apps.modern_di_session import Sessions
from tests.truth.apps.web_fastapi import end, make_app, stream

app = make_app()
setup_di(app, Container(groups=[Sessions]))
OfRequest = Annotated[Session, FromDI(Sessions.session)]


@app.post("/pay/{check}")
async def pay(check: str, session: OfRequest) -> JSONResponse:
    bank.pay(session, check)
    answer = end(check)
    if answer.status_code < 400:
        session.commit()
    return answer


@app.get("/names")
async def names(session: OfRequest) -> StreamingResponse:
    return stream(bank.names(session))
