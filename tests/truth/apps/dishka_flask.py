"""dishka in Flask."""

from dishka import make_container
from dishka.integrations.flask import FromDishka, inject, setup_dishka
from flask import Response
from sqlalchemy.orm import Session

from tests.truth import bank
from tests.truth.apps.dishka_session import SessionProvider
from tests.truth.apps.web_flask import end, make_app, stream

app = make_app()


@app.post("/pay/<check>")
@inject
def pay(check: str, session: FromDishka[Session]) -> tuple[str, int]:
    bank.pay(session, check)
    return end(check)


@app.get("/names")
@inject
def names(session: FromDishka[Session]) -> Response:
    return stream(bank.names(session))


setup_dishka(make_container(SessionProvider()), app)
