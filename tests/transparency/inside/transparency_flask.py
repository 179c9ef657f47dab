"""Installs the adapter in every Flask application, at the end of its ``__init__``."""

from __future__ import annotations

from typing import Any

import flask
from transparency_manager import manager

from flask_polydatum import init_app

_initialise = flask.Flask.__init__


def __init__(self: flask.Flask, *args: Any, **kwargs: Any) -> None:
    _initialise(self, *args, **kwargs)
    init_app(self, manager)


flask.Flask.__init__ = __init__  # type: ignore[method-assign]
