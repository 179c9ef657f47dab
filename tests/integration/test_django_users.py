"""14: `ctx.meta.user` is the user that Django's own authentication knows, loaded only if it is read.

The numbers are those of the list of behaviours that adapters owe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext

from polydatum import Context
from polydatum.testing.shop import Shop
from tests.integration.django_serving import OURS, databases, forget_connections, serving, sqlite

pytestmark = pytest.mark.usefixtures("django_settings")

SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"

INSIDE = (OURS, SESSIONS, AUTH)
OUTSIDE = (SESSIONS, AUTH, OURS)
SETTINGS = {"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"}


@pytest.fixture
def ann(tmp_path: Path) -> Iterator[Any]:
    """A user in a database."""
    from django.contrib.auth.models import Group, Permission, User
    from django.contrib.contenttypes.models import ContentType

    with databases(default=sqlite(tmp_path / "django.db")):
        with connection.schema_editor() as editor:
            for model in (ContentType, Permission, Group, User):
                editor.create_model(model)
        yield User.objects.create_user("ann")


def queries_of(client: Client, path: str = "/") -> tuple[bytes, list[str]]:
    with CaptureQueriesContext(connection) as queries:
        body = client.get(path).content
    return body, [query["sql"] for query in queries if "auth_user" in query["sql"]]


def logged_in(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("middleware", [INSIDE, OUTSIDE], ids=["inside", "outside"])
def test_14_the_user_is_loaded_when_it_is_read_and_once(shop: Shop, ann: Any, middleware: Any) -> None:
    def view(request: Any) -> HttpResponse:
        meta = shop.here().meta
        if "read" not in request.GET:
            return HttpResponse()
        assert meta.user is request.user
        assert meta.user.get_username() == meta.user.username
        return HttpResponse(shop.here().meta.user.username)

    with serving(shop.dm, view, middleware=middleware, **SETTINGS):
        client = logged_in(ann)
        assert queries_of(client) == (b"", [])
        body, queries = queries_of(client, "/?read")
        assert (body, len(queries)) == (b"ann", 1)
        assert queries_of(Client(), "/?read") == (b"", [])  # nobody: AnonymousUser


@pytest.mark.parametrize("middleware", [INSIDE, OUTSIDE], ids=["inside", "outside"])
def test_14_nothing_of_ours_reads_the_user(shop: Shop, ann: Any, middleware: Any) -> None:
    def view(request: Any) -> HttpResponse:
        request.dal.items.add("tea")
        return HttpResponse(repr(shop.here().meta))

    with serving(shop.dm, view, middleware=middleware, **SETTINGS):
        _, queries = queries_of(logged_in(ann))
    assert queries == []
    assert shop.names == ["tea"]


def test_14_context_middleware_outside_of_the_authentication_reads_it_after_the_view(shop: Shop, ann: Any) -> None:
    seen: list[Any] = []

    @shop.dm.context_middleware
    def audit(context: Context) -> Iterator[None]:
        yield
        seen.append(context.meta.user.username)

    with serving(shop.dm, lambda request: HttpResponse(), middleware=INSIDE, **SETTINGS):
        assert logged_in(ann).get("/").status_code == 200
    assert seen == ["ann"]


@pytest.mark.parametrize("middleware", [INSIDE, OUTSIDE], ids=["inside", "outside"])
def test_14_an_async_view_awaits_auser(shop: Shop, ann: Any, middleware: Any) -> None:
    async def view(request: Any) -> HttpResponse:
        meta = shop.here().meta
        with pytest.raises(SynchronousOnlyOperation):
            meta.user.username  # noqa: B018
        user = await meta.request.auser()
        return HttpResponse(user.username)

    async def run() -> bytes:
        client = AsyncClient()
        await sync_to_async(client.force_login)(ann)
        try:
            return bytes((await client.get("/")).content)
        finally:
            await sync_to_async(forget_connections)()

    with serving(shop.dm, view, middleware=middleware, **SETTINGS):
        assert asyncio.run(run()) == b"ann"


def test_14_the_user_that_a_view_logs_in_is_seen(shop: Shop, ann: Any) -> None:
    from django.contrib.auth import login

    def view(request: Any) -> HttpResponse:
        login(request, ann, "django.contrib.auth.backends.ModelBackend")
        return HttpResponse(shop.here().meta.user.username)

    with serving(shop.dm, view, middleware=OUTSIDE, **SETTINGS):
        assert Client().get("/").content == b"ann"
