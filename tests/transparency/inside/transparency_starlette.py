"""Installs the adapter in every Starlette and FastAPI application, or around all that their test client calls."""

from __future__ import annotations

from typing import Any

import starlette.applications
import starlette.testclient
from starlette.middleware import Middleware
from transparency_manager import POSITION, manager

from asgi_polydatum import PolydatumMiddleware


def put_innermost(application: Any) -> None:
    """Have an application class build its middleware with ours as the innermost of those that users add."""
    build = application.build_middleware_stack

    def build_middleware_stack(self: Any) -> Any:
        added = self.user_middleware
        self.user_middleware = [*added, Middleware(PolydatumMiddleware, data_manager=manager)]
        try:
            return build(self)
        finally:
            self.user_middleware = added

    application.build_middleware_stack = build_middleware_stack


def put_outermost(application: Any) -> None:
    """Have an application class put ours around its whole middleware."""
    build = application.build_middleware_stack
    application.build_middleware_stack = lambda self: PolydatumMiddleware(build(self), manager)


def put_around_bare_applications() -> None:
    """Put ours around what the test client calls, be it a Starlette application or a bare function."""
    transport: Any = starlette.testclient._TestClientTransport
    initialise = transport.__init__

    def __init__(self: Any, app: Any, *args: Any, **kwargs: Any) -> None:
        initialise(self, PolydatumMiddleware(app, manager), *args, **kwargs)

    transport.__init__ = __init__


applications: list[Any] = [starlette.applications.Starlette]
try:
    import fastapi
except ImportError:
    pass
else:
    applications.append(fastapi.FastAPI)

for application in applications:
    if "build_middleware_stack" in vars(application):
        put_innermost(application) if POSITION == "innermost" else put_outermost(application)
if POSITION == "outermost":
    put_around_bare_applications()
