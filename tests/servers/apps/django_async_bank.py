"""The bank in Django with async views."""

from __future__ import annotations

from typing import Any

from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import path

from django_polydatum import stream_context
from tests.servers.apps import endpoints
from tests.servers.apps.django_settings import configure


async def transfer(request: Any) -> HttpResponse:
    query = request.GET
    text = await endpoints.transfer_async(request.dal, query["key"], query.get("fail"), query.get("gate"))
    return HttpResponse(text, headers=endpoints.HEADERS)


async def who(request: Any) -> HttpResponse:
    return HttpResponse(await endpoints.who_async(request.dal, request.GET.get("gate")))


async def stream(request: HttpRequest) -> HttpResponseBase:
    return StreamingHttpResponse(endpoints.chunks_async(stream_context(request)))


async def late(request: Any) -> HttpResponseBase:
    request.dal.accounts.transfer(fail=request.GET.get("fail"))
    return StreamingHttpResponse(endpoints.late_chunks_async(request.dal), headers=endpoints.HEADERS)


async def healthy(request: HttpRequest) -> HttpResponse:
    return HttpResponse("healthy")


urlpatterns = [
    path("transfer", transfer),
    path("who", who),
    path("stream", stream),
    path("late", late),
    path("healthy", healthy),
]

configure(urls=__name__)
asgi_app = ASGIHandler()
