"""Commands as Celery tasks: how they are sent, what a worker makes of a message, and how far they are."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple

import pymysql
import pytest
from celery import Celery
from celery.backends.base import DisabledBackend
from celery.worker import state as worker_state

from celery_polydatum import CeleryQueue, PolydatumTask
from celery_polydatum.configuration import CheckConfiguration
from polydatum import (
    CommandNotAllowed,
    CommandRejected,
    ConfigurationError,
    Context,
    DataAccessLayer,
    DataManager,
    Inbox,
    Service,
    Signer,
    UnknownCommand,
    UnknownResourceError,
    command,
)
from polydatum.adapting import as_text
from polydatum.backends.outbox import Inbox as TableInbox
from polydatum.backends.outbox import Outbox
from polydatum.backends.sqlalchemy import AsyncSQLAlchemyBackend, SQLAlchemyBackend
from tests.integration.celery_running import Ended, celery_app, sent, work

_numbers = itertools.count(1)


def parsed(text: str) -> dict[str, Any]:
    """A message as a dict, of the text that travels."""
    signature, brace, rest = text.partition("{")
    message: dict[str, Any] = json.loads(brace + rest)
    return {**message, "signature": signature} if signature else message


class User(NamedTuple):
    pk: Any


class Accounts(Service[Any]):
    @command
    def pay(self, amount: int, *, fails: bool = False) -> dict[str, Any]:
        self._ctx.ledger.append(amount)
        if fails:
            raise ZeroDivisionError
        meta = self._ctx.meta
        return {"user": meta.user and meta.user.pk, "task_id": meta.task_id, "path": meta.command.path}

    @command
    def count(self, steps: int) -> int:
        self._ctx.ledger.append(steps)
        for step in range(steps):
            self._ctx.progress(step, steps)
        return steps

    @command
    async def later(self) -> None: ...

    def rob(self) -> None: ...


class BankDAL(DataAccessLayer):
    accounts = Accounts()


class Seen(Inbox):
    """It remembers what it was asked, without a transaction."""

    def __init__(self) -> None:
        self.ids: set[str] = set()

    def claim(self, context: Any, message_id: str) -> bool:
        is_new = message_id not in self.ids
        self.ids.add(message_id)
        return is_new


class Bank:
    """A DataManager, its books, and the Celery app that its commands go through."""

    def __init__(
        self, inbox: Inbox | None = None, signer: Signer | None = None, task: Any = (), **settings: Any
    ) -> None:
        self.id = f"message-{next(_numbers)}"
        self.kept: list[int] = []
        self.contexts: list[Context] = []
        self.dm = DataManager(BankDAL)
        self.dm.register_resources(ledger=self._ledger)
        self.app = celery_app(polydatum_data_manager=self.dm, polydatum_load_user=User, **settings)
        self.dm.register_command_queue(CeleryQueue(self.app, **dict(task)), inbox=inbox, signer=signer)

    def _ledger(self, context: Context) -> Iterator[list[int]]:
        self.contexts.append(context)
        entries: list[int] = []
        yield entries
        self.kept += entries

    @property
    def run_command(self) -> Any:
        return self.app.tasks["polydatum.run_command"]

    def message(self, path: str = "accounts.pay", *args: Any, **changes: Any) -> dict[str, Any]:
        """One that has travelled to a worker."""
        self.dm.command(path, *(args or (5,))).send(id=self.id)
        (message,) = self.arrived()
        return {**message, **changes}

    def arrived(self) -> list[dict[str, Any]]:
        return [parsed(json.loads(message.body)[0][0]) for message in sent(self.app)]

    def work(self, *args: Any, **request: Any) -> Ended:
        travelled = [as_text(arg) if isinstance(arg, dict) else arg for arg in args]
        return work(self.run_command, *travelled, id=self.id, **request)


@pytest.fixture
def bank() -> Bank:
    return Bank()


# --- Sending ----------------------------------------------------------------------------------------------------------


def test_it_is_sent_as_one_task_for_all(bank: Bank) -> None:
    with bank.dm.context({"user": User(7)}):
        result = bank.dm.command("accounts.pay", 5).send(countdown=10)
    (message,) = sent(bank.app)
    assert message.headers["task"] == "polydatum.run_command"
    assert message.headers["id"] == result.id
    assert message.headers["eta"] is not None
    ((text,), *_) = json.loads(message.body)
    data = parsed(text)
    assert (data["id"], data["path"], data["args"], data["user_id"]) == (result.id, "accounts.pay", [5], 7)


def test_logs_and_monitors_see_the_path_and_no_arguments(bank: Bank) -> None:
    bank.dm.command("accounts.pay", 4711).send()
    (message,) = sent(bank.app)
    assert "4711" not in str(message.headers)
    assert message.headers["shadow"] == "accounts.pay"


def test_it_is_json_whatever_the_app_prefers() -> None:
    bank = Bank(task_serializer="pickle")
    bank.dm.command("accounts.pay", 5).send()
    (message,) = sent(bank.app)
    assert message.content_type == "application/json"


@pytest.mark.parametrize("kind", ["uuid", "of the user's own"])
def test_arguments_that_look_like_those_of_celery_arrive_as_they_are(bank: Bank, kind: str) -> None:
    """Celery's JSON makes objects of such dicts; a worker drops a message in which it cannot."""
    tagged = {"__type__": kind, "__value__": 1}
    bank.dm.command("accounts.pay", tagged).send()
    (message,) = sent(bank.app)
    ((text,), *_) = message.payload
    assert bank.dm.dispatch.receive(text).command.args == [tagged]


def test_the_broker_is_asked_to_confirm_it() -> None:
    """See tests/workers/commands/test_celery_outages.py for what is lost otherwise."""
    assert Bank().app.conf.broker_transport_options == {"confirm_publish": True}
    bank = Bank(broker_transport_options={"confirm_publish": False, "visibility_timeout": 60})
    assert bank.app.conf.broker_transport_options == {"confirm_publish": False, "visibility_timeout": 60}


def test_it_is_asked_to_confirm_too_if_the_app_is_configured_later(bank: Bank) -> None:
    bank.app.conf.broker_transport_options = {"visibility_timeout": 60}
    bank.dm.command("accounts.pay", 5).send()
    assert bank.app.conf.broker_transport_options == {"confirm_publish": True, "visibility_timeout": 60}


def test_an_app_has_one_queue_for_a_manager(bank: Bank) -> None:
    """The second one's commands would be run by the first one's manager, or the other way round."""
    with pytest.raises(ConfigurationError, match=r"already has a task 'polydatum\.run_command'"):
        CeleryQueue(bank.app)


def test_another_manager_of_the_app_has_a_task_of_its_own(bank: Bank) -> None:
    other = DataManager(BankDAL)
    other.register_resources(ledger=bank._ledger)
    other.register_command_queue(CeleryQueue(bank.app, name="other.run_command", data_manager=other))
    with other.context({"user_id": 7}):
        other.command("accounts.pay", 5).send(id=bank.id)
    (message,) = sent(bank.app)
    assert message.headers["task"] == "other.run_command"
    text = message.payload[0][0]
    assert json.loads(text)["user_id"] == 7
    assert work(bank.app.tasks["other.run_command"], text, id=bank.id).state == "SUCCESS"
    assert [context.data_manager for context in bank.contexts] == [other]


def test_a_manager_that_only_sends_knows_who_asks(bank: Bank) -> None:
    """That of an async web application, while the app, by its conf, runs commands with one of sync resources."""
    web = DataManager(BankDAL)
    web.register_command_queue(bank.dm.dispatch.queue)

    async def view() -> None:
        async with web.context({"user": User(7)}) as context:
            web.command("accounts.pay", 5).send()
            context.enqueue(web.command("accounts.pay", 5))

    asyncio.run(view())
    assert [message["user_id"] for message in bank.arrived()] == [7, 7]


def test_on_commit_is_sent_after_the_commit(bank: Bank) -> None:
    made = bank.dm.command("accounts.pay", 5)
    with bank.dm.context() as context:
        made.send_on_commit()
        context.enqueue(made)
        assert sent(bank.app) == []
    assert len(sent(bank.app)) == 2


def test_options_of_the_task_are_given_to_the_queue() -> None:
    bank = Bank(task={"max_retries": 7, "expires": 60})
    assert bank.run_command.max_retries == 7
    bank.dm.command("accounts.pay", 5).send()
    (message,) = sent(bank.app)
    assert message.headers["expires"] is not None


def test_an_async_method_is_refused(bank: Bank) -> None:
    with pytest.raises(ConfigurationError, match=r"accounts\.later is an async method"):
        bank.dm.command("accounts.later").send()


@pytest.mark.parametrize("option", ["task_id", "serializer", "args"])
def test_options_that_are_ours_are_refused(bank: Bank, option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"CeleryQueue sets {option} itself"):
        bank.dm.command("accounts.pay", 5).send(**{option: "x"})


HOUR = timedelta(hours=1)
SIGNER = Signer("a key of sixteen bytes", max_age=HOUR.total_seconds())


@pytest.mark.parametrize(
    "later",
    [
        lambda delay: {"countdown": delay.total_seconds()},
        lambda delay: {"eta": datetime.now(UTC) + delay},
        lambda delay: {"eta": (datetime.now(UTC) + delay).astimezone(timezone(5 * HOUR))},
        lambda delay: {"eta": datetime.now(UTC).replace(tzinfo=None) + delay},
        lambda delay: {"eta": (datetime.now(UTC) + delay).isoformat()},
    ],
    ids=["countdown", "eta", "elsewhere", "naive", "text"],
)
@pytest.mark.parametrize("app_timezone", ["UTC", "Asia/Tokyo"])
def test_what_would_wait_longer_than_its_signature_holds_is_refused(later: Any, app_timezone: str) -> None:
    bank = Bank(signer=SIGNER, timezone=app_timezone)
    pay = bank.dm.command("accounts.pay", 5)
    for send in (pay.send, pay.send_on_commit):
        with pytest.raises(ConfigurationError, match=r"<Command accounts\.pay> is .*\(3600 seconds\).* max_age"):
            send(**later(HOUR + timedelta(seconds=60)))
        send(**later(HOUR - timedelta(seconds=60)))
    assert len(sent(bank.app)) == 2


def test_without_a_signature_it_may_wait_for_ever(bank: Bank) -> None:
    bank.dm.command("accounts.pay", 5).send(countdown=10**8)
    assert len(sent(bank.app)) == 1


def test_without_a_delay_the_age_of_a_signature_does_not_matter() -> None:
    bank = Bank(signer=SIGNER)
    bank.dm.command("accounts.pay", 5).send(countdown=None, eta=None)
    assert len(sent(bank.app)) == 1


# --- Running ----------------------------------------------------------------------------------------------------------


def test_it_runs_in_a_context_of_its_own_for_the_user_who_asked(bank: Bank) -> None:
    message = bank.message(user_id=7)
    assert bank.work(message) == ("SUCCESS", {"user": 7, "task_id": bank.id, "path": "accounts.pay"})
    assert bank.kept == [5]
    assert [str(context.outcome) for context in bank.contexts] == ["committed"]


def test_the_header_of_the_task_names_nobody_else(bank: Bank) -> None:
    """It is not signed; the message may be."""
    message = bank.message(user_id=7)
    assert bank.work(message, headers={"polydatum": {"user_id": 1}}).result["user"] == 7


def test_what_it_sends_in_turn_is_for_the_same_user(bank: Bank) -> None:
    class Chained(Service[Any]):
        @command
        def go(self) -> None:
            self._data_manager.command("accounts.pay", 1).send_on_commit()

    bank.dm.register_services(chained=Chained())
    message = {**bank.message(), "path": "chained.go", "args": [], "user_id": 7}
    assert bank.work(message).state == "SUCCESS"
    assert [found["user_id"] for found in bank.arrived()] == [7]


def test_an_exception_is_a_failure_and_rolls_back(bank: Bank) -> None:
    assert bank.work(bank.message(kwargs={"fails": True})).state == "FAILURE"
    assert bank.kept == []


def test_it_may_be_retried_by_celery() -> None:
    bank = Bank(task={"autoretry_for": (ZeroDivisionError,), "default_retry_delay": 0})
    message = bank.message(kwargs={"fails": True})
    assert bank.work(message).state == "RETRY"
    assert bank.arrived() == [message]
    assert bank.kept == []


def test_a_retry_is_json_and_shows_no_arguments_either() -> None:
    bank = Bank(task={"autoretry_for": (ZeroDivisionError,), "default_retry_delay": 0}, task_serializer="pickle")
    assert bank.work(bank.message("accounts.pay", 4711, kwargs={"fails": True})).state == "RETRY"
    (message,) = sent(bank.app)
    assert message.content_type == "application/json"
    assert "4711" not in str(message.headers)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"path": "accounts.rob"}, CommandNotAllowed),
        ({"path": "accounts.robb"}, UnknownCommand),
        ({"version": 2}, CommandRejected),
        ({"signature": "forged"}, CommandRejected),
    ],
)
def test_a_message_that_is_refused_opens_no_context(changes: dict[str, Any], error: Any) -> None:
    bank = Bank(signer=Signer("a key of sixteen bytes") if "signature" in changes else None)
    opened: list[Context] = []

    def note(context: Context) -> Iterator[None]:
        opened.append(context)
        yield

    message = bank.message()
    bank.dm.register_context_middleware(note)
    ended = bank.work({**message, **changes})
    assert ended.state == "FAILURE"
    assert type(ended.result) is error
    assert opened == []


def test_whoever_waits_for_the_result_reads_the_error_as_it_was_raised(bank: Bank) -> None:
    message = {**bank.message(), "path": "accounts.robb"}
    with pytest.raises(UnknownCommand) as raised:
        bank.dm.dispatch.receive(message)
    read = bank.work(message).result
    assert (type(read), str(read), vars(read)) == (UnknownCommand, str(raised.value), vars(raised.value))


@pytest.mark.parametrize("args", [(), (1, 2), ("x",), ([],)])
def test_a_task_with_other_arguments_is_refused(bank: Bank, args: tuple[Any, ...]) -> None:
    ended = bank.work(*args)
    assert ended.state == "FAILURE"
    assert "command message refused" in str(ended.result)


def test_eager_apps_run_it_at_once() -> None:
    bank = Bank(task_always_eager=True)
    with bank.dm.context({"user": User(7)}) as outer:
        result = bank.dm.command("accounts.pay", 5).send()
        assert bank.dm.get_active_context() is outer
    assert result.get()["user"] == 7
    assert bank.kept == [5]


# --- Duplicates -------------------------------------------------------------------------------------------------------


@pytest.fixture
def careful() -> Bank:
    return Bank(inbox=Seen())


def test_a_duplicate_is_dropped_and_the_result_stays(careful: Bank) -> None:
    message = careful.message()
    first = careful.work(message)
    assert careful.work(message, delivery_info={"redelivered": True}) == first
    assert careful.kept == [5]


def test_the_result_of_what_was_done_by_a_worker_that_died_is_none(
    careful: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_polydatum.commands.RESULT_DUE", 0)
    message = careful.message()
    careful.dm.dispatch.inbox.claim(None, careful.id)  # type: ignore[union-attr]
    assert careful.work(message) == ("SUCCESS", None)
    assert careful.kept == []


def test_a_duplicate_leaves_the_result_to_the_one_that_is_about_to_store_it(
    careful: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = careful.message()
    careful.dm.dispatch.inbox.claim(None, careful.id)  # type: ignore[union-attr]

    def store(seconds: float) -> None:
        careful.app.backend.store_result(careful.id, "the other's", "SUCCESS")

    monkeypatch.setattr("celery_polydatum.commands.sleep", store)
    assert careful.work(message) == ("SUCCESS", "the other's")


def test_where_no_results_are_wanted_a_duplicate_does_not_wait_for_one(
    careful: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_polydatum.commands.sleep", None)
    message = careful.message()
    for _ in range(2):
        careful.work(message, ignore_result=True)
    assert careful.kept == [5]


class Serialized(Exception):
    """What PostgreSQL says of two that claim at once by REPEATABLE READ: one has committed meanwhile."""

    sqlstate = "40001"


class WaitedForTooLong(Exception):
    """What PostgreSQL says if its ``lock_timeout`` is shorter than the command that has claimed the message."""

    sqlstate = "55P03"


class Busy(Inbox):
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error or Serialized()

    def claim(self, context: Any, message_id: str) -> bool:
        assert context.ledger == []
        raise self.error


@pytest.mark.parametrize(
    "error", [Serialized(), WaitedForTooLong(), pymysql.OperationalError(1205, "Lock wait timeout")]
)
def test_a_duplicate_that_collides_is_delivered_again_and_leaves_the_state_alone(error: Exception) -> None:
    bank = Bank(inbox=Busy(error))
    ended = bank.work(bank.message(), delivery_info={"redelivered": True})
    assert ended.state == "PENDING"
    assert [str(context.outcome) for context in bank.contexts] == ["rolled_back"]


def test_a_lock_that_the_command_itself_has_waited_for_too_long_is_a_failure(careful: Bank) -> None:
    class Slow(Service[Any]):
        @command
        def go(self) -> None:
            raise WaitedForTooLong

    careful.dm.register_services(slow=Slow())
    assert careful.work({**careful.message(), "path": "slow.go", "args": []}).state == "FAILURE"


def test_one_that_cannot_be_delivered_again_is_a_failure() -> None:
    bank = Bank(inbox=Busy(), task={"acks_late": False})
    assert bank.work(bank.message()).state == "FAILURE"
    assert Bank(inbox=Busy(), task_always_eager=True).dm.command("accounts.pay", 5).send().state == "FAILURE"


def test_without_results_a_duplicate_is_dropped(careful: Bank) -> None:
    careful.run_command.backend = DisabledBackend(careful.app)
    message = careful.message()
    for _ in range(2):
        careful.work(message)
    assert careful.kept == [5]


# --- The outbox -------------------------------------------------------------------------------------------------------


def test_a_task_for_beat_sends_what_is_in_the_outbox() -> None:
    bank = Bank()
    bank.dm.register_resources(db=SQLAlchemyBackend("sqlite://"))
    outbox = Outbox("db")
    outbox.create_table(bank.dm.get_client("db"))
    bank.dm.register_command_queue(bank.dm.dispatch.queue, outbox=outbox)
    with bank.dm.context() as context:
        ids = [context.enqueue(bank.dm.command("accounts.pay", amount), reliable=True) for amount in range(5)]
    assert sent(bank.app) == []
    assert bank.app.tasks["polydatum.deliver_outbox"](2) == 5
    assert [message["id"] for message in bank.arrived()] == ids
    bank.dm.close()


def test_without_an_outbox_the_task_says_so(bank: Bank) -> None:
    with pytest.raises(ConfigurationError, match="no outbox"):
        bank.app.tasks["polydatum.deliver_outbox"]()


# --- Progress and revocation ------------------------------------------------------------------------------------------


class Told:
    """A task that tells its progress, and what the result backend was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, app: Celery) -> None:
        self.states: list[Any] = []
        store = app.backend.store_result

        def store_result(task_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
            self.states.append((state, result))
            return store(task_id, result, state, *args, **kwargs)

        monkeypatch.setattr(app.backend, "store_result", store_result)


def test_progress_is_the_state_of_the_task(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, then every half second, and when all is done."""
    monkeypatch.setattr("celery_polydatum.progress.monotonic", iter([10.0, 10.1, 10.6, 10.7]).__next__)
    told = Told(monkeypatch, bank.app)
    assert bank.work(bank.message("accounts.count", 4)) == ("SUCCESS", 4)
    assert told.states[:-1] == [("PROGRESS", {"done": 0, "total": 4}), ("PROGRESS", {"done": 2, "total": 4})]


def test_the_last_step_is_always_told(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch, bank.app)

    @bank.app.task(name="last", bind=True)
    def last(self: PolydatumTask) -> None:
        context = bank.dm.require_active_context()
        context.progress(1, 2)
        context.progress(2, 2)

    work(last)
    assert [result for state, result in told.states if state == "PROGRESS"] == [
        {"done": 1, "total": 2},
        {"done": 2, "total": 2},
    ]


def test_a_backend_that_fails_does_not_hinder_the_work(
    bank: Bank, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no backend")

    monkeypatch.setattr(type(bank.run_command), "update_state", fail)
    assert bank.work(bank.message("accounts.count", 4)) == ("SUCCESS", 4)
    assert "the progress of task polydatum.run_command was not written" in caplog.text


def test_nothing_is_written_where_no_results_are_wanted(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch, bank.app)
    message = bank.message("accounts.count", 4)
    assert bank.work(message, ignore_result=True).state == "PENDING"
    assert bank.run_command.apply((as_text(message),)).get() == 4
    assert told.states == []


def test_what_a_late_thread_tells_does_not_replace_the_result(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch, bank.app)
    bank.work(bank.message())
    bank.contexts[0].progress(1, 2)
    assert [state for state, _ in told.states] == ["SUCCESS"]


def test_a_task_that_was_revoked_while_it_ran_rolls_back(bank: Bank) -> None:
    message = bank.message("accounts.count", 4)
    worker_state.revoked.add(bank.id)
    try:
        ended = bank.work(message)
    finally:
        worker_state.revoked.discard(bank.id)
    assert ended.state == "REVOKED"
    assert bank.kept == []
    assert [str(context.outcome) for context in bank.contexts] == ["rolled_back"]


# --- Start-up ---------------------------------------------------------------------------------------------------------


class Worker:
    def __init__(self, app: Celery) -> None:
        self.app = app


def test_a_worker_with_a_queue_starts(bank: Bank) -> None:
    CheckConfiguration(Worker(bank.app))


def test_a_worker_whose_manager_has_no_queue_does_not_start() -> None:
    app = celery_app(polydatum_data_manager=DataManager(BankDAL))
    CeleryQueue(app)
    with pytest.raises(ConfigurationError, match="register_command_queue"):
        CheckConfiguration(Worker(app))


def test_a_worker_whose_inbox_cannot_be_asked_does_not_start() -> None:
    bank = Bank(inbox=TableInbox("db"))
    with pytest.raises(UnknownResourceError, match="db"):
        CheckConfiguration(Worker(bank.app))
    bank.dm.register_resources(db=AsyncSQLAlchemyBackend("sqlite+aiosqlite://"))
    with pytest.raises(ConfigurationError, match=r"<Inbox polydatum_inbox of resource 'db'> is async"):
        CheckConfiguration(Worker(bank.app))
    bank.dm.replace_resource("db", SQLAlchemyBackend("sqlite://"))
    CheckConfiguration(Worker(bank.app))


def test_a_worker_that_accepts_more_than_json_does_not_start() -> None:
    bank = Bank(accept_content=["json", "pickle"])
    with pytest.raises(ConfigurationError, match="accept_content has pickle"):
        CheckConfiguration(Worker(bank.app))
