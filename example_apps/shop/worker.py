"""A worker for the shop: ``celery -A shop.worker worker``, with ``SHOP_FOLDER`` and ``SHOP_BROKER`` set."""

from __future__ import annotations

import os
from pathlib import Path

from shop.celery_app import make_celery_app
from shop.layer import make_data_manager

folder = Path(os.environ["SHOP_FOLDER"])
app = make_celery_app(make_data_manager(folder), folder, os.environ["SHOP_BROKER"])
