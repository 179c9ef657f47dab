"""The end of one request: its context is closed before the start of the answer is forwarded.

A close that fails is raised out of ``send``, where the application meets it like any error of its own. From then on the
failure is latched: no start below 500 goes out any more, whatever the application makes of the error.
"""

from __future__ import annotations

import sys

from asgi_polydatum.connection import STREAM_HINT, Message, Scope, Send
from polydatum import Context
from polydatum.adapting import answer_for


class Exchange:
    """The sending side of one request."""

    __slots__ = ("_context", "_failure", "_outside", "_scope", "_send", "_started")

    def __init__(self, context: Context, scope: Scope, send: Send) -> None:
        self._context = context
        self._scope = scope
        self._send = send
        self._outside = sys.exception()
        self._started = False
        self._failure: BaseException | None = None

    async def send(self, message: Message) -> None:
        """What the application gets for ``send``."""
        if not self._started:
            if message["type"] == "http.response.start":
                await self._before_start(message["status"])
                self._started = True
            elif self._failure is not None:
                raise self._failure
        await self._send(message)

    async def _before_start(self, status: int) -> None:
        if self._failure is not None:
            if status < 500:
                raise self._failure
        else:
            await self._close(self._answered_error() if status >= 400 else None, status)

    def _answered_error(self) -> BaseException | None:
        """The exception that an error handler is turning into this answer, if it shows.

        It never decides whether to roll back, the status does that; it tells ``rollback_on`` and the context's
        middleware why.
        """
        error = sys.exception()
        return error if isinstance(error, Exception) and error is not self._outside else None

    async def _close(self, error: BaseException | None, status: int | None) -> None:
        try:
            await self._context.aclose(error, status=status, keep_current=True, late_hint=STREAM_HINT)
        except BaseException as failure:
            self._failure = failure
            raise

    @property
    def is_unfinished(self) -> bool:
        """Whether nothing has been answered."""
        return not self._started

    async def finish(self) -> BaseException | None:
        """The application returned without an answer: what has to be raised for it, or None."""
        if self._failure is None:
            self._context.set_rollback_only("the application sent no response")
            await self._close(None, None)
        return self._failure

    async def fail(self, error: BaseException) -> BaseException | None:
        """An exception left the application: what has to be raised, or None if it is answered here."""
        leaving = error
        if self._failure is not None:
            if not self._started and isinstance(error, Exception):
                leaving = self._failure
        elif not self._started:
            answer = answer_for(error)
            try:
                await self._close(error, None if answer is None else answer.status)
            except BaseException as failure:
                leaving = failure
        return leaving if self._started else await self._answer(leaving)

    async def _answer(self, error: BaseException) -> BaseException | None:
        answer = answer_for(error, self._header(b"accept"))
        if answer is None:
            return error
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
        headers.append((b"content-length", b"%d" % len(answer.body)))
        body = b"" if self._scope["method"] == "HEAD" else answer.body
        self._started = True
        await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
        return None

    def _header(self, wanted: bytes) -> str:
        return ", ".join(value.decode("latin-1") for name, value in self._scope["headers"] if name.lower() == wanted)
