"""Polydatum for Flask."""

from flask_polydatum.extension import FlaskPolydatum, init_app
from flask_polydatum.requests import stream_context

__all__ = ["FlaskPolydatum", "init_app", "stream_context"]
