"""A health endpoint: ``path("health", django_polydatum.views.health)`` in ``urls.py``.

Or with a time limit of its own: ``path("health", django_polydatum.views.health, {"timeout": 1.0})``.
"""

from __future__ import annotations

from django.db.transaction import non_atomic_requests
from django.http import HttpRequest, HttpResponse

from django_polydatum.configuration import configured_manager
from polydatum.adapting import PING_TIMEOUT, HealthAnswer, health_answer


@non_atomic_requests  # under ATOMIC_REQUESTS a database that is down would not let the view run
def health(request: HttpRequest, *, timeout: float = PING_TIMEOUT) -> HttpResponse:
    """Ask every backend for a sign of life; 200, or 503 if one gives none.

    The body is JSON, ``{"ok": true, "resources": {"db": true}}``. Each request is one exchange with each server: keep it from
    the public, or limit its rate. An async backend is asked over a client that is made for it; one over a client of your own
    cannot be, and counts as one that gave no answer: use `ahealth`. Databases of Django's own are no backends, and are not
    asked.

    Args:
        request: is not looked at.
        timeout: seconds that all of them together may take; less than the patience of whoever asks.
    """
    return _response(health_answer(configured_manager().ping(timeout=timeout)))


@non_atomic_requests
async def ahealth(request: HttpRequest, *, timeout: float = PING_TIMEOUT) -> HttpResponse:  # noqa: ASYNC109 -- it answers
    """As `health`, in an event loop: asks async backends over the clients that belong to it."""
    return _response(health_answer(await configured_manager().aping(timeout=timeout)))


def _response(answer: HealthAnswer) -> HttpResponse:
    return HttpResponse(answer.body, status=answer.status, headers=answer.headers)
