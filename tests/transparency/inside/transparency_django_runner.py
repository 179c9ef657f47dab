"""Django's runner, with a result that writes down outcomes."""

from __future__ import annotations

import unittest
from typing import Any

import transparency_recorder
from django.test.runner import DiscoverRunner


class RecordingRunner(DiscoverRunner):
    """For ``settings.TEST_RUNNER``."""

    def get_resultclass(self) -> Any:
        """Called by Django before it runs the tests."""
        usual = super().get_resultclass() or unittest.TextTestResult
        return type("Result", (transparency_recorder.RecordingResult, usual), {})

    def run_suite(self, suite: Any, **kwargs: Any) -> Any:
        """Called by Django to run the tests."""
        try:
            return super().run_suite(suite, **kwargs)
        finally:
            transparency_recorder.write()
