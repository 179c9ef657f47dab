"""`polydatum.testing.attach` for requests of Django's factories: views are tested without middleware and URLs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import AsyncRequestFactory, RequestFactory
from django.views import View
from django.views.generic import TemplateView

from polydatum import ContextClosedError, NotFound
from polydatum.testing import attach
from polydatum.testing.shop import Shop

pytestmark = pytest.mark.usefixtures("django_settings")


def add(request: Any, **captured: Any) -> HttpResponse:
    request.dal.items.add(request.GET["name"])
    return HttpResponse(request.dal.items.names()[0])


async def add_async(request: Any) -> HttpResponse:
    await asyncio.sleep(0)
    return add(request)


class Add(View):
    def get(self, request: Any) -> HttpResponse:
        return add(request)

    def post(self, request: Any) -> HttpResponse:
        raise NotFound("item 7")


class AsyncAdd(View):
    async def get(self, request: Any) -> HttpResponse:
        return add(request)


@pytest.mark.parametrize("factory", [RequestFactory, AsyncRequestFactory])
@pytest.mark.parametrize("view", [add, Add.as_view()])
def test_attach_with_a_sync_view(shop: Shop, factory: Any, view: Any) -> None:
    request = factory().get("/", {"name": "tea"})
    with attach(request, shop.dm) as context:
        assert request.dal is shop.dm.get_dal()
        assert view(request).content == b"tea"
        assert context.meta.request is request
        assert context.meta.params["name"] == "tea"
    assert context.outcome == "committed"
    assert shop.names == ["tea"]
    with pytest.raises(ContextClosedError):
        request.dal  # noqa: B018


@pytest.mark.parametrize("factory", [RequestFactory, AsyncRequestFactory])
@pytest.mark.parametrize("view", [add_async, AsyncAdd.as_view()])
def test_attach_with_an_async_view(shop: Shop, factory: Any, view: Any) -> None:
    async def run() -> bytes:
        request = factory().get("/", {"name": "tea"})
        async with attach(request, shop.dm):
            return bytes((await view(request)).content)

    assert asyncio.run(run()) == b"tea"
    assert shop.names == ["tea"]


def test_attach_has_the_user_of_the_test(shop: Shop) -> None:
    request = RequestFactory().get("/")
    request.user = object()  # type: ignore[assignment]
    with attach(request, shop.dm) as context:
        assert context.meta.user is request.user


def test_attach_rolls_back_what_a_view_raises(shop: Shop) -> None:
    request = RequestFactory().post("/")
    with pytest.raises(NotFound), attach(request, shop.dm) as context:
        request.dal.items.add("tea")  # type: ignore[attr-defined]
        Add.as_view()(request)
    assert context.outcome == "rolled_back"
    assert shop.names == []


def test_attach_with_a_generic_view(shop: Shop) -> None:
    class Page(TemplateView):
        def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
            request: Any = self.request
            return {"names": request.dal.items.names()}

    with attach(request := RequestFactory().get("/"), shop.dm):
        response: Any = Page.as_view(template_name="none")(request)
    assert response.context_data == {"names": []}
