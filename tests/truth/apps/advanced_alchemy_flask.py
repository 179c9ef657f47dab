"""Advanced Alchemy in Flask: it commits if the status is below 300."""

from advanced_alchemy.extensions.flask import AdvancedAlchemy, SQLAlchemySyncConfig
from flask import Response

from tests.truth import bank
from tests.truth.apps.web_flask import end, make_app, stream

app = make_app()
config = SQLAlchemySyncConfig(engine_instance=bank.engine, session_maker=bank.Sessions, commit_mode="autocommit")
alchemy = AdvancedAlchemy(config, app)


@app.post("/pay/<check>")
def pay(check: str) -> tuple[str, int]:
    bank.pay(alchemy.get_sync_session(), check)
    return end(check)


@app.get("/names")
def names() -> Response:
    return stream(bank.names(alchemy.get_sync_session()))
