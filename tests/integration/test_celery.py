"""What all adapters owe, by Celery's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from celery import Celery

from polydatum import Context, bind, lazy
from polydatum.testing.shop import Backend, Shop
from tests.integration.celery_running import Ended, apply, celery_app, work

Run = Callable[..., Ended]


@pytest.fixture
def app(shop: Shop) -> Celery:
    return celery_app(shop)


@pytest.fixture(params=[apply, work])
def run(request: pytest.FixtureRequest) -> Run:
    run: Run = request.param
    return run


@pytest.fixture
def add(app: Celery, shop: Shop) -> Any:
    @app.task(name="add", bind=True)
    def add(self: Any, error: Any = None) -> list[str]:
        shop.here()
        self.dal.items.add("tea")
        if error is not None:
            raise error
        names: list[str] = self.dal.items.names()
        return names

    return add


@pytest.fixture
def add_both(app: Celery, shop: Shop) -> Any:
    """It opens the cache after the database."""

    @app.task(name="add_both", bind=True)
    def add_both(self: Any, error: Any = None) -> None:
        self.dal.items.add("tea")
        assert shop.here().cache == {}
        if error is not None:
            raise error

    return add_both


def test_it_commits_and_then_succeeds(shop: Shop, add: Any, run: Run) -> None:
    assert run(add) == ("SUCCESS", ["tea"])
    assert shop.log == ["db open", "db commit", "db close"]
    assert shop.names == ["tea"]
    assert shop.outcomes == ["committed"]
    assert shop.is_left


def test_03_an_exception_rolls_back_and_fails_the_task(
    shop: Shop, add: Any, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    error = ZeroDivisionError("no")
    shop.fail("db rollback", RuntimeError("teardown"))

    ended = run(add, error)

    assert ended.state == "FAILURE"
    assert repr(ended.result) == repr(error)
    assert "db saw ZeroDivisionError" in shop.log
    assert shop.names == []
    assert shop.outcomes == ["rolled_back"]
    assert error in [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert shop.is_left


def test_07_resources_open_on_use_and_once(shop: Shop, app: Celery, run: Run) -> None:
    @app.task(name="nothing")
    def nothing() -> None: ...

    assert run(nothing).state == "SUCCESS"
    assert shop.log == []

    @app.task(name="twice", bind=True)
    def twice(self: Any) -> list[list[str]]:
        with ThreadPoolExecutor(10) as pool:
            return list(pool.map(bind(lambda _: self.dal.items.names()), range(10)))

    assert run(twice) == ("SUCCESS", [[]] * 10)
    assert shop.log.count("db open") == 1


def test_08_middleware_unwinds_in_reverse_then_resources(shop: Shop, add_both: Any, run: Run) -> None:
    shop.dm.register_context_middleware(shop.middleware("outer"), shop.middleware("inner"))

    assert run(add_both).state == "SUCCESS"
    assert shop.log == [
        *("outer begin", "inner begin", "db open", "cache open"),
        *("inner commit", "outer commit", "cache commit", "cache close", "db commit", "db close"),
    ]


def test_09_67_a_generator_that_raises_after_its_yield_is_a_failed_commit(shop: Shop, add_both: Any, run: Run) -> None:
    shop.fail("cache commit", RuntimeError("flush"))

    ended = run(add_both)

    assert ended.state == "FAILURE"
    assert repr(ended.result) == "RuntimeError('flush')"
    assert shop.log[-2:] == ["db rollback", "db close"]
    assert shop.names == []
    assert shop.outcomes == ["rolled_back"]


def test_09_a_backend_that_cannot_close_after_its_commit_changes_nothing(
    shop: Shop, app: Celery, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    backend = Backend(shop.log, RuntimeError("cannot close"))
    shop.dm.register_resources(backend=lambda context: backend)

    @app.task(name="add", bind=True)
    def add(self: Any) -> None:
        self.dal.items.add("tea")
        assert shop.here().backend is backend

    assert run(add).state == "SUCCESS"
    assert shop.log[-1] == "db close"
    assert shop.names == ["tea"]
    assert shop.outcomes == ["committed"]
    assert len([record for record in caplog.records if "cannot close" in str(record.exc_info or record)]) == 1


def test_10_a_failing_rollback_is_a_note_on_the_original(
    shop: Shop, add_both: Any, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    error = ZeroDivisionError("original")
    shop.fail("cache rollback", RuntimeError("cannot roll back"))

    with caplog.at_level(logging.DEBUG, "polydatum"):
        ended = run(add_both, error)

    assert ended.state == "FAILURE"
    assert repr(ended.result) == repr(error)
    assert any("cannot roll back" in note for note in error.__notes__)
    assert any(record.name.startswith("polydatum") for record in caplog.records)
    assert {"db close", "cache close"} <= set(shop.log)
    assert shop.names == []


def test_11_a_middleware_that_fails_on_entry_keeps_the_task_from_running(shop: Shop, add: Any, run: Run) -> None:
    shop.dm.register_context_middleware(shop.middleware("outer"), shop.middleware("inner"))
    shop.fail("inner begin", RuntimeError("cannot begin"))

    ended = run(add)

    assert ended.state == "FAILURE"
    assert repr(ended.result) == "RuntimeError('cannot begin')"
    assert shop.log == ["outer begin", "inner begin", "outer abort RuntimeError"]
    assert shop.is_left


def test_14_the_user_is_loaded_when_read_and_once(shop: Shop) -> None:
    loaded: list[Any] = []

    def load_user(user_id: Any) -> str:
        loaded.append(user_id)
        return f"user {user_id}"

    app = celery_app(shop, polydatum_load_user=load_user)

    @app.task(name="who")
    def who(asks: bool) -> list[Any]:
        meta = shop.here().meta
        return [meta.user, meta.user] if asks else [meta.user_id]

    header = {"polydatum": {"user_id": 7}}
    assert work(who, False, headers=header) == ("SUCCESS", [7])
    assert loaded == []
    assert work(who, True, headers=header) == ("SUCCESS", ["user 7", "user 7"])
    assert loaded == [7]
    with shop.dm.context({"user": lazy(lambda: "ann")}):
        assert apply(who, True) == ("SUCCESS", ["user ann", "user ann"])


def test_16_a_task_within_a_task_has_a_context_of_its_own(shop: Shop, app: Celery, add: Any, run: Run) -> None:
    shop.fail("db commit", RuntimeError("disk full"))

    @app.task(name="outer")
    def outer() -> list[str]:
        context = shop.here()
        inner = add.apply()
        assert shop.dm.get_active_context() is context
        assert context.state == "open"
        assert shop.contexts[-1] is not context
        return [inner.state, str(inner.result)]

    assert run(outer) == ("SUCCESS", ["FAILURE", "disk full"])
    assert shop.outcomes == ["committed", "rolled_back"]


def test_19_hooks_run_once_and_change_nothing(shop: Shop, app: Celery, run: Run) -> None:
    @app.task(name="hooks", bind=True)
    def hooks(self: Any, fails: bool) -> None:
        context = shop.here()

        def hook() -> None:
            shop.log.append("on_commit")
            raise RuntimeError("hook")

        context.on_commit(hook)
        context.on_rollback(lambda: shop.log.append("on_rollback"))
        self.dal.items.add("tea")
        if fails:
            raise ZeroDivisionError

    assert run(hooks, False).state == "SUCCESS"
    assert run(hooks, True).state == "FAILURE"
    shop.fail("db commit", RuntimeError("disk full"))
    assert run(hooks, False).state == "FAILURE"
    assert [line for line in shop.log if line.startswith("on_")] == ["on_commit", "on_rollback", "on_rollback"]


def swallow(context: Context) -> Iterator[None]:
    try:
        yield
    except:  # noqa: E722 - as in the example that people copy
        pass


def test_62_66_a_swallowed_exception_is_raised_again_and_everything_rolls_back(shop: Shop, add: Any, run: Run) -> None:
    error = ZeroDivisionError("swallowed")
    shop.dm.register_context_middleware(shop.middleware("outer"), swallow)

    ended = run(add, error)

    assert ended.state == "FAILURE"
    assert repr(ended.result) == repr(error)
    assert {"outer abort RolledBack", "db saw RolledBack"} <= set(shop.log)
    assert shop.names == []
    (context,) = shop.contexts
    assert context.outcome == "rolled_back"
    assert context.outcome is not None
    assert context.outcome.suppressed is error


def test_62_a_swallowed_retry_is_a_retry(shop: Shop, app: Celery) -> None:
    shop.dm.register_context_middleware(swallow)

    @app.task(name="again", bind=True)
    def again(self: Any) -> None:
        self.dal.items.add("tea")
        raise self.retry(countdown=0)

    assert work(again).state == "RETRY"
    assert shop.names == []


def test_66_an_interrupt_cannot_be_swallowed(shop: Shop, add: Any) -> None:
    shop.dm.register_context_middleware(swallow)

    with pytest.raises(KeyboardInterrupt):
        work(add, KeyboardInterrupt())

    assert shop.log[-1] == "db close"
    assert shop.names == []
    assert shop.outcomes == ["rolled_back"]
