"""The process of the database that serves a request is killed with SIGKILL, in each phase of the request.

Over a real server and a real PostgreSQL: what the client was answered has to be what is there afterwards.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgi_polydatum import PolydatumMiddleware
from polydatum import DataManager
from polydatum.backends.psycopg import AsyncPsycopgBackend, PsycopgBackend
from polydatum.backends.sqlalchemy import AsyncSQLAlchemyBackend, SQLAlchemyBackend
from tests.backends.cluster import Cluster, cluster

BEFORE, OPENED, READ, WROTE, COMMITTING, ENDED = PHASES = (
    "before it is opened",
    "after it is opened",
    "after a read",
    "after a write",
    "while it commits",
    "after it has committed",
)

# A constraint that is checked at the commit, and takes its time.
TABLES = """
CREATE TABLE money (id text PRIMARY KEY);
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(30) WHERE NEW.id LIKE 'slow%%';
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON money DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION slow();
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Cluster]:
    with cluster() as made:
        for statement in TABLES.split(";\nCREATE"):
            made.execute(statement if statement.lstrip().startswith("CREATE") else f"CREATE{statement}")
        yield made


BACKENDS: dict[str, Callable[[str], Any]] = {
    "psycopg": PsycopgBackend,
    "psycopg async": AsyncPsycopgBackend,
    "SQLAlchemy": lambda url: SQLAlchemyBackend(url.replace("postgresql:", "postgresql+psycopg:")),
    "SQLAlchemy async": lambda url: AsyncSQLAlchemyBackend(url.replace("postgresql:", "postgresql+asyncpg:")),
}


class Shop:
    """An application that writes one row per request, and tells when it comes to a phase."""

    def __init__(self, backend: Any) -> None:
        self.manager: Any = DataManager()
        self.manager.register_resources(db=backend)
        self.reached: Callable[[str], None] = lambda phase: None
        self.app = Starlette(routes=[Route("/{key}", self.view, methods=["POST"])])
        self.app.add_middleware(PolydatumMiddleware, data_manager=self.manager)

    async def view(self, request: Request) -> Response:
        key = request.path_params["key"]
        context = self.manager.require_active_context()
        self.reached(BEFORE)
        db = context.db
        if hasattr(db, "__await__"):
            db = await db
        self.reached(OPENED)
        await execute(db, "SELECT count(*) FROM money")
        self.reached(READ)
        await execute(db, f"INSERT INTO money VALUES ('{key}')")
        self.reached(WROTE)
        context.on_commit(lambda: self.reached(ENDED))
        return PlainTextResponse("kept")


async def execute(db: Any, statement: str) -> None:
    """Over whatever services get."""
    if "sqlalchemy" in type(db).__module__:
        from sqlalchemy import text

        result = db.execute(text(statement))
    else:
        result = db.execute(statement)
    if hasattr(result, "__await__"):
        await result


@pytest.fixture(params=BACKENDS)
def shop(request: pytest.FixtureRequest, postgres: Cluster) -> Iterator[tuple[Shop, int]]:
    """A shop behind uvicorn, with its port."""
    shop = Shop(BACKENDS[request.param](postgres.url))
    server = uvicorn.Server(uvicorn.Config(shop.app, port=0, log_level="critical", lifespan="on"))
    started = threading.Event()
    startup = server.startup

    async def announced(*args: Any, **options: Any) -> None:
        await startup(*args, **options)
        started.set()

    server.startup = announced  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    assert started.wait(20)
    yield shop, server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def post(port: int, key: str) -> int:
    """The status of a request; 599 if there was no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", f"/{key}")
        return connection.getresponse().status
    except (http.client.HTTPException, OSError):
        return 599
    finally:
        connection.close()


@pytest.mark.parametrize("phase", PHASES)
def test_the_answer_tells_what_is_there(shop: tuple[Shop, int], postgres: Cluster, phase: str) -> None:
    """And the next request works."""
    application, port = shop
    key = f"{'slow' if phase == COMMITTING else 'row'} {type(application.manager.get_resource('db')).__name__} {phase}"
    key = key.replace(" ", "-")
    assert post(port, f"warm-up-{key}") == 200

    def reached(now: str) -> None:
        if now == phase:
            application.reached = lambda phase: None
            postgres.kill_backends()

    application.reached = reached
    killer = threading.Timer(0, kill_while_committing, [postgres]) if phase == COMMITTING else None
    if killer is not None:
        killer.start()
    status = post(port, key)
    if killer is not None:
        killer.join()
    there = bool(postgres.execute("SELECT 1 FROM money WHERE id = %s", key))
    assert status == (200 if there else 500)
    if phase != BEFORE:  # a pool that looks before it hands out a connection makes a new one
        assert there == (phase == ENDED)
    assert post(port, f"after-{key}") == 200


def kill_while_committing(postgres: Cluster) -> None:
    """As soon as the server is busy with the commit."""
    while not postgres.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"):
        pass
    postgres.kill_backends()
