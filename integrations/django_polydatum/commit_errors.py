"""``ON_COMMIT_ERROR``: the project's own answer to a failed commit, instead of Django's 500."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from polydatum import ConfigurationError
from polydatum.adapting import admit_answer, failures_logged

NAME = "ON_COMMIT_ERROR"

Handler = Callable[[HttpRequest, Exception], Any]


class CommitErrors:
    """Calls ``ON_COMMIT_ERROR``, if it is set, for the answer to a failed commit.

    It is called for an `Exception` of the commit itself, not if an error of the view led to the answer. If it raises,
    or returns an unusable response, that is logged, and the failure stands.
    """

    def __init__(self, handler: Handler | None) -> None:
        self._handler = handler

    def answer(self, request: HttpRequest, failure: BaseException, cause: BaseException | None) -> Any:
        """The answer of the handler, or None."""
        answer = None
        if self._handler is not None and isinstance(failure, Exception) and cause is None:
            with failures_logged(NAME):
                given = self._handler(request, failure)
                if inspect.iscoroutine(given):
                    given.close()
                    raise ConfigurationError("ON_COMMIT_ERROR is async, and PolydatumMiddleware runs sync here")
                answer = _accepted(given, failure)
        return answer

    async def aanswer(self, request: HttpRequest, failure: BaseException, cause: BaseException | None) -> Any:
        """The async twin of `answer`; a sync handler runs in the thread of the request's sync views."""
        answer = None
        if self._handler is not None and isinstance(failure, Exception) and cause is None:
            with failures_logged(NAME):
                handler = self._handler
                if not iscoroutinefunction(handler):
                    handler = sync_to_async(handler, thread_sensitive=True)
                answer = _accepted(await handler(request, failure), failure)
        return answer


def _accepted(answer: Any, failure: Exception) -> HttpResponseBase | None:
    if answer is None:
        return None
    if not isinstance(answer, HttpResponseBase):
        raise ConfigurationError(f"ON_COMMIT_ERROR returned a {type(answer).__name__}; return a response or None")
    admit_answer(answer.status_code, failure, NAME)
    return answer
