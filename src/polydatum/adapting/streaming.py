"""The bodies of streamed answers, which run after the context of their request has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, Self

from polydatum.context import Context


class StreamedBody:
    """The body of a streamed answer. The request's closed context is current while it runs, and at no other time.

    So when the body uses a DAL that it was handed, this raises `ContextClosedError`, and never reaches an outer
    context. Leave the context once the body is made: it becomes current again for each step, with what the body itself
    opens in it, and the caller that iterates keeps its own context in between.
    """

    def __init__(self, body: Iterable[Any], context: Context) -> None:
        self._body = body
        self._iterator = iter(body)
        self._var = context._var
        self._current: Any = context

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        token = self._var.set(self._current)
        try:
            return next(self._iterator)
        finally:
            self._current = self._var.get()
            self._var.reset(token)

    def close(self) -> None:
        """Close the body, if it can be closed; the server calls this however the answer ends."""
        close = getattr(self._body, "close", None)
        if close is not None:
            token = self._var.set(self._current)
            try:
                close()
            finally:
                self._var.reset(token)


class AsyncStreamedBody:
    """The async twin of `StreamedBody`. If the client disconnects, the event loop ends the body."""

    def __init__(self, body: AsyncIterator[Any], context: Context) -> None:
        self._body = body
        self._var = context._var
        self._current: Any = context

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        token = self._var.set(self._current)
        try:
            return await anext(self._body)
        finally:
            self._current = self._var.get()
            self._var.reset(token)
