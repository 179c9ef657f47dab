"""The answer to a request whose commit has failed."""

from __future__ import annotations

import contextlib
from typing import Any

import flask

from polydatum import ConfigurationError
from polydatum.adapting import admit_answer, failures_logged


def drop(app: flask.Flask, request: flask.Request, response: flask.Response) -> None:
    """Drop the answer and its session, which Flask would otherwise save with the answer to the failure."""
    with contextlib.suppress(Exception):  # only the commit's failure is reported
        response.close()
    session: Any = flask.session
    if session.modified and not app.session_interface.is_null_session(session):
        before = app.session_interface.open_session(app, request)
        session.clear()
        session.update(before or {})
        session.modified = False


def asked(app: flask.Flask, handler: Any, request: flask.Request, failure: Exception) -> flask.Response | None:
    """The answer of ``on_commit_error``, or None. Its errors and unusable answers are logged; the failure stands."""
    response: flask.Response | None = None
    with failures_logged():
        returned = app.ensure_sync(handler)(request, failure)
        if returned is not None:
            made = app.make_response(returned)
            try:
                admit_answer(made.status_code, failure)
            except ConfigurationError:
                made.close()
                raise
            response = made
    return response


def as_failure(response: flask.Response) -> flask.Response:
    """Turn a status below 400 into 500: an error handler that forgot the status must not report success."""
    if response.status_code < 400:
        response.status_code = 500
    return response
