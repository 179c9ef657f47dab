"""Puts the adapter around every Bottle application."""

from __future__ import annotations

from functools import partial
from typing import Any

import bottle
from transparency_manager import manager

from wsgi_polydatum import PolydatumWSGI

_call = bottle.Bottle.__call__


def __call__(self: Any, environ: Any, start_response: Any) -> Any:
    return PolydatumWSGI(partial(_call, self), manager)(environ, start_response)


bottle.Bottle.__call__ = __call__
