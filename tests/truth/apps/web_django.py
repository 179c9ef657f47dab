"""Shared by all stacks on Django."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from tests.truth.bank import PATH, Conflict


def make_app(
    module: str, *, atomic: bool = False, middleware: tuple[str, ...] = (), installed: tuple[str, ...] = (), **more: Any
) -> WSGIHandler:
    """The application with the ``urlpatterns`` of a module. Configures Django."""
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(PATH), "ATOMIC_REQUESTS": atomic}},
        INSTALLED_APPS=list(installed),
        MIDDLEWARE=[f"{__name__}.ConflictHandler", *middleware],
        ROOT_URLCONF=module,
        SECRET_KEY="for tests only",
        USE_TZ=True,
        **more,
    )
    django.setup(set_prefix=False)
    return WSGIHandler()


class ConflictHandler:
    """Django's equivalent of an error handler: a middleware that answers `Conflict` with a 409."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        return HttpResponse("conflict", status=409) if isinstance(error, Conflict) else None


def end(check: str) -> HttpResponse:
    """End a view after it has written. Django has no exception for a 409, only for a 404."""
    match check:
        case "raised":
            raise Http404
        case "handled":
            raise Conflict
        case "returned":
            return HttpResponse("conflict", status=409)
        case "crashed":
            raise RuntimeError("a bug")
    return HttpResponse("paid", status=201)


def stream(lines: Iterator[str]) -> StreamingHttpResponse:
    """A streamed body."""
    return StreamingHttpResponse(lines, content_type="text/plain")


def patterns(pay: Any, names: Any) -> list[Any]:
    """The URLs."""
    return [path("pay/<check>", pay), path("names", names)]
