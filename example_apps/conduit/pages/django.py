"""The pages as URLs of Django."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import re_path
from django.views.decorators.http import require_safe

from conduit.pages import site


@require_safe
def show(request: HttpRequest) -> HttpResponse:
    page = site.answer(settings.POLYDATUM["DATA_MANAGER"], request.path, request.GET.dict())
    return HttpResponse(page.body, status=page.status, headers=dict(page.headers))


urlpatterns = [re_path(f"^{site.PATH}$", show)]
