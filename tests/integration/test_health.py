"""The health endpoints of the adapters, over `DataManager.ping` and `DataManager.aping`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from typing import Any

import flask
import pytest
from django.http import HttpRequest
from django.test import override_settings
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from werkzeug.test import Client

import asgi_polydatum
import wsgi_polydatum
from polydatum import DataManager
from polydatum.adapting import InvalidManagerError
from polydatum.backends import AsyncBackend, Backend


class Silent(Exception):
    """Its message is nobody's business."""


class Shelf(Backend[object]):
    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(object())
        self.error = error

    def begin(self, context: Any, client: object, name: str) -> Any:
        return contextlib.nullcontext(client)

    def ping(self, client: object) -> None:
        if self.error is not None:
            raise self.error


class AsyncShelf(AsyncBackend[object]):
    async def connect(self) -> object:
        return object()

    async def ping(self, client: object) -> None:
        await asyncio.sleep(0)


class Mute(Backend[threading.Event]):
    """Its server has taken the connection, and says nothing."""

    def ping(self, client: threading.Event) -> None:
        assert client.wait(10)


def manager(error: Exception | None = None) -> DataManager[Any, Any]:
    dm: DataManager[Any, Any] = DataManager()
    dm.register_resources(db=Shelf(), cache=Shelf(error), feed=AsyncShelf(), plain=contextlib.nullcontext)
    return dm


Answer = tuple[int, dict[str, Any], dict[str, str]]


def over_asgi(dm: Any, method: str = "GET", **options: Any) -> Answer:
    app = Starlette(routes=[Route("/health", asgi_polydatum.health(dm, **options))])
    return of_client(app, dm, method, "/health")


def over_fastapi(dm: Any, method: str = "GET", **options: Any) -> Answer:
    app = FastAPI(routes=[Route("/health", asgi_polydatum.health(dm, **options))])
    return of_client(app, dm, method, "/health")


def over_a_mount(dm: Any, method: str = "GET", **options: Any) -> Answer:
    app = Starlette(routes=[Mount("/health", asgi_polydatum.health(dm, **options))])
    return of_client(app, dm, method, "/health/")


def of_client(app: Starlette, dm: Any, method: str, path: str) -> Answer:
    app.add_middleware(asgi_polydatum.PolydatumMiddleware, data_manager=dm)
    reply = TestClient(app).request(method, path, follow_redirects=False)
    return reply.status_code, reply.json() if reply.content else {}, {**reply.headers}


def over_wsgi(dm: Any, method: str = "GET", **options: Any) -> Answer:
    reply = Client(wsgi_polydatum.health(dm, **options)).open("/health", method=method)
    return reply.status_code, json.loads(reply.data) if reply.data else {}, {k.lower(): v for k, v in reply.headers}


def over_flask(dm: Any, method: str = "GET", **options: Any) -> Answer:
    app = flask.Flask("shop")
    app.add_url_rule("/health", "health", lambda: wsgi_polydatum.health(dm, **options))
    reply = app.test_client().open("/health", method=method)
    return reply.status_code, reply.get_json(silent=True) or {}, {k.lower(): v for k, v in reply.headers}


def over_django(dm: Any, method: str = "GET", **options: Any) -> Answer:
    from django_polydatum import views

    with override_settings(POLYDATUM={"DATA_MANAGER": dm}):
        reply = views.health(HttpRequest(), **options)
    return reply.status_code, json.loads(reply.content), {k.lower(): v for k, v in reply.items()}


def over_async_django(dm: Any, method: str = "GET", **options: Any) -> Answer:
    from django_polydatum import views

    with override_settings(POLYDATUM={"DATA_MANAGER": dm}):
        reply = asyncio.run(views.ahealth(HttpRequest(), **options))
    return reply.status_code, json.loads(reply.content), {k.lower(): v for k, v in reply.items()}


SYNC = (over_wsgi, over_flask, over_django)
ASYNC = (over_asgi, over_fastapi, over_a_mount, over_async_django)
pytestmark = pytest.mark.usefixtures("django_settings")


@pytest.mark.parametrize("ask", SYNC + ASYNC)
def test_every_backend_answers(ask: Callable[[Any], Answer]) -> None:
    """Async ones everywhere; what is no backend is not asked."""
    status, body, headers = ask(manager())
    assert status == 200
    assert body == {"ok": True, "resources": {"db": True, "cache": True, "feed": True}}
    assert headers["content-type"] == "application/json"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("ask", SYNC + ASYNC)
def test_one_gives_no_answer(ask: Callable[[Any], Answer]) -> None:
    """The message of its error is not told."""
    status, body, _ = ask(manager(Silent("db.internal: wrong password")))
    assert status == 503
    assert body["ok"] is False
    assert (body["resources"]["db"], body["resources"]["cache"]) == (True, False)
    assert "internal" not in str(body)


@pytest.mark.parametrize("ask", SYNC + ASYNC)
def test_one_that_cannot_be_asked(ask: Callable[[Any], Answer]) -> None:
    """A given async client belongs to its event loop: where there is none, nobody says that it is fine."""
    dm: DataManager[Any, Any] = DataManager()
    dm.register_resources(feed=AsyncShelf(object()))
    status, body, _ = ask(dm)
    assert (status, body["resources"]) == ((200, {"feed": True}) if ask in ASYNC else (503, {"feed": False}))


@pytest.mark.parametrize("ask", SYNC + ASYNC)
def test_one_that_says_nothing(ask: Callable[..., Answer]) -> None:
    """The answer does not wait for it longer than it was told."""
    may_answer = threading.Event()
    dm: DataManager[Any, Any] = DataManager()
    dm.register_resources(db=Shelf(), feed=Mute(may_answer))
    status, body, _ = ask(dm, timeout=0.2)
    may_answer.set()
    assert (status, body["resources"]) == (503, {"db": True, "feed": False})


@pytest.mark.parametrize("ask", [over_asgi, over_wsgi, over_flask])
def test_head_has_no_body(ask: Callable[..., Answer]) -> None:
    status, body, headers = ask(manager(), "HEAD")
    assert (status, body) == (200, {})
    assert int(headers["content-length"]) > 20


@pytest.mark.parametrize("health", [asgi_polydatum.health, wsgi_polydatum.health])
def test_the_manager_is_looked_for_at_once(health: Any) -> None:
    with pytest.raises(InvalidManagerError, match=r"health\(data_manager\)"):
        health(object())


def test_asgi_serves_http_alone() -> None:
    with pytest.raises(RuntimeError, match="not lifespan"):
        asyncio.run(asgi_polydatum.health(manager())({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
