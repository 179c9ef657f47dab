"""Polydatum in Flask."""

from collections.abc import Iterator
from typing import Any

import flask

import flask_polydatum
from flask_polydatum import stream_context
from tests.truth.apps.polydatum_layer import dm
from tests.truth.apps.web_flask import end, make_app, stream

app = make_app()
flask_polydatum.init_app(app, dm)


@app.post("/pay/<check>")
def pay(check: str) -> tuple[str, int]:
    request: Any = flask.request
    request.dal.payments.pay(check)
    return end(check)


@app.get("/names")
def names() -> flask.Response:
    def lines() -> Iterator[str]:
        with stream_context(flask.request) as ctx:
            yield from ctx.dal.payments.names()

    return stream(lines())
