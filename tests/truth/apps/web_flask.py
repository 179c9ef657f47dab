"""Shared by all stacks on Flask."""

from __future__ import annotations

from collections.abc import Iterator

import flask

from tests.truth.bank import Conflict


def make_app() -> flask.Flask:
    """An application that answers `Conflict` with a 409."""
    app = flask.Flask("bank")

    @app.errorhandler(Conflict)
    def conflict(error: Conflict) -> tuple[str, int]:
        return "conflict", 409

    return app


def end(check: str) -> tuple[str, int]:
    """End a view after it has written."""
    match check:
        case "raised":
            flask.abort(409)
        case "handled":
            raise Conflict
        case "returned":
            return "conflict", 409
        case "crashed":
            raise RuntimeError("a bug")
    return "paid", 201


def stream(lines: Iterator[str]) -> flask.Response:
    """A streamed body, with the request context kept for it."""
    return flask.Response(flask.stream_with_context(lines), mimetype="text/plain")
