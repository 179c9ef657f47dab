"""The bank in Django with sync views: ``wsgi_app``, and ``asgi_app``, in which they run in threads."""

from __future__ import annotations

from typing import Any

from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import path

from django_polydatum import stream_context
from tests.servers.apps import endpoints
from tests.servers.apps.django_settings import configure


def transfer(request: Any) -> HttpResponse:
    query = request.GET
    text = endpoints.transfer(request.dal, query["key"], query.get("fail"), query.get("gate"))
    return HttpResponse(text, headers=endpoints.HEADERS)


def who(request: Any) -> HttpResponse:
    return HttpResponse(endpoints.who(request.dal, request.GET.get("gate")))


def stream(request: HttpRequest) -> HttpResponseBase:
    return StreamingHttpResponse(endpoints.chunks(stream_context(request)))


def late(request: Any) -> HttpResponseBase:
    request.dal.accounts.transfer(fail=request.GET.get("fail"))
    return StreamingHttpResponse(endpoints.late_chunks(request.dal), headers=endpoints.HEADERS)


def healthy(request: HttpRequest) -> HttpResponse:
    return HttpResponse("healthy")


urlpatterns = [
    path("transfer", transfer),
    path("who", who),
    path("stream", stream),
    path("late", late),
    path("healthy", healthy),
]

configure(urls=__name__)
wsgi_app = WSGIHandler()
asgi_app = ASGIHandler()
