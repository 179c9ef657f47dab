"""wireup in Flask."""

import wireup.integration.flask
from flask import Response
from sqlalchemy.orm import Session
from wireup import Injected, create_sync_container

from tests.truth import bank
from tests.truth.apps.web_flask import end, make_app, stream
from tests.truth.apps.wireup_session import session_factory

app = make_app()


@app.post("/pay/<check>")
def pay(check: str, session: Injected[Session]) -> tuple[str, int]:
    bank.pay(session, check)
    return end(check)


@app.get("/names")
def names(session: Injected[Session]) -> Response:
    return stream(bank.names(session))


wireup.integration.flask.setup(create_sync_container(injectables=[session_factory]), app)
