"""Polydatum for Django, under WSGI and ASGI, for sync and async views."""

from django_polydatum.commands import ContextCommand
from django_polydatum.middleware import PolydatumMiddleware
from django_polydatum.requests import stream_context
from django_polydatum.transactions import OrmTransaction, orm

__all__ = ["ContextCommand", "OrmTransaction", "PolydatumMiddleware", "orm", "stream_context"]
