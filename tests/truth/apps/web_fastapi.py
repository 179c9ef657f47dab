"""Shared by all stacks on FastAPI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

from tests.truth.bank import Conflict


def make_app(**options: Any) -> FastAPI:
    """An application that answers `Conflict` with a 409."""
    app = FastAPI(**options)

    @app.exception_handler(Conflict)
    async def conflict(request: Request, error: Conflict) -> JSONResponse:
        return JSONResponse({"detail": "conflict"}, 409)

    return app


def end(check: str) -> JSONResponse:
    """End a view after it has written."""
    match check:
        case "raised":
            raise HTTPException(409)
        case "handled":
            raise Conflict
        case "returned":
            return JSONResponse({"detail": "conflict"}, 409)
        case "crashed":
            raise RuntimeError("a bug")
    return JSONResponse({"paid": True}, 201)


def stream(lines: Iterator[str] | AsyncIterator[str]) -> StreamingResponse:
    """A streamed body."""
    return StreamingResponse(lines, media_type="text/plain")
