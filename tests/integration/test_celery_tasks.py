"""What Celery's adapter owes beyond the others: retries, calls, limits, and the ways to define a task."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

import pydantic
import pytest
from celery import Celery, chain, shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.signals import task_success

from celery_polydatum import PolydatumTask
from polydatum import DataManager
from polydatum.testing.shop import Shop
from tests.integration.celery_running import Ended, apply, celery_app, sent, work

Run = Callable[..., Ended]


@pytest.fixture
def app(shop: Shop) -> Celery:
    return celery_app(shop)


@pytest.fixture(params=[apply, work])
def run(request: pytest.FixtureRequest) -> Run:
    run: Run = request.param
    return run


@pytest.fixture
def successes() -> Any:
    names: list[str] = []

    def note(sender: Any, **_: Any) -> None:
        names.append(sender.name)

    task_success.connect(note)
    yield names
    task_success.disconnect(note)


def header(message: Any, name: str) -> Any:
    return message.headers[name]


# --- 53: the commit fails ---------------------------------------------------------------------------------------------


def test_53_a_failed_commit_is_the_result_and_nothing_follows(shop: Shop, app: Celery, successes: list[str]) -> None:
    @app.task(name="add", bind=True)
    def add(self: Any) -> None:
        self.dal.items.add("tea")

    @app.task(name="next")
    def next_step(result: Any) -> None: ...

    shop.fail("db commit", OSError("disk full"))
    follows = {"callbacks": [next_step.s()], "chain": [next_step.s()]}

    ended = work(add, **follows)

    assert ended.state == "FAILURE"
    assert repr(ended.result) == "OSError('disk full')"
    assert sent(app) == []
    assert successes == []

    del shop.failures["db commit"]
    assert work(add, **follows).state == "SUCCESS"
    assert len(sent(app)) == 2
    assert successes == ["add"]
    assert shop.names == ["tea"]


@pytest.mark.parametrize("is_eager", [True, False])
def test_53_a_failed_commit_is_retried_by_autoretry_for(shop: Shop, app: Celery, is_eager: bool) -> None:
    @app.task(name="add", bind=True, autoretry_for=(OSError,), retry_backoff=False, default_retry_delay=0)
    def add(self: Any) -> int:
        self.dal.items.add("tea")
        if self.request.retries:
            del shop.failures["db commit"]
        return self.request.retries  # type: ignore[no-any-return]

    shop.fail("db commit", OSError("disk full"))

    if is_eager:
        assert apply(add) == ("SUCCESS", 1)
    else:
        assert work(add, id="one").state == "RETRY"
        assert shop.names == []
        (message,) = sent(app)
        assert (header(message, "id"), header(message, "retries")) == ("one", 1)
        assert work(add, id="one", retries=1) == ("SUCCESS", 1)
    assert shop.names == ["tea"]


# --- 54: Retry, Ignore, Reject, replace() -----------------------------------------------------------------------------


def test_54_a_retry_is_sent_when_all_has_been_rolled_back(shop: Shop, app: Celery) -> None:
    seen: list[Any] = []

    @app.task(name="again", bind=True)
    def again(self: Any, name: str) -> None:
        context = shop.here()
        seen.append((context.meta.task_id, context.meta.retries, context.meta.task_name))
        self.dal.items.add(name)
        context.on_rollback(lambda: seen.append(len(sent(app))))
        raise self.retry(countdown=0, kwargs={"name": "tea"}, args=())

    assert work(again, "coffee", id="again-1").state == "RETRY"
    assert seen == [("again-1", 0, "again"), 0]
    assert shop.names == []
    (message,) = sent(app)
    assert (header(message, "id"), header(message, "retries")) == ("again-1", 1)
    assert message.decode()[:2] == [[], {"name": "tea"}]


@pytest.mark.parametrize("how", ["by itself", "by autoretry_for"])
def test_54_a_retry_that_ends_at_once_is_the_result(shop: Shop, app: Celery, monkeypatch: Any, how: str) -> None:
    """Celery stores RETRY when it has sent the message; another worker may be done by then."""
    options = {} if how == "by itself" else {"autoretry_for": (OSError,), "retry_backoff": False}

    @app.task(name="again", bind=True, default_retry_delay=0, **options)
    def again(self: Any) -> None:
        if self.request.retries:
            raise LookupError("gone for good")
        if how == "by itself":
            raise self.retry(exc=OSError("gone"))
        raise OSError("gone")

    seen: list[Any] = []
    task_id = f"at once, {how}"

    def send_task(*args: Any, **options: Any) -> None:
        waiting = app.AsyncResult(task_id)
        seen.append((waiting.state, repr(waiting.result), "OSError" in str(waiting.traceback)))
        in_another_worker = threading.Thread(target=work, args=(again,), kwargs={"id": task_id, "retries": 1})
        in_another_worker.start()
        in_another_worker.join()

    monkeypatch.setattr(app, "send_task", send_task)
    ended = work(again, id=task_id)
    assert seen == [("RETRY", "OSError('gone')", True)]
    assert (ended.state, repr(ended.result)) == ("FAILURE", "LookupError('gone for good')")


def test_54_a_retry_is_sent_though_its_state_cannot_be_stored(
    shop: Shop, app: Celery, monkeypatch: Any, caplog: Any
) -> None:
    @app.task(name="again", bind=True)
    def again(self: Any) -> None:
        raise self.retry(countdown=0)

    tries = iter([ConnectionRefusedError("the result backend is down")])

    def store_result(*args: Any, **options: Any) -> None:
        for error in tries:
            raise error

    monkeypatch.setattr(app.backend, "store_result", store_result)
    work(again)
    assert len(sent(app)) == 1
    assert "RETRY could not be stored" in caplog.text


def test_54_a_retry_that_cannot_be_sent_is_a_failure(shop: Shop, app: Celery, monkeypatch: Any) -> None:
    @app.task(name="again", bind=True)
    def again(self: Any) -> None:
        self.dal.items.add("tea")
        raise self.retry(countdown=0)

    def no_broker(*args: Any, **options: Any) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(app, "send_task", no_broker)
    ended = work(again)
    assert (ended.state, repr(ended.result)) == ("FAILURE", "ConnectionRefusedError()")
    assert "db saw Retry" in shop.log


def test_54_a_retry_that_is_not_thrown_follows_the_commit(shop: Shop, app: Celery) -> None:
    @app.task(name="again", bind=True)
    def again(self: Any) -> None:
        self.dal.items.add("tea")
        self.retry(countdown=0, throw=False)
        assert sent(app) == []

    assert work(again).state == "SUCCESS"
    assert len(sent(app)) == 1
    assert shop.names == ["tea"]

    shop.fail("db commit", OSError("disk full"))
    assert work(again).state == "FAILURE"
    assert sent(app) == []


def test_54_each_attempt_has_a_context_of_its_own(shop: Shop, app: Celery) -> None:
    @app.task(name="again", bind=True, max_retries=2)
    def again(self: Any) -> int:
        context = shop.here()
        self.dal.items.add(f"tea {context.meta.retries}")
        if context.meta.retries < 2:
            raise self.retry(countdown=0)
        return len({id(context) for context in shop.contexts})

    assert apply(again) == ("SUCCESS", 3)
    assert shop.names == ["tea 2"]
    assert shop.outcomes == ["rolled_back", "rolled_back", "committed"]


def test_54_no_more_retries_is_a_failure(shop: Shop, app: Celery, run: Run) -> None:
    @app.task(name="again", bind=True, max_retries=0)
    def again(self: Any) -> None:
        self.dal.items.add("tea")
        raise self.retry(exc=OSError("gone"))

    ended = run(again)
    assert (ended.state, repr(ended.result)) == ("FAILURE", "OSError('gone')")
    assert shop.names == []
    assert sent(app) == []


@pytest.mark.parametrize(("error", "state"), [(Ignore(), "PENDING"), (Reject("no", requeue=False), "PENDING")])
def test_54_ignore_and_reject_roll_back(shop: Shop, app: Celery, error: Exception, state: str) -> None:
    @app.task(name="leave", bind=True)
    def leave(self: Any) -> None:
        self.dal.items.add("tea")
        raise error

    assert work(leave, on_reject=lambda *args: None).state == state
    assert shop.names == []
    assert f"db saw {type(error).__name__}" in shop.log


def test_54_commit_on_error_keeps_what_was_done_before_ignore(shop: Shop, app: Celery) -> None:
    @app.task(name="leave", bind=True)
    def leave(self: Any) -> None:
        self.dal.items.add("tea")
        shop.here().commit_on_error()
        self.update_state(state="LEFT")
        raise Ignore

    assert work(leave).state == "LEFT"
    assert shop.names == ["tea"]


def test_54_a_replaced_task_rolls_back_before_its_replacement(shop: Shop, app: Celery, run: Run) -> None:
    @app.task(name="other", bind=True)
    def other(self: Any) -> list[str]:
        names: list[str] = self.dal.items.names()
        self.dal.items.add("coffee")
        return names

    @app.task(name="replaced", bind=True)
    def replaced(self: Any) -> Any:
        self.dal.items.add("tea")
        raise self.replace(other.s())

    if run is apply:
        assert run(replaced) == ("SUCCESS", [])
    else:
        assert work(replaced, id="replaced-1").state == "PENDING"
        (message,) = sent(app)
        assert (header(message, "id"), header(message, "task")) == ("replaced-1", "other")
        assert work(other, id="replaced-1") == ("SUCCESS", [])
    assert "db saw Ignore" in shop.log
    assert shop.names == ["coffee"]


def test_54_replacing_outside_of_a_context_is_celerys(shop: Shop, app: Celery) -> None:
    @app.task(name="other")
    def other() -> None: ...

    with pytest.raises(Ignore):
        other.on_replace(other.s())
    assert len(sent(app)) == 1


# --- 55: eager and direct calls ---------------------------------------------------------------------------------------


def test_55_an_eager_task_leaves_the_context_around_it_alone(shop: Shop) -> None:
    app = celery_app(shop, task_always_eager=True)

    @app.task(name="add", bind=True)
    def add(self: Any) -> None:
        self.dal.items.add("tea")
        assert self.dal.items.names() == ["tea"]
        raise ZeroDivisionError

    with shop.dm.context() as ctx:
        assert add.delay().state == "FAILURE"
        assert shop.dm.get_active_context() is ctx
        assert ctx.dal.items.names() == []
        ctx.dal.items.add("coffee")
    assert shop.names == ["coffee"]


def test_55_a_direct_call_takes_part_in_an_open_context(shop: Shop, app: Celery) -> None:
    @app.task(name="add", bind=True)
    def add(self: Any, name: str) -> str:
        assert self.request.called_directly
        self.dal.items.add(name)
        return str(shop.here().meta.task_name)

    with shop.dm.context({"task_name": "around"}) as ctx:
        assert add("tea") == "around"
        assert add.run("coffee") == "around"
        assert ctx.dal.items.names() == ["coffee", "tea"]
        ctx.set_rollback_only()
    assert shop.names == []


def test_55_a_direct_call_outside_opens_one(shop: Shop, app: Celery) -> None:
    @app.task(name="add", bind=True)
    def add(self: Any, error: Any = None) -> str:
        self.dal.items.add("tea")
        if error is not None:
            raise error
        return str(shop.here().meta.task_name)

    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as raised:
        add(error)
    assert raised.value is error
    assert shop.names == []
    assert add() == "add"
    assert add.run() == "add"
    assert shop.names == ["tea", "tea"]
    assert shop.is_left


# --- 57: the soft limit -----------------------------------------------------------------------------------------------


def test_57_a_soft_limit_in_the_body_rolls_back(shop: Shop, app: Celery, run: Run) -> None:
    @app.task(name="slow", bind=True)
    def slow(self: Any) -> None:
        self.dal.items.add("tea")
        raise SoftTimeLimitExceeded(1)

    ended = run(slow)
    assert (ended.state, type(ended.result).__name__) == ("FAILURE", "SoftTimeLimitExceeded")
    assert shop.names == []


def test_57_a_soft_limit_in_the_commit_fails_the_task(shop: Shop, app: Celery, run: Run) -> None:
    @app.task(name="slow", bind=True)
    def slow(self: Any) -> None:
        assert shop.here().cache == {}
        self.dal.items.add("tea")

    shop.fail("db commit", SoftTimeLimitExceeded(1))
    ended = run(slow)
    assert (ended.state, type(ended.result).__name__) == ("FAILURE", "SoftTimeLimitExceeded")
    assert {"db close", "cache rollback", "cache close"} <= set(shop.log)
    assert shop.names == []
    assert shop.outcomes == ["rolled_back"]


# --- 58: the ways to define a task ------------------------------------------------------------------------------------


class Adding(PolydatumTask):
    name = "adding"

    def run(self, name: str) -> int:
        self.dal.items.add(name)
        return id(self.polydatum_configuration.data_manager.get_active_context())


class AddingMore(Adding):
    name = "adding more"

    def run(self, name: str) -> int:
        assert super().run(name) == super().run(f"more {name}")
        return super().run(f"most {name}")


@shared_task(name="shared", base=PolydatumTask, bind=True)
def shared(self: Any, name: str) -> int:
    self.dal.items.add(name)
    return len(name)


class Order(pydantic.BaseModel):
    name: str


class Measure:
    def __call__(self, name: str) -> int:
        return len(name)


class Measuring(PolydatumTask):
    name = "measuring"
    run = Measure()


class Mixin:
    def run(self, name: str) -> int:
        return len(name)


class Mixed(Mixin, PolydatumTask):
    name = "mixed"


def test_58_super_run_takes_part_in_the_one_context(shop: Shop, app: Celery, run: Run) -> None:
    task = app.register_task(AddingMore())
    shop.dm.register_context_middleware(shop.middleware("mw"))

    assert run(task, "tea").state == "SUCCESS"
    assert shop.log.count("mw begin") == shop.log.count("db commit") == 1
    assert isinstance(task("coffee"), int)
    assert shop.log.count("mw begin") == shop.log.count("db commit") == 2
    assert len(shop.names) == 6


def test_58_a_run_that_is_inherited_from_elsewhere_has_a_context(shop: Shop, app: Celery, run: Run) -> None:
    shop.dm.register_context_middleware(shop.middleware("mw"))
    assert run(app.register_task(Mixed()), "tea") == ("SUCCESS", 3)
    assert shop.log == ["mw begin", "mw commit"]


def test_58_shared_tasks_and_models_and_callables_work(shop: Shop, app: Celery, run: Run) -> None:
    @app.task(name="order", bind=True, pydantic=True)
    def order(self: Any, order: Order) -> Order:
        self.dal.items.add(order.name)
        return order

    assert run(app.tasks["shared"], "tea") == ("SUCCESS", 3)
    assert run(order, {"name": "coffee"}) == ("SUCCESS", {"name": "coffee"})
    assert run(app.register_task(Measuring()), "tea") == ("SUCCESS", 3)
    assert shop.names == ["coffee", "tea"]


def test_58_a_task_looks_as_it_did(shop: Shop) -> None:
    def add(self: Any, name: str, *, times: int = 1) -> None:
        """Add it."""

    def count(name: str, times: int = 2) -> None:
        """Count it."""

    plain, ours = celery_app(shop), celery_app(shop)
    del plain.Task  # Celery's own again
    for app in (plain, ours):
        app.task(name="add", bind=True)(add)
        app.task(name="count", autoretry_for=(OSError,))(count)
    for name in ("add", "count"):
        was, now = plain.tasks[name], ours.tasks[name]
        assert not isinstance(was, PolydatumTask)
        assert isinstance(now, PolydatumTask)
        for one, other in ((was, now), (was.run, now.run)):
            assert inspect.signature(one) == inspect.signature(other)
            assert one.__name__ == other.__name__
            assert one.__doc__ == other.__doc__
        with pytest.raises(TypeError):
            now.delay("a", "b", "c", "d")
    assert type(ours.tasks["add"]).run.__get__ is not None


def test_58_a_chain_runs_each_step_in_a_context_of_its_own(shop: Shop) -> None:
    app = celery_app(shop, task_always_eager=True)

    @app.task(name="add", bind=True)
    def add(self: Any, before: int, name: str) -> int:
        shop.here()
        self.dal.items.add(name)
        return before + 1

    assert chain(add.s(0, "tea"), add.s("coffee")).delay().get() == 2
    assert shop.names == ["coffee", "tea"]
    assert len({id(context) for context in shop.contexts}) == 2


def test_58_an_attribute_of_a_task_names_another_manager(shop: Shop) -> None:
    app = celery_app()

    @app.task(name="mine", data_manager=shop.dm, bind=True)
    def mine(self: Any) -> bool:
        return self.dal is shop.dm.get_dal()

    @app.task(name="other", data_manager=DataManager(), bind=True)
    def other(self: Any) -> bool:
        return self.dal is shop.dm.get_dal()

    assert apply(mine) == ("SUCCESS", True)
    assert apply(other) == ("SUCCESS", False)
