"""`django_polydatum.orm`: Django's own connection takes part in the context's transaction."""

from __future__ import annotations

import contextlib
import threading
import unittest
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DEFAULT_DB_ALIAS, DatabaseError, IntegrityError, connection, models, transaction
from django.http import HttpResponse
from django.test import TestCase

import django_polydatum
from django_polydatum import orm
from polydatum import (
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
from tests.integration.django_serving import databases, serving, sqlite
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
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE SCHEMA {schema}")
        try:
            create_tables()
            yield
        finally:
            connection.close()
            with connection.cursor() as cursor:
                cursor.execute(f"DROP SCHEMA {schema} CASCADE")


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
    with pytest.raises(RollbackOnlyError, match="default"), context:
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
        result = unittest.TestResult()
        unittest.TestSuite([Case("test")]).run(result)
        assert [*result.errors, *result.failures] == []
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
