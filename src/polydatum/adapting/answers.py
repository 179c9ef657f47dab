"""What the client gets instead of the view's answer: for a ServiceError, for a failed commit."""

from __future__ import annotations

import http
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from polydatum.errors import ConfigurationError, ServiceError
from polydatum.reporting import log_error


class ServiceAnswer(NamedTuple):
    """A ServiceError as an HTTP answer: ``{"detail": "..."}`` or the bare text."""

    status: int
    headers: dict[str, str]
    body: bytes


def answer_for(error: BaseException, accept: str | None = None) -> ServiceAnswer | None:
    """The answer to an exception, if it is a `ServiceError` with ``400 <= code < 500``; None for every other.

    Args:
        error: the exception that left the view, or the context.
        accept: the request's Accept header. The answer is JSON unless it prefers text.

    Example:
        >>> from polydatum import NotFound
        >>> answer_for(NotFound("item 1"), "application/json").body
        b'{"detail": "item 1"}'
    """
    if not isinstance(error, ServiceError):
        return None
    status: object = error.code  # users set it
    if not isinstance(status, int) or not 400 <= status < 500:
        return None
    detail = str(error) or reason_phrase(status)
    headers = {"Content-Type": "text/plain; charset=utf-8", "Vary": "Accept"}
    if prefers_json(accept):
        headers["Content-Type"] = "application/json"
        detail = json.dumps({"detail": detail})
    return ServiceAnswer(int(status), headers, detail.encode("utf-8", "replace"))


def admit_answer(status: int, failure: BaseException, handler: str = "on_commit_error") -> None:
    """Accept the answer of a handler for failed commits, if its status is 400 or more, and log the failure.

    Call it before the answer is sent. Only the log tells of the failure: it is not raised.

    Args:
        status: the status of the answer.
        failure: what the commit raised.
        handler: the name of the handler, as the user's code spells it.

    Raises:
        ConfigurationError: if the status is below 400.
    """
    if status < 400:
        raise ConfigurationError(
            f"{handler} returned a response with status {status}: nothing was kept, and the client has to be told with a "
            "status of 400 or more"
        )
    log_error("the commit failed, and was answered by %s with %d", handler, status, error=failure)


@contextmanager
def failures_logged(handler: str = "on_commit_error") -> Iterator[None]:
    """Log what a handler for failed commits, or `admit_answer`, raises; the commit's own error stands."""
    try:
        yield
    except Exception as error:
        log_error("%s failed; the commit's own error is raised instead", handler, error=error)


def reason_phrase(status: int) -> str:
    """The reason phrase of a status, as in a status line.

    Example:
        >>> reason_phrase(404), reason_phrase(499)
        ('Not Found', 'error')
    """
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "error"


def prefers_json(accept: str | None) -> bool:
    """Whether a client prefers JSON to text; if in doubt, it does.

    Example:
        >>> prefers_json("*/*"), prefers_json("text/html, */*;q=0.8"), prefers_json("text/*;q=0.5, application/json")
        (True, False, True)
    """
    if not accept:
        return True
    qualities: dict[str, float] = {}
    for part in accept.lower().split(","):
        media_type, *options = (piece.strip() for piece in part.split(";"))
        quality = _quality(options)
        kind = "json" if media_type.endswith(("/json", "+json", "application/*")) else media_type.partition("/")[0]
        qualities[kind] = max(quality, qualities.get(kind, 0.0))
    otherwise = qualities.get("*", 0.0)
    return qualities.get("json", otherwise) >= qualities.get("text", otherwise)


def _quality(options: Iterable[str]) -> float:
    for option in options:
        if option.startswith("q="):
            try:
                return float(option[2:])
            except ValueError:
                return 0.0
    return 1.0
