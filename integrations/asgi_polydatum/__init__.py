"""Polydatum for Starlette, FastAPI and every other ASGI application."""

from asgi_polydatum.connection import stream_context
from asgi_polydatum.middleware import PolydatumMiddleware

__all__ = ["PolydatumMiddleware", "stream_context"]
