"""A health endpoint: ``path("health", django_polydatum.views.health)`` in ``urls.py``."""

from __future__ import annotations

from django.db.transaction import non_atomic_requests
from django.http import HttpRequest, HttpResponse

from django_polydatum.configuration import configured_manager
from polydatum.adapting import HealthAnswer, health_answer


@non_atomic_requests  # under ATOMIC_REQUESTS a database that is down would not let the view run
def health(request: HttpRequest) -> HttpResponse:
    """Ask every sync backend for a sign of life; 200, or 503 if one gives none.

    The body is JSON, ``{"ok": true, "resources": {"db": true}}``. Each request is one exchange with each server: keep it from
    the public, or limit its rate. Databases of Django's own are no backends, and are not asked.
    """
    return _response(health_answer(configured_manager().ping()))


@non_atomic_requests
async def ahealth(request: HttpRequest) -> HttpResponse:
    """As `health`, under ASGI: asks async backends, too."""
    return _response(health_answer(await configured_manager().aping()))


def _response(answer: HealthAnswer) -> HttpResponse:
    return HttpResponse(answer.body, status=answer.status, headers=answer.headers)
