"""Adds the adapter to ``settings.MIDDLEWARE`` wherever Django reads it, first or last."""

from __future__ import annotations

from typing import Any

from django.conf import global_settings, settings
from django.core.handlers import base
from transparency_manager import POSITION, manager

OURS = "django_polydatum.PolydatumMiddleware"


class SettingsWithOurs:
    """What Django's handlers take for the settings; tests see the real ones."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(settings, name)
        if name != "MIDDLEWARE":
            return value
        return [OURS, *value] if POSITION == "outermost" else [*value, OURS]


global_settings.POLYDATUM = {"DATA_MANAGER": manager}  # type: ignore[attr-defined]
base.settings = SettingsWithOurs()  # type: ignore[assignment]
