"""FastAPI: dependencies, validation, and the DAL with its type."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterable, AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.sse import EventSourceResponse
from starlette.testclient import TestClient

from asgi_polydatum import PolydatumMiddleware, stream_context
from asgi_polydatum.starlette import Request, get_dal
from polydatum import ContextClosedError, NoActiveContextError
from polydatum.testing.shop import Shop, ShopDAL


@pytest.fixture
def app(shop: Shop) -> FastAPI:
    app = FastAPI()
    app.add_middleware(PolydatumMiddleware, data_manager=shop.dm)
    return app


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


def dependency(shop: Shop, seen: list[str]) -> Any:
    """One that looks at the DAL when it ends."""

    async def depend(request: Request) -> AsyncIterator[None]:
        try:
            yield
        except BaseException as error:
            seen.append(f"saw {type(error).__name__}")
            raise
        finally:
            try:
                request.dal.items.names()
                seen.append("open")
            except ContextClosedError:
                seen.append("closed")

    return depend


def test_17_a_generator_endpoint_is_a_stream(shop: Shop, app: FastAPI, client: TestClient) -> None:
    @app.get("/own", response_class=EventSourceResponse)
    async def own(request: Request[ShopDAL]) -> AsyncIterable[str]:
        async with stream_context(request) as ctx:
            for name in ("coffee", "tea"):
                ctx.dal.items.add(name)
                yield name

    started = asyncio.Event()

    @app.get("/late", response_class=EventSourceResponse)
    async def late(request: Request[ShopDAL]) -> AsyncIterable[str]:
        shop.here().on_commit(started.set)  # FastAPI reads ahead of the answer's start
        yield "one"
        await started.wait()
        request.dal.items.add("late")

    answer = client.get("/own")
    assert answer.text.split() == ["data:", '"coffee"', "data:", '"tea"']
    with pytest.raises(Exception) as raised:  # in as many groups as there are task groups
        TestClient(app).get("/late")
    error: Any = raised.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, ContextClosedError)
    assert shop.names == ["coffee", "tea"]


@pytest.mark.parametrize(("scope", "state"), [("function", "open"), ("request", "closed")])
def test_28_a_dependency_ends_in_its_scope(
    shop: Shop, app: FastAPI, client: TestClient, scope: Any, state: str
) -> None:
    seen: list[str] = []

    @app.get("/", dependencies=[Depends(dependency(shop, seen), scope=scope)])
    async def view(request: Request[ShopDAL]) -> str:
        request.dal.items.add("tea")
        return "ok"

    assert client.get("/").status_code == 200
    assert seen == [state]
    assert shop.names == ["tea"]


@pytest.mark.parametrize(("scope", "expected"), [("function", ["open"]), ("request", ["saw RuntimeError", "closed"])])
def test_28_dependencies_of_the_request_see_a_failed_commit(
    shop: Shop, app: FastAPI, client: TestClient, scope: Any, expected: list[str]
) -> None:
    seen: list[str] = []
    shop.fail("db commit", RuntimeError("disk full"))

    @app.get("/", dependencies=[Depends(dependency(shop, seen), scope=scope)])
    async def view(request: Request[ShopDAL]) -> str:
        request.dal.items.add("tea")
        return "ok"

    assert client.get("/").status_code == 500
    assert seen == expected


def test_29_a_request_that_does_not_validate_rolls_back(shop: Shop, app: FastAPI, client: TestClient) -> None:
    async def audit(request: Request[ShopDAL]) -> None:
        request.dal.items.add("audit")

    @app.get("/", dependencies=[Depends(audit)])
    async def view(request: Request[ShopDAL], page: int) -> str:
        request.dal.items.add("tea")
        return "ok"

    assert client.get("/?page=one").status_code == 422
    assert client.get("/?page=1").status_code == 200
    assert shop.names == ["audit", "tea"]


def test_29_an_answer_that_does_not_validate_rolls_back(shop: Shop, app: FastAPI, client: TestClient) -> None:
    @app.get("/")
    async def view(request: Request[ShopDAL]) -> int:
        shop.here()
        request.dal.items.add("tea")
        return "no number"  # type: ignore[return-value]

    assert client.get("/").status_code == 500
    assert shop.names == []
    assert shop.outcomes == ["rolled_back"]


async def loop_thread() -> int:
    return threading.get_ident()


class WatchedDependency:
    """`get_dal`, noting where it ran."""

    thread = 0

    async def __call__(self, request: Request) -> Any:
        self.thread = threading.get_ident()
        return await get_dal(request)


watched = WatchedDependency()


def test_13_the_dal_is_a_dependency_off_the_thread_pool(shop: Shop, app: FastAPI, client: TestClient) -> None:
    @app.get("/")
    async def view(
        request: Request[ShopDAL],
        dal: Annotated[ShopDAL, Depends(get_dal)],
        again: Annotated[ShopDAL, Depends(watched)],
        thread: Annotated[int, Depends(loop_thread)],
    ) -> list[str]:
        assert dal is again is request.dal
        assert inspect.iscoroutinefunction(get_dal)  # FastAPI runs any other in a worker thread
        assert watched.thread == thread
        dal.items.add("tea")
        return dal.items.names()

    assert client.get("/").json() == ["tea"]


def test_13_the_dependency_needs_the_middleware() -> None:
    app = FastAPI()

    @app.get("/")
    async def view(dal: Annotated[ShopDAL, Depends(get_dal)]) -> str:
        return "unreachable"

    with pytest.raises(NoActiveContextError, match="add_middleware"):
        TestClient(app).get("/")


def test_13_requests_with_a_type_are_no_parameter_of_the_api(app: FastAPI) -> None:
    @app.get("/")
    async def view(request: Request[ShopDAL], dal: Annotated[ShopDAL, Depends(get_dal)]) -> str:
        return "ok"

    assert "parameters" not in app.openapi()["paths"]["/"]["get"]
