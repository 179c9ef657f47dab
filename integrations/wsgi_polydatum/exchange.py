"""The answer to one request (PEP 3333), held back until the context has closed.

What the application passes to ``start_response`` is held until the first output: the first bytes of the body, the first
``write()``, or the end of the call. Then the context closes, and only then is the answer passed on to the server. If
the close fails, it raises at that point; from then on no status below 500 is sent.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import Any

from polydatum import Context
from polydatum.adapting import (
    ServiceAnswer,
    StreamedBody,
    admit_answer,
    answer_for,
    check_head,
    check_pieces,
    failures_logged,
    reason_phrase,
)
from wsgi_polydatum.environment import STREAM_HINT, Environ, EnvironFacts

Headers = list[tuple[str, str]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
Write = Callable[[bytes], object]
StartResponse = Callable[..., Write]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]


# The status code, the arguments of ``start_response``, and the exception that the application was handling.
# A plain tuple: on this hot path, creating a NamedTuple would double the cost.
Start = tuple[int, str, Headers, ExcInfo | None, BaseException | None]


class Exchange:
    """The answering side of one request."""

    __slots__ = ("_context", "_environ", "_failure", "_held", "_outside", "_server", "_was_failing", "_write")

    def __init__(self, context: Context, environ: Environ, start_response: StartResponse) -> None:
        self._context = context
        self._environ = environ
        self._server = start_response
        self._outside = sys.exception()
        self._held: Start | None = None
        self._write: Write | None = None  # the server's, once the answer has started
        self._failure: BaseException | None = None
        self._was_failing = False  # whether the request had already failed before the commit

    def start_response(self, status: str, headers: Headers, exc_info: ExcInfo | None = None) -> Write:
        """The application's ``start_response``."""
        code, headers = _checked(status, headers)
        if self._failure is not None and code < 500:
            raise self._failure
        if self._write is not None:
            return self._start_again(status, headers, exc_info)
        if self._held is not None and not exc_info:
            raise AssertionError("start_response() was called twice without exc_info (PEP 3333)")
        error = self._answered_error(exc_info) if code >= 400 else None
        self._held = (code, status, headers, exc_info, error)
        return self._write_started

    def _start_again(self, status: str, headers: Headers, exc_info: ExcInfo | None) -> Write:
        """Restart the answer, as far as the server allows; a rolled-back request must not become a success."""
        if exc_info is None:
            return self._server(status, headers)
        outcome = self._context.outcome
        decided = outcome.http_status if outcome is not None else None
        if exc_info[1] is not None and decided is not None and int(status[:3]) < 400 <= decided:
            raise exc_info[1]
        return self._server(status, headers, exc_info)

    def _answered_error(self, exc_info: ExcInfo | None) -> BaseException | None:
        """The exception being turned into this answer, if it can be found; it never decides whether to roll back."""
        error = exc_info[1] if exc_info else sys.exception()
        return error if isinstance(error, Exception) and error is not self._outside else None

    def _write_started(self, data: bytes) -> object:
        if self._write is None:
            check_pieces((data,))
        write = self._write or self._start()
        return write(data)

    def _start(self) -> Write:
        """Close the context, then pass the answer on to the server."""
        if self._held is None:
            raise AssertionError("the application has not called start_response() (PEP 3333)")
        code, status, headers, exc_info, error = self._held
        if self._failure is None:
            self._close(error, code)
        elif code < 500:
            raise self._failure  # raised before, but the application has ignored it
        self._write = self._server(status, headers, exc_info) if exc_info else self._server(status, headers)
        self._held = None  # the traceback of an exception in it refers back to this object: a cycle
        return self._write

    def _close(self, error: BaseException | None, status: int | None) -> None:
        try:
            self._context.close(error, status=status, keep_current=True, late_hint=STREAM_HINT)
        except BaseException as failure:
            self._failure = failure
            self._was_failing = error is not None
            raise

    def begin(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Called when the application has returned; starts the answer, unless started, and returns the body to send."""
        try:
            pulled = None if isinstance(body, (list, tuple)) else PulledBody(StreamedBody(body, self._context))
            if pulled is not None:
                # A generator application calls start_response only while it is being read, before its first bytes.
                while self._held is None and self._write is None and pulled.pull() == b"":
                    pass
            if self._write is None:
                if pulled is None:
                    check_pieces(body)
                self._start()
        except BaseException:
            with contextlib.suppress(Exception):  # only the first error is reported
                getattr(body, "close", lambda: None)()
            raise
        return body if pulled is None or self._is_file(body) else pulled.rest()

    def _is_file(self, body: Iterable[bytes]) -> bool:
        """Whether the body is a server's file wrapper, which must keep its class and runs no application code."""
        file_wrapper = self._environ.get("wsgi.file_wrapper")
        return isinstance(file_wrapper, type) and isinstance(body, file_wrapper)

    def fail(self, error: BaseException, on_commit_error: Any) -> Iterable[bytes]:
        """Called when the application or the context raised; returns the body of an answer, or raises an error."""
        leaving = error
        if self._write is not None:
            raise error
        if self._failure is None:
            answer = answer_for(error)
            try:
                self._close(error, None if answer is None else answer.status)
            except BaseException as failure:
                leaving = failure
        elif isinstance(error, Exception):
            leaving = self._failure
            if on_commit_error is not None and not self._was_failing and isinstance(leaving, Exception):
                body = self._answer_commit_error(leaving, on_commit_error)
                if body is not None:
                    return body
        if self._write is None:
            answer = answer_for(leaving, EnvironFacts(self._environ).find_header(self._environ, "accept"))
            if answer is not None:
                return self._answer(answer)
        if leaving is error:
            raise error
        try:
            raise leaving
        finally:
            del leaving, error

    def _answer(self, answer: ServiceAnswer) -> Iterable[bytes]:
        headers = [*answer.headers.items(), ("Content-Length", str(len(answer.body)))]
        self._write = self._server(f"{answer.status} {reason_phrase(answer.status)}", headers)
        return [] if self._environ.get("REQUEST_METHOD") == "HEAD" else [answer.body]

    def _answer_commit_error(self, failure: Exception, on_commit_error: Any) -> Iterable[bytes] | None:
        """The answer of ``on_commit_error``, or None; its errors are logged, and the failure stands."""
        body: Iterable[bytes] | None = None
        with failures_logged():
            response = on_commit_error(self._environ, failure)
            if response is not None:
                body = response(self._environ, partial(self._start_instead, failure))
        return body

    def _start_instead(
        self, failure: Exception, status: str, headers: Headers, exc_info: ExcInfo | None = None
    ) -> Write:
        code, headers = _checked(status, headers)
        admit_answer(code, failure)
        self._write = self._server(status, headers)
        return self._write


class PulledBody:
    """An application's body, with the pieces that were read ahead."""

    def __init__(self, body: StreamedBody) -> None:
        self._body = body
        self._pulled: list[bytes] = []

    def pull(self) -> bytes | None:
        """Read one more piece ahead and return it; None at the end."""
        for piece in self._body:
            self._pulled.append(piece)
            return piece  # type: ignore[no-any-return]
        return None

    def rest(self) -> Iterable[bytes]:
        """The body to send; the application's own if nothing was read ahead."""
        return self if self._pulled else self._body

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._pulled.pop(0) if self._pulled else next(self._body)

    def close(self) -> None:
        """Close the application's body, if it can be closed."""
        self._body.close()


def _checked(status: str, headers: Headers) -> tuple[int, Headers]:
    """The number of a status line and the headers, if a server can send them."""
    if not isinstance(headers, list):
        headers = list(headers)  # an iterator would be exhausted by the check
    check_head(status, headers)
    return int(status[:3]), headers
