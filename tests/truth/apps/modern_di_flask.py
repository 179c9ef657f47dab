"""modern-di in Flask; the view commits."""

from typing import Annotated

from flask import Response
from modern_di import Container
from modern_di_flask import FromDI, inject, setup_di
from sqlalchemy.orm import Session

from tests.truth import bank
from tests.truth.apps.modern_di_session import Sessions
from tests.truth.apps.web_flask import end, make_app, stream

app = make_app()
setup_di(app, Container(groups=[Sessions]))
OfRequest = Annotated[Session, FromDI(Sessions.session)]


@app.post("/pay/<check>")
@inject
def pay(check: str, session: OfRequest) -> tuple[str, int]:
    bank.pay(session, check)
    text, status = end(check)
    if status < 400:
        session.commit()
    return text, status


@app.get("/names")
@inject
def names(session: OfRequest) -> Response:
    return stream(bank.names(session))
