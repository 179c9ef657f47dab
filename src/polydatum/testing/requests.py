"""Requests that a test has made itself, and that go through no adapter."""

from __future__ import annotations

import inspect
from typing import Any

from polydatum.adapting import RequestDal
from polydatum.context import Context
from polydatum.errors import ConfigurationError
from polydatum.manager import DataManager


def attach(request: Any, data_manager: DataManager[Any, Any]) -> Context:
    """Give a request a context, as the adapter does: for views that are tested without their framework's machinery.

    Use what it returns as ``with`` or ``async with``: ``request.dal`` is the DAL in the block, and what the view did is
    committed at its end, or rolled back if an exception leaves it. The context's ``meta`` is made of the request. An answer
    of 400 or more does not roll back here: nobody sees it.

    Args:
        request: of Django's ``RequestFactory``, a Starlette ``Request``, a Flask request (``flask.request`` will do),
            a ``Request`` of the Django REST framework.
        data_manager: the DataManager.

    Raises:
        ConfigurationError: if requests of this class have no ``dal``: the adapter is not imported, or not installed.

    Example::

        request = RequestFactory().get("/items/1")
        with attach(request, dm):
            response = show_item(request, 1)
    """
    request = getattr(request, "_request", request)  # the Django REST framework wraps Django's
    request_class = request.__class__  # not ``type``: ``flask.request`` stands for a request
    door = inspect.getattr_static(request_class, "dal", None)
    if not isinstance(door, RequestDal):
        raise ConfigurationError(
            f"requests of the class {request_class.__qualname__} have no dal: install the adapter of their framework "
            "(Django: 'django_polydatum' in INSTALLED_APPS, Flask: FlaskPolydatum(dm).init_app(app), ASGI: "
            "PolydatumMiddleware)"
        )
    return door.attach(request, data_manager)
