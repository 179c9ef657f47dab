"""Async bodies of streamed answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Self

from polydatum import Context


class AsyncStreamedBody:
    """The async twin of `polydatum.adapting.StreamedBody`. If the client leaves, the event loop ends the iterator."""

    def __init__(self, body: AsyncIterator[Any], context: Context) -> None:
        self._body = body
        self._context = context

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._body)
        except BaseException:
            self._context.leave()
            raise

    def close(self) -> None:
        """Called by Django however the answer ends."""
        self._context.leave()
