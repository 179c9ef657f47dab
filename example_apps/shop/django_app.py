"""The shop, served by Django: settings, URLs and views in one file."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.http import Http404, HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from shop.layer import ShopDAL, ShopManager
from shop.orders import read_lines


class ShopRequest(HttpRequest):
    """A request, with the type of its DAL."""

    dal: ShopDAL


@require_GET
def list_items(request: ShopRequest) -> JsonResponse:
    return JsonResponse([asdict(item) for item in request.dal.items.list_items()], safe=False)


@require_GET
def get_item(request: ShopRequest, item_id: int) -> JsonResponse:
    item = request.dal.items.get_item(item_id)
    if item is None:
        raise Http404("no such item")
    return JsonResponse(asdict(item))


@require_GET
def get_order(request: ShopRequest, order_id: int) -> JsonResponse:
    order = request.dal.orders.get_order(order_id)
    if order is None:
        raise Http404("no such order")
    return JsonResponse(asdict(order))


@require_POST
def place_order(request: ShopRequest) -> JsonResponse:
    order = request.dal.orders.place(read_lines(request.body))
    return JsonResponse(asdict(order), status=201)


@require_POST
def place_broken_order(request: ShopRequest) -> JsonResponse:
    order = request.dal.orders.place_broken(read_lines(request.body))
    return JsonResponse(asdict(order), status=201)


urlpatterns = [
    path("items", list_items),
    path("items/<int:item_id>", get_item),
    path("orders/<int:order_id>", get_order),
    path("orders", place_order),
    path("orders/broken", place_broken_order),
]


def settings_for(dm: ShopManager) -> dict[str, Any]:
    """The shop's settings; for all others Django's defaults apply."""
    return {
        "ALLOWED_HOSTS": ["127.0.0.1", "localhost"],
        "LOGGING_CONFIG": None,  # the program that serves this configures logging
        "MIDDLEWARE": ["django_polydatum.PolydatumMiddleware"],
        "POLYDATUM": {"DATA_MANAGER": dm},
        "ROOT_URLCONF": __name__,
    }


def make_app(dm: ShopManager) -> ASGIHandler:
    """The ASGI application. Call this only once: Django's settings are per process."""
    settings.configure(**settings_for(dm))
    django.setup()
    return ASGIHandler()
