"""A session per request in Flask, which the teardown commits unless it is passed an error."""

from flask import Response, g
from sqlalchemy.orm import Session

from tests.truth import bank
from tests.truth.apps.web_flask import end, make_app, stream

app = make_app()


def get_session() -> Session:
    if "session" not in g:
        g.session = bank.Sessions()
    return g.session


@app.teardown_appcontext
def end_session(error: BaseException | None) -> None:
    session = g.pop("session", None)
    if session is not None:
        with session:
            if error is None:
                session.commit()


@app.post("/pay/<check>")
def pay(check: str) -> tuple[str, int]:
    bank.pay(get_session(), check)
    return end(check)


@app.get("/names")
def names() -> Response:
    session = get_session()
    return stream(bank.names(session))
