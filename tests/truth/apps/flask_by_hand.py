"""Flask-SQLAlchemy: the view commits on success."""

from flask import Response
from flask_sqlalchemy import SQLAlchemy

from tests.truth import bank
from tests.truth.apps.web_flask import end, make_app, stream

app = make_app()
app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{bank.PATH}"
db = SQLAlchemy(model_class=bank.Base, session_options={"close_resets_only": False})
db.init_app(app)
with app.app_context():
    bank.check_foreign_keys(db.engine)


@app.post("/pay/<check>")
def pay(check: str) -> tuple[str, int]:
    bank.pay(db.session, check)
    text, status = end(check)
    if status < 400:
        db.session.commit()
    return text, status


@app.get("/names")
def names() -> Response:
    return stream(bank.names(db.session))
