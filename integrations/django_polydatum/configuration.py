"""The setting ``POLYDATUM``, and the system checks that look at it.

::

    INSTALLED_APPS = [..., "django_polydatum"]                 # for the checks
    MIDDLEWARE = [..., "django_polydatum.PolydatumMiddleware"]
    POLYDATUM = {"DATA_MANAGER": "shop.data.dm"}               # or the DataManager itself
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string

from polydatum import ConfigurationError, DataManager
from polydatum.adapting import InvalidManagerError, find_manager

MIDDLEWARE = "django_polydatum.PolydatumMiddleware"


def configured_manager() -> DataManager[Any, Any]:
    """The DataManager that the setting names.

    Raises:
        ManagerNotFoundError: if it names none, or cannot be imported.
        InvalidManagerError: if it names something else.
    """
    options = getattr(settings, "POLYDATUM", None)
    if not isinstance(options, Mapping):
        options = {}
    return find_manager(("settings.POLYDATUM['DATA_MANAGER']", options.get("DATA_MANAGER")))


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """The system checks of django_polydatum."""
    return [*_manager_problems(), *_middleware_problems(), *_database_problems()]


def _manager_problems() -> Iterator[CheckMessage]:
    try:
        configured_manager()
    except InvalidManagerError as error:
        yield Error(str(error), id="polydatum.E002")
    except ConfigurationError as error:
        yield Error(str(error), hint='POLYDATUM = {"DATA_MANAGER": "shop.data.dm"}', id="polydatum.E001")


def _middleware_problems() -> Iterator[CheckMessage]:
    names = list(settings.MIDDLEWARE)
    ours = _position(names, MIDDLEWARE)
    auth = _position(names, "django.contrib.auth.middleware.AuthenticationMiddleware")
    if ours is None:
        yield Warning(
            "django_polydatum is installed, but PolydatumMiddleware is not in MIDDLEWARE: there is no request.dal.",
            hint=f"Add {MIDDLEWARE!r} to MIDDLEWARE.",
            id="polydatum.W003",
        )
    elif auth is not None and ours < auth:
        yield Warning(
            "PolydatumMiddleware stands before AuthenticationMiddleware: meta.user is None until that has run.",
            hint="Put it after AuthenticationMiddleware in MIDDLEWARE.",
            id="polydatum.W001",
        )


def _database_problems() -> Iterator[CheckMessage]:
    atomic = [alias for alias, options in settings.DATABASES.items() if options.get("ATOMIC_REQUESTS")]
    if atomic:
        yield Warning(
            f"ATOMIC_REQUESTS is on for {', '.join(atomic)}: Django commits there before the context of a request does, "
            "and keeps what it wrote if the context then fails.",
            hint="Write through one of the two, or switch ATOMIC_REQUESTS off.",
            id="polydatum.W002",
        )


def _position(names: list[str], wanted: str) -> int | None:
    """Where a middleware stands, or a subclass of it."""
    for number, name in enumerate(names):
        if name == wanted or _is_kind_of(name, wanted):
            return number
    return None


def _is_kind_of(name: str, wanted: str) -> bool:
    try:
        found, base = import_string(name), import_string(wanted)
    except Exception:  # what cannot be imported is for Django to report
        return False
    return isinstance(found, type) and issubclass(found, base)
