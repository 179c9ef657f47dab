"""The bank in Starlette: ``app`` has async endpoints, ``threaded_app`` sync ones, which run in threads."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from asgi_polydatum import PolydatumMiddleware, stream_context
from tests.servers.apps import endpoints
from tests.servers.apps.bank import dm
from tests.servers.apps.gates import wait_async
from tests.servers.apps.journal import write


async def transfer(request: Any) -> Response:
    query = request.query_params
    text = await endpoints.transfer_async(request.dal, query["key"], query.get("fail"), query.get("gate"))
    return PlainTextResponse(text, headers=endpoints.HEADERS)


async def who(request: Any) -> Response:
    return PlainTextResponse(await endpoints.who_async(request.dal, request.query_params.get("gate")))


async def send(request: Any) -> Response:
    courier = await request.dal.visits.sent_with()
    await wait_async(request.query_params.get("gate"))
    return PlainTextResponse(courier, headers=endpoints.HEADERS)


async def stream(request: Request) -> Response:
    return StreamingResponse(endpoints.chunks_async(stream_context(request)))


async def late(request: Any) -> Response:
    request.dal.accounts.transfer(fail=request.query_params.get("fail"))
    return StreamingResponse(endpoints.late_chunks_async(request.dal), headers=endpoints.HEADERS)


async def unsendable(request: Any) -> Response:
    request.dal.accounts.transfer()
    return PlainTextResponse("transferred", headers={"X-Name": "two\nlines"})


async def healthy(request: Request) -> Response:
    return PlainTextResponse("healthy")


def transfer_in_thread(request: Any) -> Response:
    query = request.query_params
    text = endpoints.transfer(request.dal, query["key"], query.get("fail"), query.get("gate"))
    return PlainTextResponse(text, headers=endpoints.HEADERS)


def who_in_thread(request: Any) -> Response:
    return PlainTextResponse(endpoints.who(request.dal, request.query_params.get("gate")))


def teller_in_thread(request: Any) -> Response:
    return PlainTextResponse(str(request.dal.visits.served_by()))


def stream_in_thread(request: Request) -> Response:
    return StreamingResponse(endpoints.chunks_async(stream_context(request)))


def late_in_thread(request: Any) -> Response:
    request.dal.accounts.transfer(fail=request.query_params.get("fail"))
    return StreamingResponse(endpoints.late_chunks(request.dal), headers=endpoints.HEADERS)


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    write("started")
    yield
    write("shutdown")


app = Starlette(
    routes=[
        Route("/transfer", transfer, methods=["POST"]),
        Route("/who", who),
        Route("/send", send, methods=["POST"]),
        Route("/stream", stream),
        Route("/late", late, methods=["POST"]),
        Route("/unsendable", unsendable, methods=["POST"]),
        Route("/healthy", healthy),
    ],
    middleware=[Middleware(PolydatumMiddleware, data_manager=dm)],
    lifespan=lifespan,
)

threaded_app = Starlette(
    routes=[
        Route("/transfer", transfer_in_thread, methods=["POST"]),
        Route("/who", who_in_thread),
        Route("/teller", teller_in_thread),
        Route("/stream", stream_in_thread),
        Route("/late", late_in_thread, methods=["POST"]),
        Route("/healthy", healthy),
    ],
    middleware=[Middleware(PolydatumMiddleware, data_manager=dm)],
    lifespan=lifespan,
)
