"""Polydatum for Django, under WSGI and ASGI, for sync and async views."""

from django_polydatum.middleware import PolydatumMiddleware
from django_polydatum.requests import stream_context

__all__ = ["PolydatumMiddleware", "stream_context"]
