"""The settings of the bank in Django."""

from __future__ import annotations

import django
from django.conf import settings


def configure(*, urls: str) -> None:
    """Configure Django with the views that a module names in its ``urlpatterns``."""
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={},
        INSTALLED_APPS=["django_polydatum"],
        LOGGING={
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"console": {"class": "logging.StreamHandler"}},
            "loggers": {"django.request": {"handlers": ["console"], "level": "ERROR"}},
        },
        MIDDLEWARE=["django_polydatum.PolydatumMiddleware"],
        POLYDATUM={"DATA_MANAGER": "tests.servers.apps.bank.dm"},
        ROOT_URLCONF=urls,
        SECRET_KEY="for tests only",
        USE_TZ=True,
    )
    django.setup()
