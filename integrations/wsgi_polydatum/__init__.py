"""Polydatum for every WSGI application."""

from wsgi_polydatum.environment import stream_context
from wsgi_polydatum.health import health
from wsgi_polydatum.middleware import PolydatumWSGI

__all__ = ["PolydatumWSGI", "health", "stream_context"]
