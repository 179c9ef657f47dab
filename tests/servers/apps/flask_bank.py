"""The bank in Flask."""

from __future__ import annotations

from typing import Any

import flask

import flask_polydatum
from tests.servers.apps import endpoints
from tests.servers.apps.bank import dm

app = flask.Flask(__name__)
flask_polydatum.init_app(app, dm)
request: Any = flask.request


@app.post("/transfer")
def transfer() -> flask.Response:
    query = request.args
    text = endpoints.transfer(request.dal, query["key"], query.get("fail"), query.get("gate"))
    return flask.Response(text, headers=endpoints.HEADERS)


@app.get("/who")
def who() -> str:
    return endpoints.who(request.dal, request.args.get("gate"))


@app.get("/stream")
def stream() -> flask.Response:
    return flask.Response(endpoints.chunks(flask_polydatum.stream_context(request)))


@app.post("/late")
def late() -> flask.Response:
    request.dal.accounts.transfer(fail=request.args.get("fail"))
    return flask.Response(endpoints.late_chunks(request.dal), headers=endpoints.HEADERS)


@app.post("/unsendable")
def unsendable() -> flask.Response:
    request.dal.accounts.transfer()
    return flask.Response("transferred", headers={"X-Name": endpoints.UNSENDABLE})


@app.get("/healthy")
def healthy() -> str:
    return "healthy"
