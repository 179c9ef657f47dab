"""`django_polydatum.orm`: Django's own connection takes part in the context's transaction."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import unittest
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pymysql
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DEFAULT_DB_ALIAS, DatabaseError, IntegrityError, connection, models, transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, TestCase, override_settings

import django_polydatum
from django_polydatum import orm, stream_context
from polydatum import (
    AlreadyCommittedError,
    CommitOutcomeUnknown,
    DataManager,
    NotFound,
    ResourceError,
    RollbackOnlyError,
    Service,
    bind,
)
from polydatum.testing.shop import Backend
from tests.contract.django_settings import configure
from tests.integration.django_serving import databases, forget_connections, serving, sqlite
from tests.services import url_of

configure()  # a model can only be defined then


class Item(models.Model):
    name = models.CharField(max_length=20, unique=True)

    class Meta:
        app_label = "shop"


class ItemService(Service[Any]):
    def add(self, name: str) -> None:
        self._ctx.django.objects(Item).create(name=name)

    def names(self) -> list[str]:
        return list(self._ctx.django.objects(Item).order_by("name").values_list("name", flat=True))


def names() -> list[str]:
    """What was kept, seen from another thread and so through another connection."""
    found: list[str] = []

    def look() -> None:
        try:
            found.extend(Item.objects.order_by("name").values_list("name", flat=True))
        finally:
            connection.close()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found


def create_tables() -> None:
    with connection.schema_editor() as editor:
        editor.create_model(Item)


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@contextlib.contextmanager
def postgres() -> Iterator[None]:
    """A schema of its own."""
    place = urlsplit(url_of("postgres"))
    schema = f"polydatum_{uuid.uuid4().hex}"
    options = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": place.hostname,
        "PORT": place.port,
        "NAME": place.path.lstrip("/"),
        "USER": place.username,
        "PASSWORD": place.password or "",
        "OPTIONS": {"options": f"-c search_path={schema}", "connect_timeout": 3},
    }
    with databases(default=options):
        execute(f"CREATE SCHEMA {schema}")
        try:
            create_tables()
            yield
        finally:
            connection.close()
            execute(f"DROP SCHEMA {schema} CASCADE")


@contextlib.contextmanager
def mariadb(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A database of its own, over PyMySQL."""
    monkeypatch.setitem(sys.modules, "MySQLdb", pymysql)
    monkeypatch.setattr(pymysql, "version_info", (2, 2, 7, "final", 0))  # what Django asks for
    place = urlsplit(url_of("mariadb"))
    options: dict[str, Any] = {
        "ENGINE": "django.db.backends.mysql",
        "HOST": place.hostname,
        "PORT": place.port,
        "NAME": place.path.lstrip("/"),
        "USER": place.username,
        "PASSWORD": place.password or "",
        "OPTIONS": {"ssl_disabled": True},
    }
    name = f"polydatum_{uuid.uuid4().hex}"
    with databases(default=options):
        execute(f"CREATE DATABASE {name}")
        try:
            with databases(default={**options, "NAME": name}):
                create_tables()
                yield
        finally:
            execute(f"DROP DATABASE {name}")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        if request.param == "postgres":
            stack.enter_context(postgres())
        else:
            stack.enter_context(databases(default=sqlite(tmp_path / "django.db")))
            create_tables()
        yield request.param


@pytest.fixture
def dm() -> DataManager[Any, Any]:
    manager: DataManager[Any, Any] = DataManager(commit_order=["django", "other"])
    manager.register_services(items=ItemService())
    manager.register_resources(django=orm())
    return manager


# --- Commit and rollback --------------------------------------------------------------------------------------------


def test_services_use_the_orm_and_commit_with_the_context(database: str, dm: DataManager[Any, Any]) -> None:
    with dm.context() as ctx:
        ctx.dal.items.add("tea")
        Item.objects.create(name="coffee")  # the same connection
        assert names() == []
        assert ctx.dal.items.names() == ["coffee", "tea"]
    assert ctx.outcome == "committed"
    assert names() == ["coffee", "tea"]
    assert connection.get_autocommit()


def test_what_was_not_touched_begins_no_transaction(database: str, dm: DataManager[Any, Any]) -> None:
    with dm.context():
        assert not connection.in_atomic_block


def test_an_exception_rolls_back(database: str, dm: DataManager[Any, Any]) -> None:
    with pytest.raises(ZeroDivisionError), dm.context() as ctx:
        ctx.dal.items.add("tea")
        raise ZeroDivisionError
    assert names() == []
    assert ctx.outcome == "rolled_back"
    assert connection.get_autocommit()


def test_a_veto_rolls_back(database: str, dm: DataManager[Any, Any]) -> None:
    with dm.context() as ctx:
        ctx.dal.items.add("tea")
        ctx.set_rollback_only()
    assert names() == []
    assert not connection.in_atomic_block


@pytest.mark.parametrize("first", ["django", "other"])
def test_67_another_resource_that_fails_to_prepare_rolls_it_back(
    database: str, dm: DataManager[Any, Any], first: str
) -> None:
    log: list[str] = []

    class Refuses(Backend):
        def prepare(self) -> None:
            super().prepare()
            raise OSError("disk full")

    dm.register_resources(other=lambda context: Refuses(log))
    with pytest.raises(OSError), dm.context() as ctx:
        getattr(ctx, first)
        ctx.dal.items.add("tea")
        assert ctx.other is not None
    assert ctx.outcome == "rolled_back"
    assert log == ["backend prepare", "backend rollback", "backend close"]
    assert names() == []


def test_atomic_in_a_service_is_a_savepoint(database: str, dm: DataManager[Any, Any]) -> None:
    with dm.context() as ctx:
        ctx.dal.items.add("tea")
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            ctx.dal.items.add("coffee")
            raise ZeroDivisionError
        with transaction.atomic():
            ctx.dal.items.add("milk")
    assert names() == ["milk", "tea"]


def test_another_database_is_named(tmp_path: Path) -> None:
    dm: DataManager[Any, Any] = DataManager()
    dm.register_resources(django=orm("archive"))
    with databases(default=sqlite(tmp_path / "a.db"), archive=sqlite(tmp_path / "b.db")):
        from django.db import connections

        with connections["archive"].schema_editor() as editor:
            editor.create_model(Item)
        with dm.context() as ctx:
            assert ctx.django.using == "archive"
            ctx.django.objects(Item).create(name="tea")
            assert not connections[DEFAULT_DB_ALIAS].in_atomic_block
        assert Item.objects.using("archive").count() == 1


# --- What Django would keep quiet about -----------------------------------------------------------------------------


def test_a_swallowed_error_is_never_a_silent_rollback(database: str, dm: DataManager[Any, Any]) -> None:
    context = dm.context()
    with pytest.raises(RollbackOnlyError, match=r"default.* an earlier error \(IntegrityError.* made it"), context:
        context.dal.items.add("tea")
        with contextlib.suppress(IntegrityError), transaction.atomic(savepoint=False):
            context.dal.items.add("tea")
    assert context.outcome == "rolled_back"
    assert names() == []
    with dm.context() as ctx:
        ctx.dal.items.add("coffee")
    assert names() == ["coffee"]


def test_a_swallowed_error_of_a_cursor_is_told_where_the_database_would_roll_back(
    database: str, dm: DataManager[Any, Any]
) -> None:
    context = dm.context()
    dead = pytest.raises(RollbackOnlyError) if database == "postgres" else contextlib.nullcontext()
    with dead, context:
        context.dal.items.add("tea")
        with contextlib.suppress(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT * FROM nowhere")
    assert names() == ([] if database == "postgres" else ["tea"])


def test_an_error_that_another_resource_swallows_while_it_prepares_is_told_too(
    database: str, dm: DataManager[Any, Any]
) -> None:
    class Sloppy(Backend):
        def prepare(self) -> None:
            with contextlib.suppress(IntegrityError), transaction.atomic(savepoint=False):
                Item.objects.create(name="tea")

    dm.register_resources(other=lambda context: Sloppy([]))
    context = dm.context()
    with pytest.raises(RollbackOnlyError), context:
        context.dal.items.add("tea")
        assert context.other is not None
    assert names() == []


class Failure(Exception):
    """What leaves a block."""


def test_a_failed_nested_block_is_undone_alone(database: str, dm: DataManager[Any, Any]) -> None:
    with dm.context() as ctx:
        ctx.dal.items.add("before")
        with pytest.raises(Failure), ctx.nested():
            ctx.dal.items.add("inside")
            raise Failure
        with ctx.nested():
            ctx.dal.items.add("kept")
    assert names() == ["before", "kept"]


def test_an_error_of_the_database_in_a_nested_block_is_undone_with_it(database: str, dm: DataManager[Any, Any]) -> None:
    with dm.context() as ctx:
        ctx.dal.items.add("tea")
        with pytest.raises(IntegrityError), ctx.nested():
            Item.objects.create(name="tea")
        ctx.dal.items.add("after")
    assert names() == ["after", "tea"]


def test_an_error_that_a_nested_block_swallows_fails_the_block(database: str, dm: DataManager[Any, Any]) -> None:
    """PostgreSQL and Django both refuse to go on; the context around it still can."""
    with dm.context() as ctx:
        ctx.dal.items.add("tea")
        with pytest.raises(RollbackOnlyError), ctx.nested():
            ctx.dal.items.add("inside")
            with contextlib.suppress(IntegrityError), transaction.atomic(savepoint=False):
                Item.objects.create(name="tea")
    assert names() == ["tea"]


def test_a_nested_block_that_opens_the_transaction_is_undone_whole(database: str, dm: DataManager[Any, Any]) -> None:
    """What comes next is in a new transaction, and commits with the context."""
    with dm.context() as ctx:
        with pytest.raises(Failure), ctx.nested():
            ctx.dal.items.add("inside")
            raise Failure
        ctx.dal.items.add("after")
        assert names() == []
    assert names() == ["after"]
    assert connection.get_autocommit()


def test_a_connection_that_was_closed_on_the_way_cannot_commit(database: str, dm: DataManager[Any, Any]) -> None:
    context = dm.context()
    with pytest.raises(RollbackOnlyError), context:
        context.dal.items.add("tea")
        connection.close()
    assert names() == []
    assert Item.objects.count() == 0


def test_a_connection_lost_while_committing_leaves_the_outcome_unknown(
    database: str, dm: DataManager[Any, Any]
) -> None:
    context = dm.context()
    with pytest.raises(CommitOutcomeUnknown) as raised, context:
        context.dal.items.add("tea")
        context.before_commit(cut if database == "postgres" else lambda: connection.connection.close())
    assert isinstance(raised.value.__cause__, DatabaseError)
    assert context.outcome == "unknown"
    assert names() == []
    with dm.context() as ctx:
        ctx.dal.items.add("coffee")
    assert names() == ["coffee"]


def cut() -> None:
    """Let the server end the connection, from another one."""
    pid = connection.connection.info.backend_pid
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    finally:
        other.close()


def test_a_commit_that_the_database_refuses_is_the_database_s_error(database: str, dm: DataManager[Any, Any]) -> None:
    deferred = "DEFERRABLE INITIALLY DEFERRED"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE child (item integer REFERENCES shop_item (id) {deferred})")
    context = dm.context()
    with pytest.raises(IntegrityError), context:
        context.dal.items.add("tea")
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO child VALUES (99)")
    assert context.outcome == "rolled_back"
    assert names() == []
    assert connection.get_autocommit()


def test_it_refuses_to_be_part_of_another_transaction(database: str, dm: DataManager[Any, Any]) -> None:
    with transaction.atomic(), dm.context() as ctx, pytest.raises(ResourceError, match="ATOMIC_REQUESTS"):
        ctx.dal.items.add("tea")
    with dm.context() as outer:
        outer.dal.items.add("tea")
        with dm.context() as inner, pytest.raises(ResourceError, match="other contexts"):
            inner.dal.items.add("coffee")
    assert names() == ["tea"]


def test_a_database_without_autocommit_is_refused(tmp_path: Path, dm: DataManager[Any, Any]) -> None:
    with (
        databases(default=sqlite(tmp_path / "django.db", AUTOCOMMIT=False)),
        dm.context() as ctx,
        pytest.raises(ResourceError, match="AUTOCOMMIT off"),
    ):
        ctx.dal.items.add("tea")


# --- transaction.on_commit ------------------------------------------------------------------------------------------


def test_19_on_commit_functions_of_django_run_once_everything_has_committed(
    database: str, dm: DataManager[Any, Any]
) -> None:
    log: list[Any] = []
    dm.register_resources(other=lambda context: Backend(log))
    with dm.context() as ctx:
        ctx.dal.items.add("tea")
        assert ctx.other is not None
        transaction.on_commit(lambda: log.append(names()))
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            transaction.on_commit(lambda: log.append("of a savepoint that was rolled back"))
            raise ZeroDivisionError
    assert log == ["backend prepare", "backend commit", "backend close", ["tea"]]


def test_19_they_never_run_after_a_rollback_or_a_failed_commit(database: str, dm: DataManager[Any, Any]) -> None:
    log: list[str] = []
    with dm.context() as ctx:
        ctx.dal.items.add("tea")
        transaction.on_commit(lambda: log.append("after a rollback"))
        ctx.set_rollback_only()
    with pytest.raises(CommitOutcomeUnknown), dm.context() as ctx:
        ctx.dal.items.add("tea")
        transaction.on_commit(lambda: log.append("after a failed commit"))
        ctx.before_commit(cut if database == "postgres" else lambda: connection.connection.close())
    with dm.context() as ctx:
        ctx.dal.items.add("tea")
    assert log == []


@pytest.mark.parametrize("robust", [False, True])
def test_19_an_error_in_one_changes_nothing(database: str, dm: DataManager[Any, Any], robust: bool) -> None:
    def fails() -> None:
        raise ZeroDivisionError

    with dm.context() as ctx:
        ctx.dal.items.add("tea")
        transaction.on_commit(fails, robust=robust)
    assert ctx.outcome == "committed"
    assert names() == ["tea"]


# --- Threads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
def test_a_connection_of_another_thread_is_rolled_back_and_told(
    database: str, dm: DataManager[Any, Any], fails: bool
) -> None:
    context = dm.context()
    go_on = threading.Event()
    counts: list[int] = []

    def work() -> None:
        context.dal.items.add("tea")
        added.set()
        go_on.wait(5)
        counts.append(Item.objects.count())  # its connection is as good as new
        connection.close()

    added = threading.Event()
    error: type[Exception] = ZeroDivisionError if fails else ResourceError
    with pytest.raises(error), context:
        thread = threading.Thread(target=bind(work))
        thread.start()
        assert added.wait(5)
        if fails:
            raise ZeroDivisionError
    go_on.set()
    thread.join()
    assert context.outcome == "rolled_back"
    assert counts == [0]


def in_threads(work: Callable[[str], Any]) -> list[BaseException | None]:
    """What two threads that are bound to the current context end with."""

    def end(name: str) -> BaseException | None:
        try:
            work(name)
        except Exception as error:
            return error
        finally:
            connection.close()
        return None

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(bind(end), ["coffee", "milk"]))


def test_another_thread_is_refused_as_its_connection_is_in_no_transaction(
    database: str, dm: DataManager[Any, Any]
) -> None:
    def nested(name: str) -> None:
        with dm.require_active_context().nested():
            pass

    with dm.context() as ctx:
        ctx.dal.items.add("tea")
        for work in (ctx.dal.items.add, nested):
            for error in in_threads(work):
                assert isinstance(error, ResourceError)
                assert "contexts of their own" in str(error)
        ctx.set_rollback_only()
    assert names() == []


@pytest.mark.parametrize("over", ["wsgi", "asgi"])
def test_an_error_answer_keeps_nothing_of_the_threads_of_a_view(
    database: str, dm: DataManager[Any, Any], over: str
) -> None:
    def bound(request: Any) -> HttpResponse:
        request.dal.items.add("tea")
        in_threads(request.dal.items.add)
        return HttpResponse(status=400)

    async def insensitive(request: Any) -> HttpResponse:
        await sync_to_async(request.dal.items.add)("tea")
        with contextlib.suppress(ResourceError):
            await sync_to_async(request.dal.items.add, thread_sensitive=False)("coffee")
        return HttpResponse(status=400)

    for view in (bound, insensitive):
        with serving(dm, view, over=over) as send:
            assert send().status == 400
        assert names() == []


def test_async_code_goes_through_sync_to_async(database: str, dm: DataManager[Any, Any]) -> None:
    async def use() -> None:
        async with dm.context() as ctx:
            await sync_to_async(ctx.dal.items.add)("tea")
            with pytest.raises(ResourceError, match="sync_to_async"):
                ctx.django.objects(Item)
            with pytest.raises(ResourceError, match="sync_to_async"):
                async with ctx.nested():
                    pass

    async_to_sync(use)()
    assert names() == ["tea"]


@pytest.mark.parametrize(
    "run",
    [lambda main, *arguments: asyncio.run(main(*arguments)), lambda main, *arguments: async_to_sync(main)(*arguments)],
)
def test_an_async_context_ends_in_the_thread_of_sync_to_async(
    dm: DataManager[Any, Any], run: Any, tmp_path: Path
) -> None:
    hooks: list[list[str]] = []

    async def use(veto: bool) -> Any:
        async with dm.context() as ctx:
            await sync_to_async(ctx.dal.items.add)(f"tea {veto}")
            await sync_to_async(transaction.on_commit)(lambda: hooks.append(names()))
            if veto:
                ctx.set_rollback_only()
        await sync_to_async(forget_connections)()
        return ctx.outcome

    with databases(default=sqlite(tmp_path / "django.db")):
        create_tables()
        assert run(use, True) == "rolled_back"
        assert run(use, False) == "committed"
        assert names() == ["tea False"]
    assert hooks == [["tea False"]]


# --- What services end ----------------------------------------------------------------------------------------------


def test_what_a_service_has_committed_is_partial_if_the_context_rolls_back(
    database: str, dm: DataManager[Any, Any]
) -> None:
    with dm.context() as ctx:
        ctx.dal.items.add("tea")
        execute("COMMIT")
        ctx.set_rollback_only()
    assert ctx.outcome == "partial"
    assert [record.type for record in ctx.outcome.errors] == [AlreadyCommittedError]
    assert names() == ["tea"]
    assert connection.get_autocommit()
    assert connection.execute_wrappers == []


def test_what_a_service_has_committed_is_kept_by_a_commit(database: str, dm: DataManager[Any, Any]) -> None:
    with dm.context() as ctx:
        ctx.dal.items.add("tea")
        execute("/* mine */ commit")
        ctx.dal.items.add("coffee")
    assert ctx.outcome == "committed"
    assert names() == ["coffee", "tea"]


@pytest.mark.parametrize("and_then", [True, False])
def test_what_a_service_has_rolled_back_cannot_commit(database: str, dm: DataManager[Any, Any], and_then: bool) -> None:
    context = dm.context()
    with pytest.raises(RollbackOnlyError, match="a service rolled it back"), context:
        context.dal.items.add("tea")
        execute("ROLLBACK")
        if and_then and database == "postgres":  # SQLite is in autocommit mode then
            context.dal.items.add("coffee")
    assert context.outcome == "rolled_back"
    assert names() == []


def test_a_commit_that_answers_rollback_has_rolled_back(dm: DataManager[Any, Any]) -> None:
    with postgres():
        context = dm.context()
        with pytest.raises(RollbackOnlyError, match="a service rolled it back"), context:
            context.dal.items.add("tea")
            with contextlib.suppress(DatabaseError):
                execute("SELECT * FROM nowhere")
            execute("COMMIT")
        assert context.outcome == "rolled_back"
        assert names() == []


def test_an_end_by_the_driver_is_neither_called_kept_nor_undone(database: str, dm: DataManager[Any, Any]) -> None:
    context = dm.context()
    with pytest.raises(RollbackOnlyError), context:
        context.dal.items.add("tea")
        connection.connection.commit()
    assert context.outcome == "partial"
    assert names() == ["tea"]


def test_a_savepoint_is_none_any_more_after_it(database: str, dm: DataManager[Any, Any]) -> None:
    context = dm.context()
    with pytest.raises(RollbackOnlyError, match="a service rolled it back"), context:
        context.dal.items.add("tea")
        with context.nested():
            execute("ROLLBACK")
    assert context.outcome == "rolled_back"
    assert names() == []


def test_a_nested_block_that_a_service_has_committed_cannot_end(database: str, dm: DataManager[Any, Any]) -> None:
    context = dm.context()
    with pytest.raises(DatabaseError), context:
        context.dal.items.add("tea")
        with context.nested():
            execute("COMMIT")
    assert context.outcome == "partial"
    assert names() == ["tea"]


def test_after_a_nested_block_that_was_undone_whole_a_rollback_of_its_service_counts_no_more(
    database: str, dm: DataManager[Any, Any]
) -> None:
    with dm.context() as ctx:
        with pytest.raises(Failure), ctx.nested():
            ctx.dal.items.add("inside")
            execute("ROLLBACK")
            raise Failure
        ctx.dal.items.add("after")
    assert ctx.outcome == "committed"
    assert names() == ["after"]


@pytest.fixture
def on_mariadb(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with mariadb(monkeypatch):
        yield


@pytest.mark.parametrize("statement", ["CREATE TABLE other (id integer)", "/* mine */ commit", "START TRANSACTION"])
@pytest.mark.usefixtures("on_mariadb")
def test_mariadb_commits_before_ddl(dm: DataManager[Any, Any], statement: str) -> None:
    for expected in ("partial", "committed"):
        with dm.context() as ctx:
            ctx.dal.items.add(expected)
            execute(statement)
            if expected == "partial":
                ctx.set_rollback_only()
        assert ctx.outcome == expected
        execute("DROP TABLE IF EXISTS other")
    assert names() == ["committed", "partial"]


@pytest.mark.usefixtures("on_mariadb")
def test_what_ends_no_transaction_on_mariadb_is_let_be(dm: DataManager[Any, Any]) -> None:
    with dm.context() as ctx:
        ctx.dal.items.add("tea")
        execute("CREATE TEMPORARY TABLE other (id integer)")
        with pytest.raises(Failure), ctx.nested():
            raise Failure
        with ctx.nested():
            ctx.dal.items.add("coffee")
        ctx.set_rollback_only()
    assert ctx.outcome == "rolled_back"
    assert names() == []


@pytest.mark.parametrize(
    ("statement", "why"),
    [("ROLLBACK", "a service rolled it back"), ("SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213", "an earlier error")],
    ids=["rollback", "deadlock"],
)
@pytest.mark.usefixtures("on_mariadb")
def test_what_is_rolled_back_on_mariadb_cannot_commit(dm: DataManager[Any, Any], statement: str, why: str) -> None:
    context = dm.context()
    with pytest.raises(RollbackOnlyError, match=why), context:
        context.dal.items.add("tea")
        with contextlib.suppress(DatabaseError):
            execute(statement)
    assert context.outcome == "rolled_back"
    assert names() == []


# --- Behind the middleware ------------------------------------------------------------------------------------------


def add(request: Any) -> HttpResponse:
    request.dal.items.add("tea")
    return HttpResponse("added", status=int(request.GET.get("status", 200)))


@pytest.mark.parametrize("over", ["wsgi", "asgi"])
def test_49_a_sync_view_commits_in_its_own_thread(database: str, dm: DataManager[Any, Any], over: str) -> None:
    with serving(dm, add, over=over) as send:
        assert send(query="status=409").status == 409
        assert names() == []
        assert send().body == b"added"
    assert names() == ["tea"]


@pytest.mark.parametrize("over", ["wsgi", "asgi"])
def test_61_a_service_error_rolls_it_back(database: str, dm: DataManager[Any, Any], over: str) -> None:
    def view(request: Any) -> HttpResponse:
        add(request)
        raise NotFound("item 7")

    with serving(dm, view, over=over) as send:
        assert send().status == 404
    assert names() == []


@pytest.mark.parametrize("over", ["wsgi", "asgi"])
def test_1_a_failed_commit_is_500(database: str, dm: DataManager[Any, Any], over: str) -> None:
    def view(request: Any) -> HttpResponse:
        add(request)
        with contextlib.suppress(IntegrityError), transaction.atomic(savepoint=False):
            add(request)
        return HttpResponse("added")

    with serving(dm, view, over=over) as send:
        answer = send()
    assert answer.status == 500
    assert isinstance(answer.logged[0], RollbackOnlyError)
    assert names() == []


@pytest.mark.parametrize("over", ["wsgi", "asgi"])
def test_an_async_view_reaches_it_as_it_reaches_the_orm(database: str, dm: DataManager[Any, Any], over: str) -> None:
    async def directly(request: Any) -> HttpResponse:
        return add(request)

    async def in_thread(request: Any) -> HttpResponse:
        return await sync_to_async(add)(request)

    with serving(dm, directly, over=over) as send:
        answer = send()
        assert answer.status == 500
        (error,) = answer.logged
        assert isinstance(error, SynchronousOnlyOperation)
        assert "sync_to_async" in error.__notes__[0]
    with serving(dm, in_thread, over=over) as send:
        assert send(query="status=409").status == 409
        assert names() == []
        assert send().body == b"added"
    assert names() == ["tea"]


@pytest.mark.parametrize("over", ["wsgi", "asgi"])
def test_atomic_requests_is_refused(tmp_path: Path, dm: DataManager[Any, Any], over: str) -> None:
    with databases(default=sqlite(tmp_path / "django.db", ATOMIC_REQUESTS=True)):
        create_tables()
        with serving(dm, add, over=over) as send:
            answer = send()
        assert answer.status == 500
        assert "switch ATOMIC_REQUESTS off" in str(answer.logged[0])
        assert names() == []


@pytest.mark.parametrize("fails", [False, True])
def test_17_an_async_body_commits_in_its_own_context(database: str, dm: DataManager[Any, Any], fails: bool) -> None:
    async def view(request: Any) -> StreamingHttpResponse:
        async def body() -> AsyncIterator[str]:
            async with stream_context(request) as ctx:
                await sync_to_async(ctx.dal.items.add)("tea")
                yield str(await sync_to_async(ctx.dal.items.names)())
                if fails:
                    await sync_to_async(ctx.on_rollback)(forget_connections)  # Django does so if all is well
                    raise Failure

        return StreamingHttpResponse(body())

    with serving(dm, view, over="asgi") as send:
        answer = send()
    assert answer.body == b"['tea']"
    assert [type(error) for error in answer.reported if error] == ([Failure] if fails else [])
    assert names() == ([] if fails else ["tea"])


def test_a_stream_reads_and_writes_in_a_test_case_of_djangos(tmp_path: Path, dm: DataManager[Any, Any]) -> None:
    async def view(request: Any) -> StreamingHttpResponse:
        await sync_to_async(request.dal.items.add)("tea")

        async def body() -> AsyncIterator[str]:
            async with stream_context(request) as ctx:
                await sync_to_async(ctx.dal.items.add)("coffee")
                yield "done"

        return StreamingHttpResponse(body())

    class Case(TestCase):
        async def test(self) -> None:
            answer: Any = await AsyncClient().get("/")
            assert [part async for part in answer] == [b"done"]
            assert [item.name async for item in Item.objects.order_by("name")] == ["coffee", "tea"]

    with databases(default=sqlite(tmp_path / "django.db")):
        create_tables()
        with serving(dm, view, over="asgi"), override_settings(ALLOWED_HOSTS=["*"]):
            run(Case("test"))
        assert names() == []


def test_a_test_case_of_djangos_survives_a_context_that_ends_in_another_thread(
    tmp_path: Path, dm: DataManager[Any, Any]
) -> None:
    class Case(TestCase):
        def test(self) -> None:
            Item.objects.create(name="fixture")
            context = dm.context().open()
            context.dal.items.add("tea")
            with ThreadPoolExecutor(1) as pool, self.assertRaisesMessage(ResourceError, "another"):
                pool.submit(context.close).result()
            context.leave()
            assert context.outcome == "rolled_back"
            assert Item.objects.get().name == "fixture"

    with databases(default=sqlite(tmp_path / "django.db")):
        create_tables()
        run(Case("test"))
        assert names() == []


def run(case: TestCase) -> None:
    result = unittest.TestResult()
    unittest.TestSuite([case]).run(result)
    assert [*result.errors, *result.failures] == []


def test_it_works_in_a_test_case_of_djangos(tmp_path: Path, dm: DataManager[Any, Any]) -> None:
    hooks: list[str] = []

    class Case(TestCase):
        def test(self) -> None:
            with dm.context() as ctx:
                ctx.dal.items.add("tea")
                transaction.on_commit(lambda: hooks.append("never"))
            assert ctx.outcome == "committed"
            with dm.context() as ctx:
                ctx.dal.items.add("coffee")
                ctx.set_rollback_only()
            with self.captureOnCommitCallbacks(execute=True), dm.context() as ctx:
                ctx.dal.items.add("milk")
                transaction.on_commit(lambda: hooks.append("captured"))
            assert list(Item.objects.values_list("name", flat=True).order_by("name")) == ["milk", "tea"]

    with databases(default=sqlite(tmp_path / "django.db")):
        create_tables()
        run(Case("test"))
        assert hooks == ["captured"]
        assert names() == []


def test_it_leaves_no_cyclic_garbage(tmp_path: Path, dm: DataManager[Any, Any]) -> None:
    import gc

    def use() -> None:
        with dm.context() as ctx:
            assert ctx.django.using == "default"

    with databases(default=sqlite(tmp_path / "django.db")):
        use()
        gc.collect()
        gc.disable()
        try:
            use()
            assert gc.collect() == 0
        finally:
            gc.enable()


def test_it_is_described_by_its_name(dm: DataManager[Any, Any]) -> None:
    assert dm.describe()["resources"]["django"]["factory"] == django_polydatum.OrmTransaction.__name__
