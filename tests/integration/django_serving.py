"""A Django project in a `with` block: views, middleware, databases."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from django.test import override_settings
from django.urls import re_path

from polydatum import DataManager
from polydatum.testing import Answer, Call, Reply
from polydatum.testing.hosts import logged_exceptions
from polydatum.testing.wire import over_asgi, over_wsgi

OURS = "django_polydatum.PolydatumMiddleware"

View = Callable[..., Any]
Send = Callable[..., Answer]


@contextlib.contextmanager
def serving(
    dm: DataManager[Any, Any] | None,
    view: Any,
    *,
    over: str = "wsgi",
    middleware: tuple[str, ...] = (OURS,),
    options: dict[str, Any] | None = None,
    **settings: Any,
) -> Iterator[Send]:
    """Serve a view at every URL, or what is at a list of them; gives a function that makes a request.

    ``options`` are those of the setting ``POLYDATUM``, beside the manager.
    """
    patterns = view if isinstance(view, list) else [re_path("", view)]
    project = {
        "MIDDLEWARE": middleware,
        "POLYDATUM": {"DATA_MANAGER": dm, **(options or {})},
        "ROOT_URLCONF": type("urls", (), {"urlpatterns": patterns}),
        **settings,
    }
    with override_settings(**project):
        handler = ASGIHandler() if over == "asgi" else WSGIHandler()

        def send(path: str = "/", **options: Any) -> Answer:
            call = Call(lambda request: Reply(), None, path=path, **options)
            with logged_exceptions() as logged:
                answer = over_asgi(handler, call) if over == "asgi" else over_wsgi(handler, call)
            answer.logged = logged
            return answer

        yield send


@contextlib.contextmanager
def databases(**options: dict[str, Any]) -> Iterator[None]:
    """Let Django have these databases, and close the connections of this thread in the end."""
    before = connections.settings
    forget_connections()
    connections.settings = connections.configure_settings(options)
    try:
        yield
    finally:
        forget_connections()
        connections.settings = before


def forget_connections() -> None:
    """Close the connections of this thread; the next ones are made by the settings of then."""
    for connection in connections.all(initialized_only=True):
        connection.close()
        del connections[connection.alias]


def sqlite(path: Path, **options: Any) -> dict[str, Any]:
    """A database in a file."""
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path), **options}
