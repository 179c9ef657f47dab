"""Conduit, served by Django: settings, URLs and views in one file."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views import View
from pydantic_core import to_json

from conduit.services import schemas as s
from conduit.services.errors import ConduitError, as_response
from conduit.services.layer import ConduitDAL, ConduitManager
from polydatum import lazy


class ConduitRequest(HttpRequest):
    dal: ConduitDAL


def json(content: object, status: int = 200, headers: Any = None) -> HttpResponse:
    return HttpResponse(to_json(content), "application/json", status, headers=headers)


class ConduitView(View):
    def dispatch(self, request: Any, *args: Any, **captured: Any) -> Any:
        request.user = lazy(lambda: request.dal.users.authenticate(request.headers.get("Authorization")))
        try:
            return super().dispatch(request, *args, **captured)
        except ConduitError as error:
            return json(error.response, error.code, error.headers)


class Login(ConduitView):
    def post(self, request: ConduitRequest) -> HttpResponse:
        return json({"user": request.dal.users.login(s.LoginUserRequest.read(request.body).user)})


class Users(ConduitView):
    def post(self, request: ConduitRequest) -> HttpResponse:
        return json({"user": request.dal.users.register(s.NewUserRequest.read(request.body).user)}, 201)


class User(ConduitView):
    def get(self, request: ConduitRequest) -> HttpResponse:
        return json({"user": request.dal.users.current()})

    def put(self, request: ConduitRequest) -> HttpResponse:
        return json({"user": request.dal.users.update(s.UpdateUserRequest.read(request.body).user)})


class Profile(ConduitView):
    def get(self, request: ConduitRequest, username: str) -> HttpResponse:
        return json({"profile": request.dal.profiles.get(username)})


class Follow(ConduitView):
    def post(self, request: ConduitRequest, username: str) -> HttpResponse:
        return json({"profile": request.dal.profiles.follow(username)})

    def delete(self, request: ConduitRequest, username: str) -> HttpResponse:
        return json({"profile": request.dal.profiles.unfollow(username)})


class Articles(ConduitView):
    def get(self, request: ConduitRequest) -> HttpResponse:
        return json(request.dal.articles.search(s.ArticleFilter.of(request.GET.dict())))

    def post(self, request: ConduitRequest) -> HttpResponse:
        return json({"article": request.dal.articles.publish(s.NewArticleRequest.read(request.body).article)}, 201)


class Feed(ConduitView):
    def get(self, request: ConduitRequest) -> HttpResponse:
        return json(request.dal.articles.feed(s.Page.of(request.GET.dict())))


class Article(ConduitView):
    def get(self, request: ConduitRequest, slug: str) -> HttpResponse:
        return json({"article": request.dal.articles.get(slug)})

    def put(self, request: ConduitRequest, slug: str) -> HttpResponse:
        return json({"article": request.dal.articles.update(slug, s.UpdateArticleRequest.read(request.body).article)})

    def delete(self, request: ConduitRequest, slug: str) -> HttpResponse:
        request.dal.articles.delete(slug)
        return HttpResponse(status=204)


class Favorite(ConduitView):
    def post(self, request: ConduitRequest, slug: str) -> HttpResponse:
        return json({"article": request.dal.articles.favorite(slug)})

    def delete(self, request: ConduitRequest, slug: str) -> HttpResponse:
        return json({"article": request.dal.articles.unfavorite(slug)})


class Comments(ConduitView):
    def get(self, request: ConduitRequest, slug: str) -> HttpResponse:
        return json({"comments": request.dal.comments.of_article(slug)})

    def post(self, request: ConduitRequest, slug: str) -> HttpResponse:
        return json({"comment": request.dal.comments.add(slug, s.NewCommentRequest.read(request.body).comment)})


class Comment(ConduitView):
    def delete(self, request: ConduitRequest, slug: str, comment_id: int) -> HttpResponse:
        request.dal.comments.delete(slug, comment_id)
        return HttpResponse(status=204)


class Tags(ConduitView):
    def get(self, request: ConduitRequest) -> HttpResponse:
        return json({"tags": request.dal.articles.tags()})


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    return json(as_response(body="Not Found"), 404)


urlpatterns = [
    path("api/users/login", Login.as_view()),
    path("api/users", Users.as_view()),
    path("api/user", User.as_view()),
    path("api/profiles/<username>", Profile.as_view()),
    path("api/profiles/<username>/follow", Follow.as_view()),
    path("api/articles", Articles.as_view()),
    path("api/articles/feed", Feed.as_view()),
    path("api/articles/<slug>", Article.as_view()),
    path("api/articles/<slug>/favorite", Favorite.as_view()),
    path("api/articles/<slug>/comments", Comments.as_view()),
    path("api/articles/<slug>/comments/<int:comment_id>", Comment.as_view()),
    path("api/tags", Tags.as_view()),
    path("", include("conduit.pages.django")),
]
SETTINGS: dict[str, Any] = {
    "ALLOWED_HOSTS": ["127.0.0.1", "localhost"],
    "LOGGING_CONFIG": None,  # the program that serves this configures logging
    "MIDDLEWARE": ["django_polydatum.PolydatumMiddleware"],
    "ROOT_URLCONF": __name__,
}


def make_app(dm: ConduitManager) -> Any:
    settings.configure(POLYDATUM={"DATA_MANAGER": dm}, **SETTINGS)
    return get_wsgi_application()
