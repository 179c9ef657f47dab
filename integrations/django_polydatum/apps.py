"""The Django app: it registers the system checks, and nothing else."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register

from django_polydatum.configuration import check_settings
from django_polydatum.requests import put_dal_on_requests


class PolydatumConfig(AppConfig):
    """``INSTALLED_APPS = [..., "django_polydatum"]``."""

    name = "django_polydatum"
    verbose_name = "Polydatum"

    def ready(self) -> None:
        """Register the system checks, and the error that ``request.dal`` gives without the middleware."""
        register(check_settings, "polydatum")
        put_dal_on_requests()
