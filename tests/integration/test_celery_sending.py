"""What is sent from a context: when it has committed, and who sent it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from celery import Celery, chain
from celery.app.task import Context as TaskRequest

from celery_polydatum.senders import sent_by
from polydatum import ContextClosedError, lazy
from polydatum.testing.shop import Shop
from tests.integration.celery_running import apply, celery_app, sent, work


class User(NamedTuple):
    pk: Any


@pytest.fixture
def app(shop: Shop) -> Celery:
    return celery_app(shop, polydatum_load_user=User)


@pytest.fixture
def who(app: Celery, shop: Shop) -> Any:
    @app.task(name="who")
    def who(*ignored: Any) -> Any:
        user = shop.here().meta.user
        return user and user.pk

    return who


def senders(app: Celery) -> list[Any]:
    return [message.headers.get("polydatum", {}).get("user_id") for message in sent(app)]


# --- on commit --------------------------------------------------------------------------------------------------------


def test_it_is_sent_when_the_context_has_committed(shop: Shop, app: Celery, who: Any) -> None:
    with shop.dm.context() as ctx:
        ctx.dal.items.add("tea")
        assert who.delay_on_commit(1) is None
        who.apply_async_on_commit((2,), countdown=5)
        assert sent(app) == []
    assert [message.decode()[0] for message in sent(app)] == [[1], [2]]


def test_it_is_dropped_when_the_context_rolls_back(shop: Shop, app: Celery, who: Any) -> None:
    with shop.dm.context() as ctx:
        who.delay_on_commit()
        ctx.set_rollback_only()
    with pytest.raises(ZeroDivisionError), shop.dm.context():
        who.delay_on_commit()
        raise ZeroDivisionError
    shop.fail("db commit", OSError("disk full"))
    with pytest.raises(OSError), shop.dm.context() as ctx:
        ctx.dal.items.add("tea")
        who.delay_on_commit()
    assert sent(app) == []


@pytest.mark.usefixtures("django_settings")
def test_without_a_context_the_transaction_of_django_decides(tmp_path: Path, app: Celery, who: Any) -> None:
    from django.db import connection, transaction

    from tests.integration.django_serving import databases, sqlite

    who.delay_on_commit(1)  # there is no database
    with databases(default=sqlite(tmp_path / "django.db")):
        who.delay_on_commit(2)
        assert connection.connection is None
        with transaction.atomic():
            who.delay_on_commit(3)
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                who.delay_on_commit("of the savepoint")
                raise ZeroDivisionError
            assert [message.decode()[0] for message in sent(app)] == [[1], [2]]
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            who.delay_on_commit("rolled back")
            raise ZeroDivisionError
        who.delay_on_commit(4)
    assert [message.decode()[0] for message in sent(app)] == [[3], [4]]


def test_a_task_sends_on_its_own_commit(shop: Shop, app: Celery, who: Any) -> None:
    @app.task(name="outer", bind=True)
    def outer(self: Any, fails: bool) -> None:
        self.dal.items.add("tea")
        who.delay_on_commit()
        assert sent(app) == []
        if fails:
            raise self.retry(countdown=0)

    assert work(outer, True).state == "RETRY"
    assert [message.headers["task"] for message in sent(app)] == ["outer"]
    assert work(outer, False, headers={"polydatum": {"user_id": 7}}).state == "SUCCESS"
    assert senders(app) == [7]


def test_without_a_context_it_is_sent_at_once(app: Celery, who: Any) -> None:
    who.delay_on_commit()
    assert len(sent(app)) == 1


def test_in_a_closed_context_it_is_refused(shop: Shop, app: Celery, who: Any) -> None:
    context = shop.dm.context().open()
    context.close(keep_current=True)
    try:
        with pytest.raises(ContextClosedError):
            who.delay_on_commit()
    finally:
        context.leave()


def test_arguments_that_do_not_fit_are_refused_where_they_are_written(shop: Shop, app: Celery) -> None:
    @app.task(name="add")
    def add(name: str) -> None: ...

    with shop.dm.context(), pytest.raises(TypeError, match="missing 1 required positional argument"):
        add.delay_on_commit()
    assert sent(app) == []


def test_a_broker_that_is_gone_then_is_logged(
    shop: Shop, app: Celery, who: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_broker(*args: Any, **options: Any) -> None:
        raise ConnectionRefusedError("no broker")

    monkeypatch.setattr(app, "send_task", no_broker)
    with caplog.at_level(logging.ERROR, "polydatum"), shop.dm.context() as ctx:
        ctx.dal.items.add("tea")
        who.delay_on_commit()
    assert ctx.outcome == "committed"
    assert shop.names == ["tea"]
    assert "no broker" in caplog.text


# --- who sent it ------------------------------------------------------------------------------------------------------


def test_56_the_user_id_travels(shop: Shop, app: Celery, who: Any) -> None:
    with shop.dm.context({"user": User(7)}):
        who.delay()
        who.s().apply_async()
        who.apply_async(headers={"own": 1})
        who.delay_on_commit()
        assert apply(who) == ("SUCCESS", 7)
    messages = sent(app)
    assert [message.headers["polydatum"] for message in messages] == [{"user_id": 7}] * 4
    assert messages[2].headers["own"] == 1
    assert work(who, headers={"polydatum": {"user_id": 7}}) == ("SUCCESS", 7)


def test_56_what_is_sent_by_name_has_the_id_if_the_app_is_the_current_one(
    shop: Shop, app: Celery, who: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shop.dm.context({"user": User(7)}):
        app.send_task("who")
        app.set_current()
        try:
            app.send_task("who")
        finally:
            celery_app().set_current()
        app.send_task("who")
    assert senders(app) == [None, 7, None]


def test_nothing_is_read_or_sent_where_nobody_loads_users(shop: Shop) -> None:
    app = celery_app(shop)

    @app.task(name="who")
    def who() -> Any:
        return shop.here().meta.user

    def fail() -> None:
        raise AssertionError("the user was read")

    with shop.dm.context({"user": lazy(fail)}):
        who.delay()
    (message,) = sent(app)
    assert "polydatum" not in message.headers
    assert work(who, headers={"polydatum": {"user_id": 7}}) == ("SUCCESS", None)


@pytest.mark.parametrize(
    ("user", "user_id"),
    [("ann", "ann"), (7, 7), (User(7), 7), (User(3.5), "3.5"), (User(None), None), (object(), None), (None, None)],
)
def test_the_usual_ids_of_users(shop: Shop, app: Celery, who: Any, user: Any, user_id: Any) -> None:
    with shop.dm.context({"user": user}):
        who.delay()
    assert senders(app) == [user_id]


def test_a_function_says_what_the_id_is(shop: Shop) -> None:
    app = celery_app(shop, polydatum_load_user=str, polydatum_user_id=lambda user: f"id of {user}")

    @app.task(name="task")
    def task() -> None: ...

    with shop.dm.context({"user": "ann"}):
        task.delay()
    assert senders(app) == ["id of ann"]


def test_a_task_sends_on_whose_behalf_it_runs(shop: Shop, app: Celery, who: Any) -> None:
    """The id goes on as it came: the user is not loaded for it."""
    app.conf.polydatum_load_user = None

    @app.task(name="outer", bind=True)
    def outer(self: Any) -> None:
        who.delay()
        if not self.request.retries:
            raise self.retry(countdown=0)
        raise self.replace(who.s())

    header = {"polydatum": {"user_id": 7}}
    assert work(outer, headers=header).state == "RETRY"
    assert senders(app) == [7, 7]
    work(outer, headers=header, retries=1)
    assert senders(app) == [7, 7]


def test_the_next_step_of_a_chain_is_sent_on_the_same_behalf(shop: Shop, app: Celery, who: Any) -> None:
    step = chain(who.s(), who.s()).apply_async
    with shop.dm.context({"user": User(7)}):
        step()
    (message,) = sent(app)
    assert message.headers["polydatum"] == {"user_id": 7}
    request = {"headers": {"polydatum": {"user_id": 7}}, "chain": message.decode()[2]["chain"]}
    assert work(who, **request) == ("SUCCESS", 7)
    assert senders(app) == [7]


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {"polydatum": None},
        {"polydatum": "7"},
        {"polydatum": ["user_id"]},
        {"polydatum": {}},
        {"polydatum": {"user_id": {"$ne": 1}}},
        {"polydatum": {"user_id": [7]}},
        {"polydatum": {"user_id": True}},
        {"polydatum": {"user_id": 7.5}},
        {"user_id": 7},
        {"user": "root", "X-User": "root", "Polydatum": {"user_id": 7}},
    ],
)
def test_what_is_no_id_is_nobody(headers: Any) -> None:
    assert sent_by(TaskRequest({"headers": headers})) is None
