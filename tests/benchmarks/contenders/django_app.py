"""Several Django applications in one process, each with its own routes and middleware, although Django has one."""

from collections.abc import Callable, Sequence
from typing import Any

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http import HttpResponse
from django.test.utils import override_settings
from django.urls import path

from tests.benchmarks.serving import PATH


def django_app(
    view: Callable[..., HttpResponse], *middleware: str, installed: Sequence[str] = (), **options: Any
) -> WSGIHandler:
    """The handler of a project with this single view."""
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=(), SECRET_KEY="not a secret")
        django.setup()
    routes = (path(PATH[1:], view),)

    class Request(WSGIRequest):
        urlconf = routes  # per request; otherwise Django reads it from the settings

    class Handler(WSGIHandler):
        request_class = Request

    project = override_settings(ROOT_URLCONF=routes, MIDDLEWARE=middleware, **options)
    with project, override_settings(INSTALLED_APPS=installed):
        return Handler()


def answer(item: int) -> HttpResponse:
    return HttpResponse(str(item), content_type="text/plain")
