"""Polydatum for Starlette, FastAPI and every other ASGI application."""

from asgi_polydatum.connection import dal_context, stream_context
from asgi_polydatum.exchange import CommitErrorHandler
from asgi_polydatum.health import health
from asgi_polydatum.middleware import PolydatumMiddleware
from polydatum import bind

__all__ = ["CommitErrorHandler", "PolydatumMiddleware", "bind", "dal_context", "health", "stream_context"]
