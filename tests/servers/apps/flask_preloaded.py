"""An application that has used its resources of the application before its server forks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import flask

import flask_polydatum
from polydatum import DataManager

dm: DataManager[Any, Any] = DataManager()


def engine(manager: Any) -> Iterator[int]:
    """Stands for a pool of connections: the process that it belongs to."""
    yield os.getpid()


dm.register_app_resources(engine=engine)
imported: int = dm.engine
app = flask.Flask(__name__)
flask_polydatum.init_app(app, dm)


@app.get("/healthy")
def healthy() -> str:
    return ""


@app.get("/processes")
def processes() -> list[int]:
    """Who imported this, who answers, and whose the resource is."""
    return [imported, os.getpid(), dm.require_active_context().engine]
