"""The system checks: what ``manage.py check`` reports about the setting and the middleware."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string

from django_polydatum.configuration import UnknownKeysError, problems
from polydatum import ConfigurationError
from polydatum.adapting import InvalidManagerError, InvalidRuleError, ManagerNotFoundError

TAG = "polydatum"

OURS = "django_polydatum.PolydatumMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"

ERROR_IDS: dict[type[ConfigurationError], str] = {
    ManagerNotFoundError: "polydatum.E001",
    InvalidManagerError: "polydatum.E002",
    UnknownKeysError: "polydatum.E003",
    InvalidRuleError: "polydatum.E004",
}


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """The system checks of django_polydatum."""
    return [*_setting_problems(), *_middleware_problems(), *_database_problems()]


def _setting_problems() -> Iterator[CheckMessage]:
    for problem in problems():
        hint = 'POLYDATUM = {"DATA_MANAGER": "shop.data.dm"}' if isinstance(problem, ManagerNotFoundError) else None
        yield Error(str(problem), hint=hint, id=ERROR_IDS[type(problem)])


def _middleware_problems() -> Iterator[CheckMessage]:
    names = list(settings.MIDDLEWARE)
    ours = _position(names, OURS)
    auth = _position(names, AUTHENTICATION)
    if ours is None:
        yield Warning(
            "django_polydatum is installed, but PolydatumMiddleware is not in MIDDLEWARE: there is no request.dal.",
            hint=f"Add {OURS!r} to MIDDLEWARE.",
            id="polydatum.W003",
        )
    elif auth is not None and ours < auth:
        yield Warning(
            "PolydatumMiddleware comes before AuthenticationMiddleware: meta.user is None until that has run.",
            hint="Put it after AuthenticationMiddleware in MIDDLEWARE.",
            id="polydatum.W001",
        )


def _database_problems() -> Iterator[CheckMessage]:
    atomic = [alias for alias, options in settings.DATABASES.items() if options.get("ATOMIC_REQUESTS")]
    if atomic:
        yield Warning(
            f"ATOMIC_REQUESTS is on for {', '.join(atomic)}: Django commits there before the context of a request does, "
            "and keeps what it wrote if the context then fails.",
            hint="Switch ATOMIC_REQUESTS off, and register django_polydatum.orm() as a resource.",
            id="polydatum.W002",
        )


def _position(names: list[str], wanted: str) -> int | None:
    """The index of a middleware, or of a subclass of it."""
    for number, name in enumerate(names):
        if name == wanted or _is_kind_of(name, wanted):
            return number
    return None


def _is_kind_of(name: str, wanted: str) -> bool:
    try:
        found, base = import_string(name), import_string(wanted)
    except Exception:  # Django itself reports what cannot be imported
        return False
    return isinstance(found, type) and issubclass(found, base)
