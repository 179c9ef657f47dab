"""svcs in Flask."""

import svcs.flask
from flask import Response
from sqlalchemy.orm import Session

from tests.truth import bank
from tests.truth.apps.web_flask import end, make_app, stream

app = svcs.flask.init_app(make_app())
svcs.flask.register_factory(app, Session, bank.session_of_request)


@app.post("/pay/<check>")
def pay(check: str) -> tuple[str, int]:
    bank.pay(svcs.flask.get(Session), check)
    return end(check)


@app.get("/names")
def names() -> Response:
    return stream(bank.names(svcs.flask.get(Session)))
