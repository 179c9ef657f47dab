"""Django as a host of the contract, under WSGI and ASGI."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Any

from polydatum.testing import Answer, Call, Handler, Host, Reply
from polydatum.testing.wire import over_asgi, over_asgi_together, over_wsgi


class DjangoHost(Host):
    """Django under WSGI or ASGI, with a sync or an async view."""

    adapter = "django_polydatum"
    fix = "PolydatumMiddleware"
    abort_statuses = (400, 403, 404)

    def __init__(self, *, over: str, is_async: bool) -> None:
        self.over = over
        self.is_async = is_async
        self.name = f"django-{over}-{'async' if is_async else 'sync'}"
        self.absent = {}
        if over == "asgi" and not is_async:
            self.absent["nesting"] = "a sync view and the request that it waits for share one thread of asgiref's"
        if over == "asgi" and metadata.version("django") < "6":
            self.absent["exits"] = "Django 5 runs the view in a task of its own, where an exit ends the event loop"

    def abort(self, status: int) -> BaseException:
        from django.core.exceptions import PermissionDenied, SuspiciousOperation
        from django.http import Http404

        return {400: SuspiciousOperation, 403: PermissionDenied, 404: Http404}[status]("no")

    def application(self, call: Call) -> Any:
        from django.core.handlers.asgi import ASGIHandler
        from django.core.handlers.wsgi import WSGIHandler
        from django.test import override_settings
        from django.urls import path

        def sync_view(request: Any, id: int) -> Any:
            return django_response(call.view(request), is_async=self.over == "asgi")

        async def async_view(request: Any, id: int) -> Any:
            return django_response(call.view(request), is_async=self.over == "asgi")

        view = async_view if self.is_async else sync_view
        urls = type("urls", (), {"urlpatterns": [path("things/<int:id>", view)]})
        middleware = ["django_polydatum.PolydatumMiddleware"] * (call.installed if call.manager is not None else 0)
        if call.handlers:
            HandlersMiddleware.handlers = call.handlers
            middleware.append("tests.contract.django_hosts.HandlersMiddleware")
        options: dict[str, Any] = {"DATA_MANAGER": call.manager}
        handler = call.on_commit_error
        if handler is not None:
            options["ON_COMMIT_ERROR"] = lambda request, error: django_response(handler(request, error), is_async=False)
        settings = {"ROOT_URLCONF": urls, "MIDDLEWARE": middleware, "POLYDATUM": options}
        with override_settings(**settings):
            return DjangoApplication(ASGIHandler() if self.over == "asgi" else WSGIHandler(), settings)

    def request(self, app: Any, call: Call) -> Answer:
        with app.as_configured():
            return over_asgi(app.handler, call) if self.over == "asgi" else over_wsgi(app.handler, call)

    def together(self, app: Any, calls: Sequence[Call]) -> list[Answer]:
        with app.as_configured():  # settings are the process's
            if self.over == "asgi":
                return over_asgi_together(app.handler, calls)
            with ThreadPoolExecutor(len(calls)) as pool:
                return list(pool.map(lambda call: over_wsgi(app.handler, call), calls))


class DjangoApplication:
    """A handler, with the settings that it was made with."""

    def __init__(self, handler: Any, settings: dict[str, Any]) -> None:
        self.handler = handler
        self._settings = settings

    def as_configured(self) -> Any:
        from django.test import override_settings

        return override_settings(**self._settings)


class HandlersMiddleware:
    """What Django has for error handlers: a middleware with `process_exception`."""

    sync_capable = True
    async_capable = False
    handlers: Mapping[type[Exception], Handler] = {}

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        return self.get_response(request)

    def process_exception(self, request: Any, error: Exception) -> Any:
        for kind, handler in self.handlers.items():
            if isinstance(error, kind):
                return django_response(handler(request, error), is_async=False)
        return None


def django_response(reply: Reply | None, *, is_async: bool) -> Any:
    assert reply is not None
    from django.http import HttpResponse, StreamingHttpResponse

    if isinstance(reply.body, bytes):
        return HttpResponse(reply.body, status=reply.status, headers=reply.headers)
    body = _awaited(reply.body) if is_async else reply.body
    return StreamingHttpResponse(body, status=reply.status, headers=reply.headers)


async def _awaited(body: Iterable[bytes]) -> Any:
    for chunk in body:
        yield chunk
