"""Conduit, served by FastAPI, which also documents it, at ``/docs``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyHeader

from asgi_polydatum.starlette import Request
from conduit.hosts.asgi import Json, answer_conduit_error, install
from conduit.services import schemas as s
from conduit.services.errors import GenericErrorModel, Invalid, problems_in
from conduit.services.layer import ConduitDAL, ConduitManager

ConduitRequest = Request[ConduitDAL]

token = APIKeyHeader(
    name="Authorization", scheme_name="Token", description="Token xxxxxx.yyyyyyy.zzzzzz", auto_error=False
)
errors: dict[int | str, Any] = {code: {"model": GenericErrorModel} for code in (401, 404, 422)}
api = APIRouter(prefix="/api", responses=errors)
FOR_USERS: dict[str, Any] = {"dependencies": [Depends(token)], "responses": {403: {"model": GenericErrorModel}}}


# Views return responses. FastAPI would validate any other value in a second thread pool call, with the transaction open
# until then: under load, requests that hold a connection would wait for a thread, and the threads for a connection.


@api.post("/users/login", response_model=s.UserResponse)
def login(request: ConduitRequest, sent: s.LoginUserRequest) -> Json:
    return Json({"user": request.dal.users.login(sent.user)})


@api.post("/users", response_model=s.UserResponse, status_code=201)
def register(request: ConduitRequest, sent: s.NewUserRequest) -> Json:
    return Json({"user": request.dal.users.register(sent.user)}, 201)


@api.get("/user", response_model=s.UserResponse, **FOR_USERS)
def get_user(request: ConduitRequest) -> Json:
    return Json({"user": request.dal.users.current()})


@api.put("/user", response_model=s.UserResponse, **FOR_USERS)
def update_user(request: ConduitRequest, sent: s.UpdateUserRequest) -> Json:
    return Json({"user": request.dal.users.update(sent.user)})


@api.get("/profiles/{username}", response_model=s.ProfileResponse)
def get_profile(request: ConduitRequest, username: str) -> Json:
    return Json({"profile": request.dal.profiles.get(username)})


@api.post("/profiles/{username}/follow", response_model=s.ProfileResponse, **FOR_USERS)
def follow(request: ConduitRequest, username: str) -> Json:
    return Json({"profile": request.dal.profiles.follow(username)})


@api.delete("/profiles/{username}/follow", response_model=s.ProfileResponse, **FOR_USERS)
def unfollow(request: ConduitRequest, username: str) -> Json:
    return Json({"profile": request.dal.profiles.unfollow(username)})


@api.get("/articles", response_model=s.MultipleArticlesResponse)
def list_articles(request: ConduitRequest, wanted: Annotated[s.ArticleFilter, Query()]) -> Json:
    return Json(request.dal.articles.search(wanted))


@api.post("/articles", response_model=s.SingleArticleResponse, status_code=201, **FOR_USERS)
def publish(request: ConduitRequest, sent: s.NewArticleRequest) -> Json:
    return Json({"article": request.dal.articles.publish(sent.article)}, 201)


@api.get("/articles/feed", response_model=s.MultipleArticlesResponse, **FOR_USERS)
def feed(request: ConduitRequest, page: Annotated[s.Page, Query()]) -> Json:
    return Json(request.dal.articles.feed(page))


@api.get("/articles/{slug}", response_model=s.SingleArticleResponse)
def get_article(request: ConduitRequest, slug: str) -> Json:
    return Json({"article": request.dal.articles.get(slug)})


@api.put("/articles/{slug}", response_model=s.SingleArticleResponse, **FOR_USERS)
def update_article(request: ConduitRequest, slug: str, sent: s.UpdateArticleRequest) -> Json:
    return Json({"article": request.dal.articles.update(slug, sent.article)})


@api.delete("/articles/{slug}", status_code=204, **FOR_USERS)
def delete_article(request: ConduitRequest, slug: str) -> None:
    request.dal.articles.delete(slug)


@api.post("/articles/{slug}/favorite", response_model=s.SingleArticleResponse, **FOR_USERS)
def favorite(request: ConduitRequest, slug: str) -> Json:
    return Json({"article": request.dal.articles.favorite(slug)})


@api.delete("/articles/{slug}/favorite", response_model=s.SingleArticleResponse, **FOR_USERS)
def unfavorite(request: ConduitRequest, slug: str) -> Json:
    return Json({"article": request.dal.articles.unfavorite(slug)})


@api.get("/articles/{slug}/comments", response_model=s.MultipleCommentsResponse)
def list_comments(request: ConduitRequest, slug: str) -> Json:
    return Json({"comments": request.dal.comments.of_article(slug)})


@api.post("/articles/{slug}/comments", response_model=s.SingleCommentResponse, **FOR_USERS)
def add_comment(request: ConduitRequest, slug: str, sent: s.NewCommentRequest) -> Json:
    return Json({"comment": request.dal.comments.add(slug, sent.comment)})


@api.delete("/articles/{slug}/comments/{comment_id:int}", status_code=204, **FOR_USERS)
def delete_comment(request: ConduitRequest, slug: str, comment_id: int) -> None:
    request.dal.comments.delete(slug, comment_id)


@api.get("/tags", response_model=s.TagsResponse)
def list_tags(request: ConduitRequest) -> Json:
    return Json({"tags": request.dal.articles.tags()})


def answer_invalid(request: ConduitRequest, error: RequestValidationError) -> Any:
    return answer_conduit_error(request, Invalid(**problems_in(error.errors())))


def answer_unreadable(request: ConduitRequest, error: Exception) -> Any:
    return answer_conduit_error(request, Invalid(body="is not valid JSON"))


def make_app(dm: ConduitManager) -> FastAPI:
    app = FastAPI(title="Conduit", generate_unique_id_function=lambda route: route.name)
    app.include_router(api)
    app.add_exception_handler(RequestValidationError, answer_invalid)  # type: ignore[arg-type]
    app.add_exception_handler(400, answer_unreadable)  # type: ignore[arg-type]
    install(app, dm)
    return app
