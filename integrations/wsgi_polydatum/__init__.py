"""Polydatum for every WSGI application."""

from wsgi_polydatum.environment import stream_context
from wsgi_polydatum.health import health
from wsgi_polydatum.middleware import CommitErrorHandler, PolydatumWSGI

__all__ = ["CommitErrorHandler", "PolydatumWSGI", "health", "stream_context"]
