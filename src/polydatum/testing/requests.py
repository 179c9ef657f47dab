"""For requests that a test creates itself and that pass no adapter."""

from __future__ import annotations

import inspect
from typing import Any

from polydatum.adapting import RequestDal
from polydatum.context import Context
from polydatum.errors import ConfigurationError
from polydatum.manager import DataManager


def attach(request: Any, data_manager: DataManager[Any, Any]) -> Context:
    """Give a request a context, as the adapter does: for tests that call a view without running the framework.

    Use the returned context with ``with`` or ``async with``. In the block ``request.dal`` is the DAL; at its end the
    context commits, or rolls back if an exception leaves the block. The context's ``meta`` is derived from the request.
    An answer of 400 or more does not roll back here, as the context never sees it.

    Args:
        request: a request of Django's ``RequestFactory``, a Starlette ``Request``, a Flask request (``flask.request``
            will do), or a ``Request`` of the Django REST framework.
        data_manager: the DataManager.

    Raises:
        ConfigurationError: if requests of this class have no ``dal``: the adapter is not imported, or not installed.

    Example::

        request = RequestFactory().get("/items/1")
        with attach(request, dm):
            response = show_item(request, 1)
    """
    request = getattr(request, "_request", request)  # the Django REST framework wraps Django's
    request_class = request.__class__  # not ``type()``: ``flask.request`` is a proxy
    door = inspect.getattr_static(request_class, "dal", None)
    if not isinstance(door, RequestDal):
        raise ConfigurationError(
            f"requests of the class {request_class.__qualname__} have no dal: install the adapter of their framework "
            "(Django: 'django_polydatum' in INSTALLED_APPS, Flask: FlaskPolydatum(dm).init_app(app), ASGI: "
            "PolydatumMiddleware)"
        )
    return door.attach(request, data_manager)
