"""Puts the adapter around all that Werkzeug's test client and `run_wsgi_app` call."""

from __future__ import annotations

from typing import Any

import werkzeug.test
from transparency_manager import manager

from wsgi_polydatum import PolydatumWSGI

_run = werkzeug.test.run_wsgi_app


def run_wsgi_app(app: Any, environ: Any, buffered: bool = False) -> Any:
    return _run(PolydatumWSGI(app, manager), environ, buffered)


werkzeug.test.run_wsgi_app = run_wsgi_app
