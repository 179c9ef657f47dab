"""Conduit, served by Starlette."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Mount, Route

from asgi_polydatum.starlette import Request
from example_apps.conduit.hosts.asgi import Json, install
from example_apps.conduit.services import schemas as s
from example_apps.conduit.services.layer import ConduitDAL, ConduitManager

ConduitRequest = Request[ConduitDAL]
SchemaT = TypeVar("SchemaT", bound=s.Schema)


# The database blocks, so no call is made on the event loop: Starlette runs a plain `def` in a thread by itself.
def reads(schema: type[SchemaT]) -> Callable[[Callable[[ConduitRequest, SchemaT], Response]], Any]:
    def decorate(view: Callable[[ConduitRequest, SchemaT], Response]) -> Any:
        async def endpoint(request: ConduitRequest) -> Response:
            return await run_in_threadpool(view, request, schema.read(await request.body()))

        return endpoint

    return decorate


@reads(s.LoginUserRequest)
def login(request: ConduitRequest, sent: s.LoginUserRequest) -> Response:
    return Json({"user": request.dal.users.login(sent.user)})


@reads(s.NewUserRequest)
def register(request: ConduitRequest, sent: s.NewUserRequest) -> Response:
    return Json({"user": request.dal.users.register(sent.user)}, 201)


def get_user(request: ConduitRequest) -> Response:
    return Json({"user": request.dal.users.current()})


@reads(s.UpdateUserRequest)
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


@reads(s.NewArticleRequest)
def publish(request: ConduitRequest, sent: s.NewArticleRequest) -> Response:
    return Json({"article": request.dal.articles.publish(sent.article)}, 201)


def get_article(request: ConduitRequest) -> Response:
    return Json({"article": request.dal.articles.get(request.path_params["slug"])})


@reads(s.UpdateArticleRequest)
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


@reads(s.NewCommentRequest)
def add_comment(request: ConduitRequest, sent: s.NewCommentRequest) -> Response:
    return Json({"comment": request.dal.comments.add(request.path_params["slug"], sent.comment)})


def delete_comment(request: ConduitRequest) -> Response:
    request.dal.comments.delete(**request.path_params)
    return Response(status_code=204)


def list_tags(request: ConduitRequest) -> Response:
    return Json({"tags": request.dal.articles.tags()})


routes = [
    Route("/users/login", login, methods=["POST"]),
    Route("/users", register, methods=["POST"]),
    Route("/user", get_user, methods=["GET"]),
    Route("/user", update_user, methods=["PUT"]),
    Route("/profiles/{username}", get_profile, methods=["GET"]),
    Route("/profiles/{username}/follow", follow, methods=["POST"]),
    Route("/profiles/{username}/follow", unfollow, methods=["DELETE"]),
    Route("/articles", list_articles, methods=["GET"]),
    Route("/articles", publish, methods=["POST"]),
    Route("/articles/feed", feed, methods=["GET"]),
    Route("/articles/{slug}", get_article, methods=["GET"]),
    Route("/articles/{slug}", update_article, methods=["PUT"]),
    Route("/articles/{slug}", delete_article, methods=["DELETE"]),
    Route("/articles/{slug}/favorite", favorite, methods=["POST"]),
    Route("/articles/{slug}/favorite", unfavorite, methods=["DELETE"]),
    Route("/articles/{slug}/comments", list_comments, methods=["GET"]),
    Route("/articles/{slug}/comments", add_comment, methods=["POST"]),
    Route("/articles/{slug}/comments/{comment_id:int}", delete_comment, methods=["DELETE"]),
    Route("/tags", list_tags, methods=["GET"]),
]


def make_app(dm: ConduitManager) -> Starlette:
    app = Starlette(routes=[Mount("/api", routes=routes)])
    install(app, dm)
    return app
