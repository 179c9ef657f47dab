"""Django: a session in the view."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.views import View

from conduit.hosts import django as host
from conduit.hosts.django import json
from conduit.services import schemas as s
from conduit.services.errors import ConduitError
from tests.load.twins.wiring import Wiring

_wiring: Wiring


class HandView(View):
    def dispatch(self, request: Any, *args: Any, **captured: Any) -> Any:
        try:
            return super().dispatch(request, *args, **captured)
        except ConduitError as error:
            return json(error.response, error.code, error.headers)


class Articles(HandView):
    def get(self, request: HttpRequest) -> HttpResponse:
        with _wiring.sessions() as db:
            viewer = _wiring.viewer(db, request.headers.get("Authorization"))
            found = _wiring.articles(db, viewer).search(s.ArticleFilter.of(request.GET.dict()))
        return json(found)


class Article(HandView):
    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        with _wiring.sessions() as db:
            viewer = _wiring.viewer(db, request.headers.get("Authorization"))
            found = _wiring.articles(db, viewer).get(slug)
        return json({"article": found})


class Favorite(HandView):
    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        with _wiring.sessions() as db:
            viewer = _wiring.viewer(db, request.headers.get("Authorization"))
            found = _wiring.articles(db, viewer).favorite(slug)
            db.commit()
        return json({"article": found})


OURS = {view.__name__: view.as_view() for view in (Articles, Article, Favorite)}
handler404 = host.handler404
urlpatterns = [
    path(str(pattern.pattern), OURS.get(pattern.callback.view_class.__name__, pattern.callback))
    for pattern in host.urlpatterns
    if isinstance(pattern, URLPattern)  # the pages, which are included, are another's
]


def make_app(wiring: Wiring) -> WSGIHandler:
    global _wiring
    _wiring = wiring
    settings.configure(**{**host.SETTINGS, "MIDDLEWARE": [], "ROOT_URLCONF": __name__})
    return get_wsgi_application()
