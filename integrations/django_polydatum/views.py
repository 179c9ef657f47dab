"""A health endpoint: ``path("health", django_polydatum.views.health)`` in ``urls.py``.

Or with a time limit of its own: ``path("health", django_polydatum.views.health, {"timeout": 1.0})``.
"""

from __future__ import annotations

from django.db.transaction import non_atomic_requests
from django.http import HttpRequest, HttpResponse

from django_polydatum.configuration import configured_manager
from polydatum.adapting import PING_TIMEOUT, HealthAnswer, health_answer


@non_atomic_requests  # under ATOMIC_REQUESTS the view could not run while a database is down
def health(request: HttpRequest, *, timeout: float = PING_TIMEOUT) -> HttpResponse:
    """Ping every backend; answers 200, or 503 if a ping fails.

    The body is JSON, ``{"ok": true, "resources": {"db": true}}``. Each request is one exchange with each server: do not
    expose it to the public, or limit its rate. An async backend is pinged over a new client. An async backend with a
    client of your own cannot be pinged here and counts as failed: use `ahealth`. Django's own databases are not
    backends, and are not pinged.

    Args:
        request: not used.
        timeout: seconds that all pings together may take; less than the timeout of the health check's caller.
    """
    return _response(health_answer(configured_manager().ping(timeout=timeout)))


@non_atomic_requests
async def ahealth(request: HttpRequest, *, timeout: float = PING_TIMEOUT) -> HttpResponse:  # noqa: ASYNC109 -- it answers
    """As `health`, in an event loop: pings async backends over the clients of that loop."""
    return _response(health_answer(await configured_manager().aping(timeout=timeout)))


def _response(answer: HealthAnswer) -> HttpResponse:
    return HttpResponse(answer.body, status=answer.status, headers=answer.headers)
