"""Commands on their way: sent at once, on commit, through an outbox; and received."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Mapping
from time import time
from typing import Any

import pytest

from polydatum import (
    AsyncResourceError,
    CommandNotAllowed,
    CommandQueue,
    CommandRejected,
    ConfigurationError,
    ContextClosedError,
    DataAccessLayer,
    DataManager,
    Inbox,
    InvalidCommandArguments,
    LocalQueue,
    Outbox,
    ReadOnlyError,
    Service,
    Signer,
    UnknownCommand,
    command,
)


class Mails(Service[Any]):
    @command
    def send(self, to: str) -> str:
        return f"sent to {to}"

    @command
    async def asend(self, to: str) -> None: ...

    def drop(self) -> None: ...


class AppDAL(DataAccessLayer):
    mails = Mails()


class Queue(CommandQueue):
    """It keeps what it is given, as JSON."""

    def __init__(self) -> None:
        self.sent: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.user: str | None = None

    def send(self, message: dict[str, Any], **options: Any) -> str:
        self.sent.append((json.loads(json.dumps(message)), options))
        return f"result of {message['id']}"

    def check(self, command: Any, options: Mapping[str, Any]) -> None:
        if command.is_async:
            raise ConfigurationError("no async methods here")

    def sender(self, data_manager: Any) -> str | None:
        return self.user

    @property
    def ids(self) -> list[str]:
        return [message["id"] for message, _ in self.sent]


class Rows(Outbox):
    def __init__(self) -> None:
        self.rows: list[Any] = []

    def writing(self, context: Any, message: Any, options: Mapping[str, Any]) -> Callable[[], Any]:
        return lambda: self.rows.append((message, options))


class AsyncRows(Rows):
    def writing(self, context: Any, message: Any, options: Mapping[str, Any]) -> Callable[[], Any]:
        async def write() -> None:
            self.rows.append((message, options))

        return write


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def outbox() -> Rows:
    return Rows()


@pytest.fixture
def dm(queue: Queue, outbox: Rows) -> DataManager[AppDAL, Any]:
    dm = DataManager(AppDAL)
    dm.register_command_queue(queue, outbox=outbox, signer=Signer("a key of sixteen bytes"))
    return dm


# --- Sending ----------------------------------------------------------------------------------------------------------


def test_send_sends_at_once_with_the_id_of_the_user(dm: DataManager[AppDAL, Any], queue: Queue) -> None:
    queue.user = "ann"
    with dm.context() as context:
        result = dm.command("mails.send", "bob").send(countdown=5)
        context.set_rollback_only()
    ((message, options),) = queue.sent
    assert result == f"result of {message['id']}"
    assert options == {"countdown": 5}
    assert {name: message[name] for name in ("version", "path", "args", "kwargs", "user_id")} == {
        "version": 1,
        "path": "mails.send",
        "args": ["bob"],
        "kwargs": {},
        "user_id": "ann",
    }
    assert abs(message["sent"] - time()) < 60


def test_each_message_has_an_id_of_its_own_or_the_one_that_is_given(dm: DataManager[AppDAL, Any], queue: Queue) -> None:
    made = dm.command("mails.send", "bob")
    made.send()
    made.send()
    made.send(id="order-5")
    assert len(set(queue.ids)) == 3
    assert queue.ids[2] == "order-5"


def test_on_commit_is_sent_after_the_commit_and_dropped_by_a_rollback(
    dm: DataManager[AppDAL, Any], queue: Queue
) -> None:
    made = dm.command("mails.send", "bob")
    with dm.context() as context:
        kept = [made.send_on_commit(countdown=1), context.enqueue(made, id="mine")]
        assert queue.sent == []
    assert queue.ids == kept
    with dm.context() as context:
        made.send_on_commit()
        context.enqueue(made)
        context.set_rollback_only()
    assert queue.ids == kept


def test_on_commit_in_a_nested_block_that_rolls_back_is_dropped(dm: DataManager[AppDAL, Any], queue: Queue) -> None:
    with dm.context() as context:
        with pytest.raises(KeyError), context.nested():
            context.enqueue(dm.command("mails.send", "bob"))
            context.enqueue(dm.command("mails.send", "bob"), reliable=True)
            raise KeyError
    assert queue.sent == []
    assert dm.dispatch.outbox.rows == []  # type: ignore[union-attr]


def test_on_commit_without_a_context_is_sent_at_once(dm: DataManager[AppDAL, Any], queue: Queue) -> None:
    sent = dm.command("mails.send", "bob").send_on_commit()
    assert queue.ids == [sent]


def test_on_commit_in_a_closed_context_is_refused(dm: DataManager[AppDAL, Any], queue: Queue) -> None:
    context = dm.context()
    context.open()
    context.close(keep_current=True)
    with pytest.raises(ContextClosedError):
        dm.command("mails.send", "bob").send_on_commit()
    context.leave()
    assert queue.sent == []


def test_a_queue_that_cannot_be_reached_after_the_commit_changes_no_answer(
    dm: DataManager[AppDAL, Any], queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unreachable(message: Any, **options: Any) -> None:
        raise ConnectionError("no broker")

    monkeypatch.setattr(queue, "send", unreachable)
    with dm.context() as context:
        context.enqueue(dm.command("mails.send", "bob"))
    assert context.outcome == "committed"
    assert "no broker" in caplog.text


@pytest.mark.anyio
async def test_an_async_context_sends_by_a_worker_thread(
    dm: DataManager[AppDAL, Any], queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that does not answer would stop the event loop, and with it all other requests."""
    threads: list[int] = []
    send = queue.send

    def note(message: Any, **options: Any) -> str:
        threads.append(threading.get_ident())
        return send(message, **options)

    monkeypatch.setattr(queue, "send", note)
    async with dm.context() as context:
        sent = [dm.command("mails.send", "bob").send_on_commit(), context.enqueue(dm.command("mails.send", "bob"))]
    assert queue.ids == sent
    assert threading.get_ident() not in threads
    with dm.context() as context:
        context.enqueue(dm.command("mails.send", "bob"))
    assert threads[-1] == threading.get_ident()


def test_a_command_of_another_manager_is_refused(dm: DataManager[AppDAL, Any], queue: Queue) -> None:
    """The workers would run what has that path there."""
    other = DataManager(AppDAL).command("mails.send", "bob")
    with dm.context() as context, pytest.raises(ConfigurationError, match=r"<Command mails\.send> belongs to another"):
        context.enqueue(other)
    assert queue.sent == []


@pytest.mark.parametrize("what", ["mails.send", print])
def test_what_is_no_command_is_refused(dm: DataManager[AppDAL, Any], what: Any) -> None:
    with dm.context() as context, pytest.raises(ConfigurationError, match="only a Command can be sent"):
        context.enqueue(what)


def test_a_sender_that_cannot_travel_is_refused_at_once(dm: DataManager[AppDAL, Any], queue: Queue) -> None:
    queue.user = uuid.uuid4()  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match="a string, an int or None, not UUID"):
        dm.command("mails.send", "bob").send()


# --- The outbox -------------------------------------------------------------------------------------------------------


def test_a_reliable_command_is_written_before_the_commit(
    dm: DataManager[AppDAL, Any], queue: Queue, outbox: Rows
) -> None:
    queue.user = "ann"
    with dm.context() as context:
        sent = context.enqueue(dm.command("mails.send", "bob"), reliable=True, countdown=5)
        assert outbox.rows == []
    ((message, options),) = outbox.rows
    assert (message.id, message.user_id, options) == (sent, "ann", {"countdown": 5})
    assert queue.sent == []


def test_it_is_dropped_by_a_rollback(dm: DataManager[AppDAL, Any], outbox: Rows) -> None:
    with dm.context() as context:
        context.enqueue(dm.command("mails.send", "bob"), reliable=True)
        context.set_rollback_only()
    assert outbox.rows == []


def test_what_was_kept_is_signed_when_it_is_sent(dm: DataManager[AppDAL, Any], queue: Queue, outbox: Rows) -> None:
    with dm.context() as context:
        context.enqueue(dm.command("mails.send", "bob"), reliable=True)
    message = outbox.rows[0][0]._replace(sent=0)
    dm.dispatch.deliver(message, {"countdown": 5})
    ((data, options),) = queue.sent
    assert options == {"countdown": 5}
    received = dm.dispatch.receive(data)
    assert received.message.id == message.id
    assert received.message.sent > 0


@pytest.mark.anyio
async def test_an_outbox_may_write_asynchronously(dm: DataManager[AppDAL, Any], queue: Queue) -> None:
    outbox = AsyncRows()
    dm.register_command_queue(queue, outbox=outbox)
    made = dm.command("mails.send", "bob")
    async with dm.context() as context:
        context.enqueue(made, reliable=True)
    assert len(outbox.rows) == 1


def test_an_async_outbox_is_refused_in_a_sync_context(dm: DataManager[AppDAL, Any], queue: Queue) -> None:
    dm.register_command_queue(queue, outbox=AsyncRows())
    with dm.context() as context, pytest.raises(AsyncResourceError):
        context.enqueue(dm.command("mails.send", "bob"), reliable=True)


def test_without_an_outbox_there_is_no_reliable_command(dm: DataManager[AppDAL, Any], queue: Queue) -> None:
    dm.register_command_queue(queue)
    with dm.context() as context, pytest.raises(ConfigurationError, match="no outbox"):
        context.enqueue(dm.command("mails.send", "bob"), reliable=True)


def test_a_read_only_context_keeps_no_command(dm: DataManager[AppDAL, Any]) -> None:
    with dm.context(read_only=True) as context, pytest.raises(ReadOnlyError, match="outbox"):
        context.enqueue(dm.command("mails.send", "bob"), reliable=True)


def test_options_that_are_kept_have_to_be_json(dm: DataManager[AppDAL, Any]) -> None:
    with (
        dm.context() as context,
        pytest.raises(InvalidCommandArguments, match="an option for the queue contains a set"),
    ):
        context.enqueue(dm.command("mails.send", "bob"), reliable=True, headers={1})


# --- Receiving --------------------------------------------------------------------------------------------------------


def test_what_was_sent_is_received(dm: DataManager[AppDAL, Any], queue: Queue) -> None:
    made = dm.command("mails.send", to="bob")
    made.send()
    received = dm.dispatch.receive(queue.sent[0][0])
    assert received.command == made
    with dm.context():
        assert received.command.call() == "sent to bob"


@pytest.mark.parametrize(
    ("changes", "error", "problem"),
    [
        ({"path": "mails.drop"}, CommandNotAllowed, "mails.drop"),
        ({"path": "mails.sen"}, UnknownCommand, "there is no such method"),
        ({"args": ["bob", "eve"]}, InvalidCommandArguments, "have to fit"),
        ({"version": 2}, CommandRejected, "version"),
    ],
)
def test_what_nobody_here_would_send_is_refused_without_hints(
    queue: Queue, changes: dict[str, Any], error: Any, problem: str
) -> None:
    dm = DataManager(AppDAL)
    dm.register_command_queue(queue)
    dm.command("mails.send", "bob").send()
    with pytest.raises(error, match=problem):
        dm.dispatch.receive({**queue.sent[0][0], **changes})


def test_an_unsigned_one_is_refused(dm: DataManager[AppDAL, Any], queue: Queue) -> None:
    dm.command("mails.send", "bob").send()
    message = queue.sent[0][0]
    del message["signature"]
    with pytest.raises(CommandRejected, match="not signed"):
        dm.dispatch.receive(message)


# --- Set-up -----------------------------------------------------------------------------------------------------------


def test_without_a_queue_nothing_is_sent() -> None:
    made = DataManager(AppDAL).command("mails.send", "bob")
    with pytest.raises(ConfigurationError, match="register_command_queue"):
        made.send()
    with pytest.raises(ConfigurationError, match="register_command_queue"):
        made.send_on_commit()


def test_a_queue_may_refuse_a_command_before_anything_is_kept(dm: DataManager[AppDAL, Any], outbox: Rows) -> None:
    made = dm.command("mails.asend", "bob")
    with dm.context() as context:
        with pytest.raises(ConfigurationError, match="no async methods"):
            context.enqueue(made, reliable=True)
        with pytest.raises(ConfigurationError, match="no async methods"):
            made.send()


def test_an_id_of_no_form_is_refused(dm: DataManager[AppDAL, Any]) -> None:
    with pytest.raises(ConfigurationError, match="the id of a message"):
        dm.command("mails.send", "bob").send(id="a b")


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"queue": print}, "queue has to be an instance of CommandQueue, not builtin_function_or_method"),
        ({"outbox": Queue()}, "outbox has to be an instance of Outbox, not Queue"),
        ({"inbox": Rows()}, "inbox has to be an instance of Inbox, not Rows"),
        ({"signer": "a key of sixteen bytes"}, "signer has to be an instance of Signer, not str"),
    ],
)
def test_parts_of_another_kind_are_refused(parts: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        DataManager(AppDAL).register_command_queue(**{"queue": Queue(), **parts})


@pytest.mark.parametrize(
    "call",
    [
        lambda: CommandQueue().send({}),
        lambda: Outbox().writing(None, None, {}),  # type: ignore[arg-type]
        lambda: Outbox().deliver(None),
        lambda: Inbox().claim(None, "id"),
    ],
)
def test_base_classes_leave_the_work_to_others(call: Callable[[], Any]) -> None:
    with pytest.raises(NotImplementedError):
        call()


def test_a_queue_without_rules_takes_all_and_knows_no_user(queue: Queue) -> None:
    class Simple(CommandQueue):
        def send(self, message: dict[str, Any], **options: Any) -> Any:
            return message["user_id"]

    dm = DataManager(AppDAL)
    dm.register_command_queue(Simple())
    assert dm.command("mails.asend", "bob").send() is None


# --- The local queue --------------------------------------------------------------------------------------------------


class Once(Inbox):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def claim(self, context: Any, message_id: str) -> bool:
        self.seen.append(message_id)
        return self.seen.count(message_id) == 1


class Notes(Service[Any]):
    @command
    def add(self, text: str) -> str:
        self._ctx.notes.append((text, self._ctx.meta.user_id, self._ctx.meta.command.path))
        return text


class TestLocalQueue:
    @pytest.fixture
    def kept(self) -> list[Any]:
        return []

    @pytest.fixture
    def local(self, kept: list[Any]) -> DataManager[Any, Any]:
        dm = DataManager()
        dm.register_services(notes=Notes(), mails=Mails())

        def notes(context: Any) -> Any:
            written: list[Any] = []
            yield written
            kept.extend(written)

        dm.register_resources(notes=notes)
        dm.register_command_queue(LocalQueue(dm, sender=lambda: "ann"), inbox=Once())
        return dm

    def test_it_runs_what_is_sent_in_a_context_of_its_own(self, local: Any, kept: list[Any]) -> None:
        with local.context() as outer:
            assert local.command("notes.add", "tea").send(countdown=5) == "tea"
            assert local.get_active_context() is outer
            outer.set_rollback_only()
        assert kept == [("tea", "ann", "notes.add")]

    def test_it_runs_what_is_sent_on_commit_after_the_commit(self, local: Any, kept: list[Any]) -> None:
        with local.context() as ctx:
            ctx.notes.append("first")
            ctx.enqueue(local.command("notes.add", "second"))
        assert kept == ["first", ("second", "ann", "notes.add")]

    def test_it_drops_what_an_inbox_knows(self, local: Any, kept: list[Any]) -> None:
        assert local.command("notes.add", "tea").send(id="once") == "tea"
        assert local.command("notes.add", "tea").send(id="once") is None
        assert len(kept) == 1

    def test_it_refuses_async_methods(self, local: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"mails\.asend is an async method"):
            local.command("mails.asend", "bob").send()

    def test_it_loads_the_user_when_that_is_read(self, local: Any) -> None:
        loaded: list[Any] = []

        def load(user_id: Any) -> str:
            assert local.require_active_context().meta.message_id == "first"
            loaded.append(user_id)
            return f"user {user_id}"

        class Asked(Service[Any]):
            @command
            def who(self, *, reads: bool) -> Any:
                return self._ctx.meta.user if reads else None

        local.register_services(asked=Asked())
        local.register_command_queue(LocalQueue(local, sender=lambda: "ann", load_user=load))
        assert local.command("asked.who", reads=False).send() is None
        assert loaded == []
        assert local.command("asked.who", reads=True).send(id="first") == "user ann"
        local.register_command_queue(LocalQueue(local, load_user=load))
        assert local.command("asked.who", reads=True).send() is None
        assert loaded == ["ann"]

    def test_it_asks_nobody_who_asks(self, local: Any, kept: list[Any]) -> None:
        local.register_command_queue(LocalQueue(local))
        local.command("notes.add", "tea").send()
        assert kept == [("tea", None, "notes.add")]


class Forgetful(Inbox):
    retention = 3600.0


def test_an_inbox_that_forgets_while_signatures_hold_is_refused(queue: Queue) -> None:
    dm = DataManager(AppDAL)
    with pytest.raises(ConfigurationError, match=r"remembers a message for only 3600 seconds.*raise the retention"):
        dm.register_command_queue(queue, inbox=Forgetful(), signer=Signer("a key of sixteen bytes", max_age=3600))
    dm.register_command_queue(queue, inbox=Forgetful(), signer=Signer("a key of sixteen bytes", max_age=3540))
    dm.register_command_queue(queue, inbox=Inbox(), signer=Signer("a key of sixteen bytes", max_age=1e9))
    dm.register_command_queue(queue, inbox=Forgetful())
