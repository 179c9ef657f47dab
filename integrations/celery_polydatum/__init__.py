"""Polydatum for Celery."""

from celery_polydatum.commands import CeleryQueue
from celery_polydatum.configuration import Configuration
from celery_polydatum.task import PolydatumTask

__all__ = ["CeleryQueue", "Configuration", "PolydatumTask"]
