"""Flask: a scoped session, which the end of the request removes, as Flask's documentation has it."""

from __future__ import annotations

from flask import Blueprint, Flask, Response, request
from flask_login import LoginManager, current_user
from sqlalchemy.orm import scoped_session
from werkzeug.exceptions import HTTPException

from conduit.hosts.flask import answer_conduit_error, answer_http_error, json
from conduit.services import schemas as s
from conduit.services.errors import ConduitError
from tests.load.twins.wiring import Articles, Wiring


def make_app(wiring: Wiring) -> Flask:
    db = scoped_session(wiring.sessions)
    api = Blueprint("conduit", __name__, url_prefix="/api")

    def articles() -> Articles:
        return wiring.articles(db(), current_user._get_current_object())

    @api.get("/articles")
    def list_articles() -> Response:
        return json(articles().search(s.ArticleFilter.of(request.args)))

    @api.get("/articles/<slug>")
    def get_article(slug: str) -> Response:
        return json({"article": articles().get(slug)})

    @api.post("/articles/<slug>/favorite")
    def favorite(slug: str) -> Response:
        article = articles().favorite(slug)
        db.commit()
        return json({"article": article})

    app = Flask(__name__)
    app.register_blueprint(api)
    app.register_error_handler(ConduitError, answer_conduit_error)
    app.register_error_handler(HTTPException, answer_http_error)
    app.teardown_appcontext(lambda error: db.remove())
    logins = LoginManager(app)
    logins.anonymous_user = lambda: None
    logins.request_loader(lambda request: wiring.viewer(db(), request.headers.get("Authorization")))
    return app
