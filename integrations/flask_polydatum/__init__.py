"""Polydatum for Flask."""

from flask_polydatum.cli import with_context
from flask_polydatum.configuration import CommitErrorHandler, Configuration
from flask_polydatum.current import context, dal
from flask_polydatum.extension import FlaskPolydatum, init_app
from flask_polydatum.requests import stream_context

__all__ = [
    "CommitErrorHandler",
    "Configuration",
    "FlaskPolydatum",
    "context",
    "dal",
    "init_app",
    "stream_context",
    "with_context",
]
