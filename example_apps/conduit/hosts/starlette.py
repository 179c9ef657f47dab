"""Conduit, served by Starlette."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Mount, Route

from asgi_polydatum.starlette import Request
from conduit.hosts.asgi import Json, install
from conduit.services import schemas as s
from conduit.services.layer import ConduitDAL, ConduitManager

ConduitRequest = Request[ConduitDAL]


def login(request: ConduitRequest, sent: s.LoginUserRequest) -> Response:
    return Json({"user": request.dal.users.login(sent.user)})


def register(request: ConduitRequest, sent: s.NewUserRequest) -> Response:
    return Json({"user": request.dal.users.register(sent.user)}, 201)


def get_user(request: ConduitRequest) -> Response:
    return Json({"user": request.dal.users.current()})


def update_user(request: ConduitRequest, sent: s.UpdateUserRequest) -> Response:
    return Json({"user": request.dal.users.update(sent.user)})


def get_profile(request: ConduitRequest) -> Response:
    return Json({"profile": request.dal.profiles.get(request.path_params["username"])})


def follow(request: ConduitRequest) -> Response:
    return Json({"profile": request.dal.profiles.follow(request.path_params["username"])})


def unfollow(request: ConduitRequest) -> Response:
    return Json({"profile": request.dal.profiles.unfollow(request.path_params["username"])})


def list_articles(request: ConduitRequest) -> Response:
    return Json(request.dal.articles.search(s.ArticleFilter.of(request.query_params)))


def feed(request: ConduitRequest) -> Response:
    return Json(request.dal.articles.feed(s.Page.of(request.query_params)))


def publish(request: ConduitRequest, sent: s.NewArticleRequest) -> Response:
    return Json({"article": request.dal.articles.publish(sent.article)}, 201)


def get_article(request: ConduitRequest) -> Response:
    return Json({"article": request.dal.articles.get(request.path_params["slug"])})


def update_article(request: ConduitRequest, sent: s.UpdateArticleRequest) -> Response:
    return Json({"article": request.dal.articles.update(request.path_params["slug"], sent.article)})


def delete_article(request: ConduitRequest) -> Response:
    request.dal.articles.delete(request.path_params["slug"])
    return Response(status_code=204)


def favorite(request: ConduitRequest) -> Response:
    return Json({"article": request.dal.articles.favorite(request.path_params["slug"])})


def unfavorite(request: ConduitRequest) -> Response:
    return Json({"article": request.dal.articles.unfavorite(request.path_params["slug"])})


def list_comments(request: ConduitRequest) -> Response:
    return Json({"comments": request.dal.comments.of_article(request.path_params["slug"])})


def add_comment(request: ConduitRequest, sent: s.NewCommentRequest) -> Response:
    return Json({"comment": request.dal.comments.add(request.path_params["slug"], sent.comment)})


def delete_comment(request: ConduitRequest) -> Response:
    request.dal.comments.delete(**request.path_params)
    return Response(status_code=204)


def list_tags(request: ConduitRequest) -> Response:
    return Json({"tags": request.dal.articles.tags()})


# The database blocks, so no view runs on the event loop: Starlette runs a plain `def` in a thread.
def _route(method: str, path: str, view: Callable[..., Response], schema: type[s.Schema] | None = None) -> Route:
    endpoint = view if schema is None else _reading(schema, view)
    return Route(path, endpoint, methods=[method], name=view.__name__)


def _reading(schema: type[s.Schema], view: Callable[..., Response]) -> Callable[..., Awaitable[Response]]:
    async def endpoint(request: ConduitRequest) -> Response:
        return await run_in_threadpool(view, request, schema.read(await request.body()))

    return endpoint


routes = [
    _route("POST", "/users/login", login, s.LoginUserRequest),
    _route("POST", "/users", register, s.NewUserRequest),
    _route("GET", "/user", get_user),
    _route("PUT", "/user", update_user, s.UpdateUserRequest),
    _route("GET", "/profiles/{username}", get_profile),
    _route("POST", "/profiles/{username}/follow", follow),
    _route("DELETE", "/profiles/{username}/follow", unfollow),
    _route("GET", "/articles", list_articles),
    _route("POST", "/articles", publish, s.NewArticleRequest),
    _route("GET", "/articles/feed", feed),
    _route("GET", "/articles/{slug}", get_article),
    _route("PUT", "/articles/{slug}", update_article, s.UpdateArticleRequest),
    _route("DELETE", "/articles/{slug}", delete_article),
    _route("POST", "/articles/{slug}/favorite", favorite),
    _route("DELETE", "/articles/{slug}/favorite", unfavorite),
    _route("GET", "/articles/{slug}/comments", list_comments),
    _route("POST", "/articles/{slug}/comments", add_comment, s.NewCommentRequest),
    _route("DELETE", "/articles/{slug}/comments/{comment_id:int}", delete_comment),
    _route("GET", "/tags", list_tags),
]


def make_app(dm: ConduitManager) -> Starlette:
    app = Starlette(routes=[Mount("/api", routes=routes)])
    install(app, dm)
    return app
