"""The Django app: its system checks, its command, and the error that ``request.dal`` raises without the middleware."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register

from django_polydatum.checks import TAG, check_settings
from django_polydatum.requests import put_dal_on_requests


class PolydatumConfig(AppConfig):
    """``INSTALLED_APPS = [..., "django_polydatum"]``."""

    name = "django_polydatum"
    verbose_name = "Polydatum"

    def ready(self) -> None:
        """Register the system checks, and add ``dal`` to requests."""
        register(check_settings, TAG)
        put_dal_on_requests()
