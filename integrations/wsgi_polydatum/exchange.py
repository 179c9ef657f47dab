"""The answer of one request (PEP 3333): it is held back until the context has closed.

What the application hands to ``start_response`` is kept until something of the body is to go out: its first bytes, the
first ``write()``, or the end of the call. Then the context closes, and only then the server hears of the answer. A close
that fails is raised where that happened; from then on no status below 500 goes out any more.
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
    failures_logged,
    reason_phrase,
)
from wsgi_polydatum.environment import STREAM_HINT, Environ, EnvironFacts

Headers = list[tuple[str, str]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
Write = Callable[[bytes], object]
StartResponse = Callable[..., Write]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]


# What the application has handed to ``start_response``, after the number in it, and the exception it was handling then.
# A plain tuple: making a named one costs every request as much as all else that is done with it.
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
        self._was_failing = False  # before the failure

    def start_response(self, status: str, headers: Headers, exc_info: ExcInfo | None = None) -> Write:
        """What the application gets for ``start_response``."""
        code = status_code(status)
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
        """The server decides, which knows if headers are out; but what was rolled back becomes no success any more."""
        if exc_info is None:
            return self._server(status, headers)
        outcome = self._context.outcome
        decided = outcome.http_status if outcome is not None else None
        if exc_info[1] is not None and decided is not None and status_code(status) < 400 <= decided:
            raise exc_info[1]
        return self._server(status, headers, exc_info)

    def _answered_error(self, exc_info: ExcInfo | None) -> BaseException | None:
        """The exception that is being made into this answer, if it shows; it never decides whether to roll back."""
        error = exc_info[1] if exc_info else sys.exception()
        return error if isinstance(error, Exception) and error is not self._outside else None

    def _write_started(self, data: bytes) -> object:
        write = self._write or self._start()
        return write(data)

    def _start(self) -> Write:
        """Close the context, then let the server hear of the answer."""
        if self._held is None:
            raise AssertionError("the application has not called start_response() (PEP 3333)")
        code, status, headers, exc_info, error = self._held
        if self._failure is None:
            self._close(error, code)
        elif code < 500:
            raise self._failure  # the application has met it before, and goes on as if it had not
        self._write = self._server(status, headers, exc_info) if exc_info else self._server(status, headers)
        self._held = None  # the frames of an exception in it lead back to here
        return self._write

    def _close(self, error: BaseException | None, status: int | None) -> None:
        try:
            self._context.close(error, status=status, keep_current=True, late_hint=STREAM_HINT)
        except BaseException as failure:
            self._failure = failure
            self._was_failing = error is not None
            raise

    def begin(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """The application has returned: start the answer, unless ``write()`` has, and give the body to send."""
        try:
            pulled = None if isinstance(body, (list, tuple)) else PulledBody(StreamedBody(body, self._context))
            if pulled is not None:
                # An application that is a generator calls start_response when it is read, at the latest for its first
                # bytes.
                while self._held is None and self._write is None and pulled.pull() == b"":
                    pass
            if self._write is None:
                self._start()
        except BaseException:
            with contextlib.suppress(Exception):  # what went wrong before is what has to be told
                getattr(body, "close", lambda: None)()
            raise
        return body if pulled is None or self._is_file(body) else pulled.rest()

    def _is_file(self, body: Iterable[bytes]) -> bool:
        """Whether the server knows a body by its class; no code of the application's runs in it."""
        file_wrapper = self._environ.get("wsgi.file_wrapper")
        return isinstance(file_wrapper, type) and isinstance(body, file_wrapper)

    def fail(self, error: BaseException, on_commit_error: Any) -> Iterable[bytes]:
        """The application, or the context, raised: the body of what is answered here, or what has to be raised is."""
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
        """What ``on_commit_error`` answers, or None; what it raises is logged, and the failure stands."""
        body: Iterable[bytes] | None = None
        with failures_logged():
            response = on_commit_error(self._environ, failure)
            if response is not None:
                body = response(self._environ, partial(self._start_instead, failure))
        return body

    def _start_instead(
        self, failure: Exception, status: str, headers: Headers, exc_info: ExcInfo | None = None
    ) -> Write:
        admit_answer(status_code(status), failure)
        self._write = self._server(status, headers)
        return self._write


class PulledBody:
    """The body of an application, of which the first pieces have been read already."""

    def __init__(self, body: StreamedBody) -> None:
        self._body = body
        self._pulled: list[bytes] = []

    def pull(self) -> bytes | None:
        """Read one more piece ahead, and tell it; None if there is none."""
        for piece in self._body:
            self._pulled.append(piece)
            return piece  # type: ignore[no-any-return]
        return None

    def rest(self) -> Iterable[bytes]:
        """All that is to be sent; without this in between if nothing has been read ahead."""
        return self if self._pulled else self._body

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._pulled.pop(0) if self._pulled else next(self._body)

    def close(self) -> None:
        """Close the application's body, if it can be closed."""
        self._body.close()


def status_code(status: str) -> int:
    """The number of a status line; of one without a number, which the server has to judge, that of an error."""
    try:
        return int(status[:3])
    except ValueError:
        return 500
