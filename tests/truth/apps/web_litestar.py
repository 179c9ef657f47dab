"""Shared by all stacks on Litestar."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.response import Stream

from tests.truth.bank import Conflict


def conflict(request: Request[Any, Any, Any], error: Conflict) -> Response[str]:
    """The handler of `Conflict`."""
    return Response("conflict", status_code=409)


def end(check: str) -> Response[str]:
    """End a view after it has written."""
    match check:
        case "raised":
            raise HTTPException("conflict", status_code=409)
        case "handled":
            raise Conflict
        case "returned":
            return Response("conflict", status_code=409)
        case "crashed":
            raise RuntimeError("a bug")
    return Response("paid", status_code=201)


def stream(lines: Iterator[str] | AsyncIterator[str]) -> Stream:
    """A streamed body."""
    return Stream(lines, media_type="text/plain")
