"""Puts the adapter around every Pyramid application."""

from __future__ import annotations

from functools import partial
from typing import Any

from pyramid.router import Router
from transparency_manager import manager

from wsgi_polydatum import PolydatumWSGI

_call = Router.__call__


def __call__(self: Any, environ: Any, start_response: Any) -> Any:
    return PolydatumWSGI(partial(_call, self), manager)(environ, start_response)


Router.__call__ = __call__
