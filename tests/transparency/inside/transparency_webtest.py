"""Puts the adapter around all that WebTest calls, inside of its lint, which holds us to PEP 3333."""

from __future__ import annotations

from typing import Any

import webtest.app
from transparency_manager import manager

from wsgi_polydatum import PolydatumWSGI

_do_request = webtest.app.TestApp.do_request


def do_request(self: Any, *args: Any, **kwargs: Any) -> Any:
    app = self.app
    self.app = PolydatumWSGI(app, manager)
    try:
        return _do_request(self, *args, **kwargs)
    finally:
        self.app = app


webtest.app.TestApp.do_request = do_request
