"""The ledger on Flask. Its threads cannot be cancelled; PostgreSQL cancels a statement instead, at ``limit``."""

from __future__ import annotations

from typing import Any

from flask import Flask, request
from flask.typing import ResponseReturnValue

from flask_polydatum import init_app
from tests.soak.layer import Order, manager
from wsgi_polydatum import health

dm = manager()
app = Flask("soak")
app.logger.disabled = True  # it would log thousands of expected tracebacks
init_app(app, dm)
app.add_url_rule("/health", "health", lambda: health(dm))


@app.post("/carry-out")
def carry_out() -> ResponseReturnValue:
    order = Order(request.args)
    dal: Any = request.dal  # type: ignore[attr-defined]
    return dal.ledger.carry_out(order), order.status
