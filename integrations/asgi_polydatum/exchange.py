"""The end of one request: its context is closed before the start of the answer is forwarded.

A close that fails raises out of ``send``, where the application can handle the error like one of its own. From then on
the failure is latched: no answer below 500 is sent, whatever the application makes of the error.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

from asgi_polydatum.connection import STREAM_HINT, ScopeFacts
from asgi_polydatum.frameworks import UNHANDLED_KEY, has_500_handler, has_no_handler
from asgi_polydatum.protocol import ASGIApp, Message, Receive, Scope, Send
from polydatum import Context, ContextClosedError, ServiceError
from polydatum.adapting import ServiceAnswer, admit_answer, answer_for, check_raw_head, failures_logged

CommitErrorHandler = Callable[[Any, Exception], ASGIApp | Awaitable[ASGIApp | None] | None]
"""The type of ``on_commit_error``: is called with the request and the error, and may return a response."""


class HeldAnswer(NamedTuple):
    """A 500 made from a ServiceError, held back until the application raises that error or returns.

    For an error that it does not handle, a mounted or wrapped Starlette application sends its 500 before it raises it.
    """

    error: ServiceError
    messages: list[Message]


class Exchange:
    """The sending side of one request.

    Attributes:
        has_started: whether an answer has started, by the application or by us.
    """

    __slots__ = (
        "_answered",
        "_context",
        "_failure",
        "_held",
        "_on_commit_error",
        "_outside",
        "_receive",
        "_scope",
        "_send",
        "_session",
        "has_started",
    )

    def __init__(
        self, context: Context, scope: Scope, receive: Receive, send: Send, on_commit_error: CommitErrorHandler | None
    ) -> None:
        self._context = context
        self._scope = scope
        self._receive = receive
        self._send = send
        self._on_commit_error = on_commit_error
        self._outside = sys.exception()
        self._failure: BaseException | None = None
        self._answered = False  # by us, in place of the application
        self._held: HeldAnswer | None = None
        session = scope.get("session")
        self._session = None if session is None else SessionBefore(session)
        self.has_started = False

    async def send(self, message: Message) -> None:
        """The application's ``send``."""
        if not self.has_started:
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._failure is None:
                    headers = message.get("headers", ())
                    if not isinstance(headers, (list, tuple)):
                        headers = message["headers"] = list(headers)  # an iterator can be read only once
                    check_raw_head(status, headers)
                if status < 400 and self._failure is None:
                    # `_close` inlined: this is the hot path, where each coroutine counts.
                    try:
                        await self._context.aclose(status=status, keep_current=True, late_hint=STREAM_HINT)
                    except BaseException as failure:
                        await self._commit_failed(failure)
                        raise
                else:
                    await self._before_error(status)
                self.has_started = self._held is None
            elif self._failure is not None:
                raise self._failure
            if self._held is not None:
                self._held.messages.append(message)
                return
        if not self._answered:
            await self._send(message)

    async def _commit_failed(self, failure: BaseException) -> None:
        self._fail(failure)
        if isinstance(failure, Exception):
            await self._answer_commit_error(failure)

    async def _before_error(self, status: int) -> None:
        """Called before an answer with a status of 400 or more starts, and before any answer after a failure."""
        if self._failure is not None:
            if status < 500:
                raise self._failure
        else:
            error = self._answered_error()
            try:
                await self._close(error, status)
            except Exception as failure:
                if error is None:
                    await self._answer_commit_error(failure)
                raise
            if isinstance(error, ServiceError) and status >= 500:
                answer = answer_for(error, self._accept)
                if answer is not None and has_no_handler(self._scope, error):
                    await self._answer(answer)
                elif answer is not None and not has_500_handler(self._scope):
                    self._held = HeldAnswer(error, [])

    def _answered_error(self) -> BaseException | None:
        """The exception that an error handler is turning into this answer, if it can be found.

        The status decides whether to roll back; the exception only tells ``rollback_on`` and the context's middleware
        the reason.
        """
        error = self._scope.get(UNHANDLED_KEY) or sys.exception()
        return error if isinstance(error, Exception) and error is not self._outside else None

    async def _close(self, error: BaseException | None, status: int | None) -> None:
        try:
            await self._context.aclose(error, status=status, keep_current=True, late_hint=STREAM_HINT)
        except BaseException as failure:
            self._fail(failure)
            raise

    def _fail(self, failure: BaseException) -> None:
        """Latch the failure, and restore the session, so that an outer session middleware saves none of its changes."""
        self._failure = failure
        if self._session is not None:
            self._session.restore(self._scope)

    async def _answer_commit_error(self, failure: Exception) -> None:
        """Let ``on_commit_error`` answer; its errors and unusable responses are logged, and the failure stands."""
        if self._on_commit_error is None:
            return
        with failures_logged():
            response: Any = self._on_commit_error(ScopeFacts(self._scope).find_request(self._scope), failure)
            if inspect.isawaitable(response):
                response = await response
            if response is not None:
                await response(self._scope, self._receive, partial(self._send_instead, failure))

    async def _send_instead(self, failure: Exception, message: Message) -> None:
        """The ``send`` of the response from ``on_commit_error``."""
        if message["type"] == "http.response.start":
            admit_answer(message["status"], failure)
            self.has_started = self._answered = True
        await self._send(message)

    async def abort(self) -> None:
        """Roll the request back on shutdown, unless it has already ended."""
        if self._context.state == "open":
            self._fail(ContextClosedError("the request", hint="the application shut down before it was answered"))
            self._context.set_rollback_only("the application shuts down")
        await self._context.aclose(keep_current=True, late_hint=STREAM_HINT)

    async def finish(self) -> BaseException | None:
        """Called when the application returned and no answer has started; returns the exception to raise, or None."""
        if self._held is not None:
            await self._release(self._held)
            return None
        if self._failure is None:
            self._context.set_rollback_only("the application sent no response")
            await self._close(None, None)
        return self._failure

    async def fail(self, error: BaseException) -> BaseException | None:
        """Called when an exception left the application; returns the one to raise, or None if it was answered here."""
        leaving = error
        if self._held is not None and self._held.error is not error:
            await self._release(self._held)
        if self._failure is not None:
            if self._answered and isinstance(error, Exception):
                return None
            if not self.has_started and isinstance(error, Exception):
                leaving = self._failure
        elif not self.has_started and self._held is None:
            answer = answer_for(error)
            try:
                await self._close(error, None if answer is None else answer.status)
            except BaseException as failure:
                leaving = failure
        if not self.has_started:
            answer = answer_for(leaving, self._accept)
            if answer is not None:
                await self._answer(answer)
                return None
        return leaving

    async def _release(self, held: HeldAnswer) -> None:
        """Send a held answer, which was the application's own."""
        self.has_started = True
        for message in held.messages:
            await self._send(message)

    async def _answer(self, answer: ServiceAnswer) -> None:
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
        headers.append((b"content-length", b"%d" % len(answer.body)))
        body = b"" if self._scope["method"] == "HEAD" else answer.body
        self.has_started = self._answered = True
        await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    @property
    def _accept(self) -> str | None:
        return ScopeFacts(self._scope).find_header(self._scope, "accept")


class SessionBefore:
    """The session's content when the request came in, restored if the commit fails."""

    __slots__ = ("_held", "_modified", "_session")

    def __init__(self, session: Any) -> None:
        self._session = session
        self._held = dict(session) if isinstance(session, dict) else None
        self._modified = getattr(session, "modified", None)  # if set, Starlette sends a cookie

    def restore(self, scope: Scope) -> None:
        """Restore the session in the scope. Its values are the same objects, even if they were mutated."""
        session = self._session
        if self._held is not None:
            session.clear()
            session.update(self._held)
            if self._modified is not None:
                session.modified = self._modified
        scope["session"] = session
