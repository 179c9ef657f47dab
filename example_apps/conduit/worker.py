"""A worker for Conduit's commands: ``celery -A conduit.worker worker``, with ``CELERY_BROKER_URL`` set."""

from __future__ import annotations

import os

from conduit.hosts.celery import make_app
from conduit.services.layer import data_manager_from_environment

app = make_app(data_manager_from_environment(), os.environ["CELERY_BROKER_URL"])
