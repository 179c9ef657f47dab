"""Conduit, served by Flask."""

from __future__ import annotations

from typing import Any, cast

import flask
from flask import Blueprint, Flask, Response
from flask_login import LoginManager  # type: ignore[import-untyped]
from pydantic_core import to_json
from werkzeug.exceptions import HTTPException

from conduit.pages.flask import add_pages
from conduit.services import schemas as s
from conduit.services.errors import ConduitError, as_response
from conduit.services.layer import ConduitDAL, ConduitManager
from flask_polydatum import FlaskPolydatum

api = Blueprint("conduit", __name__, url_prefix="/api")


class ConduitRequest(flask.Request):
    dal: ConduitDAL


request = cast(ConduitRequest, flask.request)


def json(content: object, status: int = 200, headers: Any = None) -> Response:
    return Response(to_json(content), status, headers, content_type="application/json")


@api.post("/users/login")
def login() -> Response:
    return json({"user": request.dal.users.login(s.LoginUserRequest.read(request.data).user)})


@api.post("/users")
def register() -> Response:
    return json({"user": request.dal.users.register(s.NewUserRequest.read(request.data).user)}, 201)


@api.get("/user")
def get_user() -> Response:
    return json({"user": request.dal.users.current()})


@api.put("/user")
def update_user() -> Response:
    return json({"user": request.dal.users.update(s.UpdateUserRequest.read(request.data).user)})


@api.get("/profiles/<username>")
def get_profile(username: str) -> Response:
    return json({"profile": request.dal.profiles.get(username)})


@api.post("/profiles/<username>/follow")
def follow(username: str) -> Response:
    return json({"profile": request.dal.profiles.follow(username)})


@api.delete("/profiles/<username>/follow")
def unfollow(username: str) -> Response:
    return json({"profile": request.dal.profiles.unfollow(username)})


@api.get("/articles")
def list_articles() -> Response:
    return json(request.dal.articles.search(s.ArticleFilter.of(request.args)))


@api.get("/articles/feed")
def feed() -> Response:
    return json(request.dal.articles.feed(s.Page.of(request.args)))


@api.post("/articles")
def publish() -> Response:
    return json({"article": request.dal.articles.publish(s.NewArticleRequest.read(request.data).article)}, 201)


@api.get("/articles/<slug>")
def get_article(slug: str) -> Response:
    return json({"article": request.dal.articles.get(slug)})


@api.put("/articles/<slug>")
def update_article(slug: str) -> Response:
    return json({"article": request.dal.articles.update(slug, s.UpdateArticleRequest.read(request.data).article)})


@api.delete("/articles/<slug>")
def delete_article(slug: str) -> Response:
    request.dal.articles.delete(slug)
    return Response(status=204)


@api.post("/articles/<slug>/favorite")
def favorite(slug: str) -> Response:
    return json({"article": request.dal.articles.favorite(slug)})


@api.delete("/articles/<slug>/favorite")
def unfavorite(slug: str) -> Response:
    return json({"article": request.dal.articles.unfavorite(slug)})


@api.get("/articles/<slug>/comments")
def list_comments(slug: str) -> Response:
    return json({"comments": request.dal.comments.of_article(slug)})


@api.post("/articles/<slug>/comments")
def add_comment(slug: str) -> Response:
    return json({"comment": request.dal.comments.add(slug, s.NewCommentRequest.read(request.data).comment)})


@api.delete("/articles/<slug>/comments/<int:comment_id>")
def delete_comment(slug: str, comment_id: int) -> Response:
    request.dal.comments.delete(slug, comment_id)
    return Response(status=204)


@api.get("/tags")
def list_tags() -> Response:
    return json({"tags": request.dal.articles.tags()})


def answer_conduit_error(error: ConduitError) -> Response:
    return json(error.response, error.code, error.headers)


def answer_http_error(error: HTTPException) -> Response:
    headers = [header for header in error.get_headers() if header[0] != "Content-Type"]
    return json(as_response(body=error.name), error.code or 500, headers)


def make_app(dm: ConduitManager) -> Flask:
    app = Flask(__name__, static_folder=None)
    app.register_blueprint(api)
    add_pages(app, dm)
    app.register_error_handler(ConduitError, answer_conduit_error)
    app.register_error_handler(HTTPException, answer_http_error)
    FlaskPolydatum(dm).init_app(app)
    logins = LoginManager(app)
    logins.anonymous_user = lambda: None
    logins.request_loader(lambda request: request.dal.users.authenticate(request.headers.get("Authorization")))
    return app
