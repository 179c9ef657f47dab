"""The outbox and the inbox, on every driver: what is kept, what is sent, by how many, and what is known already."""

from __future__ import annotations

import functools
import inspect
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from time import monotonic, time
from typing import Any

import pytest
from sqlalchemy import MetaData, create_engine, event, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import sessionmaker

from polydatum import (
    AsyncResourceError,
    CommandQueue,
    ConfigurationError,
    DataManager,
    MissingClientError,
    Signer,
    ValueResource,
    dispatch,
)
from polydatum.backends import outbox as outbox_module
from polydatum.backends.outbox import Inbox, Outbox, OutboxEntry
from polydatum.backends.outbox_relay import Relay
from polydatum.backends.sqlalchemy import SQLAlchemyBackend
from polydatum.messages import MAX_BYTES
from polydatum.retrying import is_transient
from polydatum.testing.backend_contract import Sync, settled
from tests.backends.outbox_app import AppDAL, read
from tests.backends.sql_servers import NAME, MariaServer, PostgresServer, table_on
from tests.backends.sqlalchemy_hosts import ENTRIES, HOSTS, MARIA, POSTGRES, SQLITE, SQLAlchemyHost, server_for

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SQLAlchemyHost]:
    with table_on(server_for(request.param, tmp_path)) as server:
        yield request.param(server)
        if isinstance(server, PostgresServer):  # the others are dropped whole
            server.ask(f"DROP TABLE IF EXISTS {NAME}_outbox, {NAME}_inbox")


def on(*hosts: type[SQLAlchemyHost]) -> Any:
    """These drivers only."""
    return pytest.mark.parametrize("host", hosts, ids=lambda host: host.__name__, indirect=True)


SYNC = tuple(host for host in HOSTS if not host.is_async)
ASYNC = tuple(host for host in HOSTS if host.is_async)


class Queue(CommandQueue):
    """It keeps what it is given; ``sending`` is called before."""

    def __init__(self) -> None:
        self.sent: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.sending: Callable[[dict[str, Any]], object] = lambda message: None

    def send(self, message: dict[str, Any], **options: Any) -> None:
        self.sending(message)
        self.sent.append((message, options))

    def sender(self, data_manager: Any) -> str:
        return "ann"

    @property
    def to(self) -> list[str]:
        return [message["args"][0] for message, _ in self.sent]

    @property
    def ids(self) -> list[str]:
        return [message["id"] for message, _ in self.sent]


class Office:
    """An application with an outbox and an inbox, in the host's database."""

    def __init__(self, host: SQLAlchemyHost, backend: Any = None) -> None:
        self.host = host
        self.queue = Queue()
        self.outbox = Outbox("db", table=f"{NAME}_outbox")
        self.inbox = Inbox("db", table=f"{NAME}_inbox")
        self.manager: Any = DataManager(AppDAL)
        self.manager.register_resources(db=backend or host.backend())
        self.manager.register_command_queue(
            self.queue, outbox=self.outbox, inbox=self.inbox, signer=Signer("a key of sixteen bytes")
        )

    async def create_tables(self) -> None:
        for one in (self.outbox, self.inbox):
            client = await settled(self.manager.get_client("db"))
            if self.host.is_async:
                async with client.begin() as connection:
                    await connection.run_sync(one.create_table)
            else:
                one.create_table(client)

    def context(self) -> Any:
        context = self.manager.context()
        return context if self.host.is_async else Sync(context)

    async def enqueue(self, *recipients: str, **options: Any) -> list[str]:
        """Keep a mail to each, in one context."""
        async with self.context() as ctx:
            return [ctx.enqueue(self.manager.command("mails.send", to), reliable=True, **options) for to in recipients]

    async def deliver(self, **options: Any) -> int:
        deliver = self.outbox.adeliver if self.host.is_async else self.outbox.deliver
        return await settled(deliver(self.manager, **options))  # type: ignore[no-any-return]

    async def claim(self, ctx: Any, message_id: str) -> bool:
        claim = self.inbox.aclaim if self.host.is_async else self.inbox.claim
        return await settled(claim(ctx, message_id))  # type: ignore[no-any-return]

    async def prune(self) -> int:
        return await settled(  # type: ignore[no-any-return]
            self.inbox.aprune(self.manager) if self.host.is_async else self.inbox.prune(self.manager)
        )

    async def entries(self, **options: Any) -> list[OutboxEntry]:
        entries = self.outbox.aentries if self.host.is_async else self.outbox.entries
        return await settled(entries(self.manager, **options))  # type: ignore[no-any-return]

    async def close(self) -> None:
        await settled(self.manager.aclose() if self.host.is_async else self.manager.close())

    # --- From outside -------------------------------------------------------------------------------------------------

    def ask(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Of the server; OUTBOX and INBOX are the tables, ? the places of the arguments."""
        server = self.host.server
        database = f"{NAME}." if isinstance(server, MariaServer) else ""
        for table in ("OUTBOX", "INBOX"):
            statement = statement.replace(table, f"{database}{NAME}_{table.lower()}")
        return server.ask(statement.replace("?", server.placeholder), *arguments)  # type: ignore[no-any-return]

    def waiting(self) -> list[str]:
        return [entry for (entry,) in self.ask("SELECT id FROM OUTBOX ORDER BY number")]

    def make_due(self) -> None:
        self.ask("UPDATE OUTBOX SET due = 0")


def scenario(test: Callable[[Office], Coroutine[Any, Any, None]]) -> Callable[[SQLAlchemyHost], None]:
    """A test of an office whose tables are there."""

    def run(host: SQLAlchemyHost) -> None:
        host.run(in_office(Office(host), test))

    functools.update_wrapper(run, test)
    del run.__wrapped__  # type: ignore[attr-defined]  # pytest would look at the signature of the test
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("host", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    )
    return run


async def in_office(office: Office, test: Callable[[Office], Coroutine[Any, Any, None]]) -> None:
    try:
        await office.create_tables()
        await test(office)
    finally:
        await office.close()


# --- Writing ----------------------------------------------------------------------------------------------------------


@scenario
async def test_it_is_written_by_the_commit_of_the_context(office: Office) -> None:
    async with office.context() as ctx:
        kept = [ctx.enqueue(office.manager.command("mails.send", to), reliable=True) for to in ("bob", "eve")]
        assert office.waiting() == []
    assert office.waiting() == kept
    assert office.queue.sent == []


@scenario
async def test_nothing_is_written_by_a_rollback(office: Office) -> None:
    async with office.context() as ctx:
        ctx.enqueue(office.manager.command("mails.send", "bob"), reliable=True)
        ctx.set_rollback_only()
    with pytest.raises(KeyError):
        async with office.context() as ctx:
            ctx.enqueue(office.manager.command("mails.send", "bob"), reliable=True)
            raise KeyError
    assert office.waiting() == []


@scenario
async def test_it_goes_with_the_data_of_the_context(office: Office) -> None:
    """Both are there or neither, also if a later hook fails, when the row has been written."""

    async def write(ctx: Any, key: str) -> None:
        await settled(office.host.write(await settled(ctx.db), key, "tea"))
        ctx.enqueue(office.manager.command("mails.send", "bob"), reliable=True, id=key)

    async with office.context() as ctx:
        await write(ctx, "kept")

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        async with office.context() as ctx:
            await write(ctx, "lost")
            ctx.before_commit(lambda: ctx.before_commit(lambda: ctx.before_commit(fail)))
    assert (office.host.look("kept"), office.host.look("lost")) == ("tea", None)
    assert office.waiting() == ["kept"]


@on(*SYNC)
@scenario
async def test_all_of_a_context_are_written_at_once(office: Office) -> None:
    engine = office.manager.get_client("db")
    written: list[Any] = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: written.append(arguments[2]))
    await office.enqueue(*map(str, range(1500)))
    assert sum(statement.startswith("INSERT") for statement in written) == 1
    await office.enqueue("bob")
    assert len(office.waiting()) == 1501


@scenario
async def test_a_nested_block_that_rolls_back_keeps_nothing(office: Office) -> None:
    async with office.context() as ctx:
        kept = ctx.enqueue(office.manager.command("mails.send", "bob"), reliable=True)
        with pytest.raises(KeyError):
            async with ctx.nested() if office.host.is_async else Sync(ctx.nested()):
                ctx.enqueue(office.manager.command("mails.send", "eve"), reliable=True)
                raise KeyError
    assert office.waiting() == [kept]


@on(*ASYNC)
@scenario
async def test_an_async_resource_is_refused_where_nothing_can_be_awaited(office: Office) -> None:
    with office.manager.context() as ctx:
        with pytest.raises(AsyncResourceError):
            ctx.enqueue(office.manager.command("mails.send", "bob"), reliable=True)
        with pytest.raises(AsyncResourceError, match="aclaim"):
            office.inbox.claim(ctx, "order-5")


def test_another_resource_is_refused() -> None:
    dm = DataManager(AppDAL)
    dm.register_resources(db=ValueResource("nothing"))
    dm.register_command_queue(Queue(), outbox=Outbox("db"))
    with dm.context() as ctx, pytest.raises(ConfigurationError, match="'db' has to be a SQLAlchemyBackend"):
        ctx.enqueue(dm.command("mails.send", "bob"), reliable=True)


def test_check_finds_resources_that_are_missing_or_of_another_kind() -> None:
    dm = DataManager(AppDAL)
    dm.register_resources(db=ValueResource("nothing"), sql=SQLAlchemyBackend("sqlite://"))
    dm.register_command_queue(Queue(), outbox=Outbox("bd"), inbox=Inbox("db"))
    outbox, inbox = dm.check()
    assert str(outbox).startswith("unknown-resource outbox: no resource 'bd' is registered (registered: db, sql)")
    assert str(inbox).startswith("mismatched-resource inbox: Inbox: resource 'db' has to be a SQLAlchemyBackend")
    for parts in ({"outbox": Outbox("sql"), "inbox": Inbox("sql")}, {}):
        dm.register_command_queue(Queue(), **parts)
        assert dm.check() == []


def test_another_database_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = create_engine("sqlite://")
    monkeypatch.setattr(engine.dialect, "name", "abacus")
    dm = DataManager(AppDAL)
    dm.register_resources(db=SQLAlchemyBackend(engine))
    dm.register_command_queue(Queue(), outbox=Outbox("db"))
    with pytest.raises(ConfigurationError, match="not with 'abacus'"):
        dm.dispatch.outbox.deliver(dm)  # type: ignore[union-attr]
    engine.dispose()


def test_the_tables_can_be_among_the_users_own() -> None:
    own = MetaData()
    outbox, inbox = Outbox("db", metadata=own, table="letters"), Inbox("db", metadata=own)
    assert set(own.tables) == {"letters", "polydatum_inbox"}
    assert own.tables["letters"] is outbox.table
    assert [repr(outbox), repr(inbox)] == [
        "<Outbox letters of resource 'db'>",
        "<Inbox polydatum_inbox of resource 'db'>",
    ]


def test_without_sqlalchemy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    spec = find_spec("polydatum.backends.outbox")
    assert spec
    assert spec.loader
    with pytest.raises(MissingClientError, match=r"Outbox needs .* pip install 'polydatum\[sqlalchemy\]'"):
        spec.loader.exec_module(module_from_spec(spec))


# --- Delivery ---------------------------------------------------------------------------------------------------------


@scenario
async def test_it_is_sent_with_its_options_and_the_id_of_the_user_and_signed(office: Office) -> None:
    kept = await office.enqueue("bob", countdown=5, headers={"für": ["ä"]})
    assert await office.deliver() == 1
    ((message, options),) = office.queue.sent
    assert options == {"countdown": 5, "headers": {"für": ["ä"]}}
    assert (message["id"], message["user_id"], message["args"]) == (kept[0], "ann", ["bob"])
    assert office.manager.dispatch.receive(message).command.path == "mails.send"
    assert office.waiting() == []
    assert await office.deliver() == 0


@scenario
async def test_the_oldest_go_first_and_no_more_than_the_limit(office: Office) -> None:
    await office.enqueue("1", "2")
    await office.enqueue("3")
    assert await office.deliver(limit=2) == 2
    assert office.queue.to == ["1", "2"]
    assert await office.deliver(limit=2) == 1


@scenario
async def test_the_largest_command_fits(office: Office) -> None:
    largest = "x" * (MAX_BYTES - 10)
    await office.enqueue(largest, note="y" * (MAX_BYTES - 20))
    assert await office.deliver() == 1
    assert office.queue.to == [largest]


@scenario
async def test_middleware_may_have_used_the_database_before(office: Office) -> None:
    def look(context: Any) -> Iterator[None]:
        context.db.scalars(select(ENTRIES.c.name)).all()
        yield

    async def alook(context: Any) -> AsyncIterator[None]:
        await (await context.db).scalars(select(ENTRIES.c.name))
        yield

    await office.enqueue("bob")
    office.manager.register_context_middleware(alook if office.host.is_async else look)
    assert await office.deliver() == 1
    assert await office.prune() == 0


POISON = {
    "other version": '{"version": 2}',
    "no JSON": "{",
    "deep JSON": "[" * 100_000,
    "no object": "7",
}


@scenario
async def test_what_cannot_be_read_blocks_nothing(office: Office) -> None:
    poison = await office.enqueue(*POISON, "options")
    for message_id, message in zip(poison, POISON.values(), strict=False):
        office.ask("UPDATE OUTBOX SET message = ? WHERE id = ?", message, message_id)
    office.ask("UPDATE OUTBOX SET options = '[]' WHERE id = ?", poison[-1])
    office.ask("UPDATE OUTBOX SET attempts = 5000 WHERE id = ?", poison[0])
    await office.enqueue("bob")
    assert await office.deliver() == 1
    assert office.queue.to == ["bob"]
    assert office.waiting() == poison
    assert await office.deliver() == 0  # not due
    longest, *others = [due - time() for (due,) in office.ask("SELECT due FROM OUTBOX ORDER BY number")]
    assert 200 < longest < 301
    assert max(others) < 2
    assert [entry.error for entry in await office.entries()] == [
        "CommandRejected",
        "JSONDecodeError",
        "RecursionError",
        "CommandRejected",
        "TypeError",
    ]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]  # type: ignore[no-any-return]


@scenario
async def test_while_the_broker_is_down_all_stays_and_goes_later(office: Office) -> None:
    port = free_port()
    office.queue.sending = lambda message: socket.create_connection(("127.0.0.1", port)).close()
    kept = await office.enqueue("bob", "eve")
    for attempts in (1, 2, 3):
        assert await office.deliver() == 0
        assert {(entry.attempts, entry.error) for entry in await office.entries()} == {
            (attempts, "ConnectionRefusedError")
        }
        office.make_due()
    with socket.create_server(("127.0.0.1", port)):
        assert await office.deliver() == 2
    assert office.queue.ids == kept
    assert office.waiting() == []


@scenario
async def test_each_failure_doubles_the_pause(office: Office) -> None:
    port = free_port()
    office.queue.sending = lambda message: socket.create_connection(("127.0.0.1", port)).close()
    await office.enqueue("bob")
    pauses = []
    for _ in range(10):
        before = time()
        await office.deliver()
        ((due,),) = office.ask("SELECT due FROM OUTBOX")
        pauses.append(due - before)
        office.make_due()
    assert [int(pause) for pause in pauses] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]


def test_a_failure_is_logged_once_for_a_batch(host: SQLAlchemyHost, caplog: pytest.LogCaptureFixture) -> None:
    async def test(office: Office) -> None:
        await office.enqueue("bob", "eve")
        port = free_port()
        office.queue.sending = lambda message: socket.create_connection(("127.0.0.1", port)).close()
        await office.deliver()

    host.run(in_office(Office(host), test))
    assert [record.message for record in caplog.records] == ["2 outbox messages could not be sent and will be retried"]
    assert "ConnectionRefusedError" in caplog.text


def test_a_slow_broker_ends_the_batch(host: SQLAlchemyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "BATCH_SECONDS", 0.0)

    async def test(office: Office) -> None:
        await office.enqueue("bob", "eve")
        assert await office.deliver() == 1
        assert await office.deliver() == 1
        assert office.queue.to == ["bob", "eve"]

    host.run(in_office(Office(host), test))


@scenario
async def test_a_failed_commit_sends_it_again_with_the_same_id(office: Office) -> None:
    kept = await office.enqueue("bob")

    def fail(context: Any) -> Iterator[None]:
        yield
        if len(office.queue.sent) == 1:
            raise OSError("disk full")

    office.manager.register_context_middleware(fail)
    with pytest.raises(OSError, match="disk full"):
        await office.deliver()
    assert await office.deliver() == 1
    assert office.queue.ids == kept * 2


@scenario
async def test_a_relay_whose_contexts_roll_back_is_told_so(office: Office) -> None:
    """It would send the same for ever."""
    await office.enqueue("bob")

    def veto(context: Any) -> Iterator[None]:
        context.set_rollback_only("nobody is logged in")
        yield

    office.manager.register_context_middleware(veto)
    with pytest.raises(ConfigurationError, match=r"was rolled back \(nobody is logged in\)"):
        await office.deliver()


@on(*POSTGRES, *MARIA)
@scenario
async def test_while_a_batch_is_sent_others_write_and_send(office: Office) -> None:
    """Neither a row nor a gap is locked that they need, and no relay gets what another one has."""
    other = Office(office.host)
    await office.enqueue("1", "2", "3")
    ids = office.waiting()

    def meanwhile(message: Any) -> None:
        def run() -> None:
            async def work() -> None:
                if len(office.queue.sent) == 0:
                    async with other.context() as ctx:
                        session = await settled(ctx.db)
                        if isinstance(office.host, MARIA):
                            await settled(session.execute(text("SET innodb_lock_wait_timeout = 1")))
                        ctx.enqueue(other.manager.command("mails.send", "4"), reliable=True)
                    assert await other.deliver() == 1
                    assert other.queue.to == ["4"]
                await other.close()

            other.host.run(work())

        thread = ThreadPoolExecutor(1)
        thread.submit(run).result()
        thread.shutdown()

    office.queue.sending = meanwhile
    assert await office.deliver() == 3
    assert office.queue.ids == ids


@on(*POSTGRES, *MARIA)
def test_a_strict_engine_does_not_make_commits_fail(host: SQLAlchemyHost) -> None:
    """By its isolation level a relay would have its commit refused, for what others have written meanwhile."""

    async def test(office: Office) -> None:
        await office.enqueue("bob")
        async with office.context() as ctx:
            level = await isolation_level(await settled(ctx.db))
            assert level == "SERIALIZABLE"
        levels = []
        lock_due = outbox_module.outbox_tables.lock_due

        def watched(session: Any, *arguments: Any) -> Any:
            rows = lock_due(session, *arguments)
            levels.append(session.connection().get_isolation_level())
            return rows

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(outbox_module.outbox_tables, "lock_due", watched)
            assert await office.deliver() == 1
        async with office.context() as ctx:
            assert await isolation_level(await settled(ctx.db)) == "SERIALIZABLE"

    host.run(in_office(Office(host, host.backend(isolation_level="SERIALIZABLE")), test))


async def isolation_level(session: Any) -> str:
    connection = await settled(session.connection())
    if isinstance(connection, AsyncConnection):
        return await connection.get_isolation_level()
    return connection.get_isolation_level()  # type: ignore[no-any-return]


# --- Several processes ------------------------------------------------------------------------------------------------


def relay(office: Office, journal: Path, **settings: str) -> subprocess.Popen[str]:
    """A relay in a process of its own, which waits for a line before it begins."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.backends.outbox_app"],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("src", "integrations")),
            "OUTBOX_URL": office.host.url.render_as_string(hide_password=False),
            "OUTBOX_TABLE": NAME,
            "OUTBOX_JOURNAL": str(journal),
            **settings,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def begin(*relays: subprocess.Popen[str]) -> list[tuple[int, str]]:
    """Let them all begin at once; gives the code that each ended with, and what it said."""
    for process in relays:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in relays:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    return [(process.wait(60), process.communicate()[0].strip()) for process in relays]


def test_two_relays_at_once_send_nothing_twice(host: SQLAlchemyHost, tmp_path: Path) -> None:
    journal = tmp_path / "journal"

    async def test(office: Office) -> None:
        kept = [message_id for _ in range(4) for message_id in await office.enqueue(*map(str, range(100)))]
        await office.close()
        ended = begin(relay(office, journal), relay(office, journal))
        assert [code for code, _ in ended] == [0, 0]
        assert sum(int(said.split()[0]) for _, said in ended) == 400
        sent = read(journal)
        assert Counter(message["id"] for _, message, _ in sent) == Counter(kept)
        assert len({process for process, _, _ in sent}) == 2
        assert office.waiting() == []

    host.run(in_office(Office(host), test))


def test_what_a_killed_relay_has_sent_is_sent_again_with_the_same_id(host: SQLAlchemyHost, tmp_path: Path) -> None:
    journal = tmp_path / "journal"

    async def test(office: Office) -> None:
        kept = await office.enqueue("1", "2", "3")
        await office.close()
        assert begin(relay(office, journal, OUTBOX_DIE="2")) == [(-signal.SIGKILL, "")]
        assert office.waiting() == kept
        deadline = monotonic() + 20
        while office.waiting() and monotonic() < deadline:  # until the server has noticed, the rows are locked
            await office.deliver()
        assert [message["id"] for _, message, _ in read(journal)] == kept[:2]
        assert office.queue.ids == kept
        assert office.waiting() == []

    host.run(in_office(Office(host), test))


# --- The relay --------------------------------------------------------------------------------------------------------


class Running:
    """A relay in this process, and an office in whose name others write: no loop is shared by them."""

    def __init__(self, host: SQLAlchemyHost, **options: Any) -> None:
        self.host = host
        self.office = Office(host)
        self.options = options
        self.stops_at = "last"
        self.office.queue.sending = self._sending

    def prepare(self, *recipients: str) -> None:
        self.elsewhere(lambda other: other.create_tables())
        self.write(*recipients)

    def write(self, *recipients: str) -> None:
        self.elsewhere(lambda other: other.enqueue(*recipients))

    def elsewhere(self, work: Callable[[Office], Coroutine[Any, Any, Any]]) -> None:
        async def once() -> None:
            other = Office(self.host)
            await work(other)
            await other.close()

        with ThreadPoolExecutor(1) as pool:
            pool.submit(self.host.run, once()).result()

    @functools.cached_property
    def relay(self) -> Relay:
        return Relay(self.office.manager, **self.options)

    def _sending(self, message: dict[str, Any]) -> None:
        if message["args"] == [self.stops_at]:
            self.stop()

    def stop(self) -> None:
        self.relay.stop()

    def close(self) -> None:
        if not self.host.is_async:  # else the relay has done so
            self.office.manager.close()


@pytest.fixture
def running(host: SQLAlchemyHost) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def make(**options: Any) -> Running:
        made.append(Running(host, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_the_relay_sends_batch_by_batch_until_it_is_stopped(running: Any) -> None:
    one = running(batch=2)
    one.prepare("1", "2", "3", "4", "last")
    one.relay.run()
    assert one.office.queue.to == ["1", "2", "3", "4", "last"]
    assert one.office.waiting() == []


def test_it_looks_again_after_the_interval(running: Any) -> None:
    one = running(interval=0.01)
    one.prepare("1")
    writer = threading.Thread(target=one.write, args=["last"])
    one.office.queue.sending = lambda message: one.stop() if message["args"] == ["last"] else writer.start()
    one.relay.run()
    writer.join()
    assert one.office.queue.to == ["1", "last"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_batch(running: Any, number: signal.Signals) -> None:
    """The interrupt is none for the batch, and what the signals did before they do again."""
    former = signal.getsignal(number)
    one = running(batch=2, interval=60)
    one.prepare("signal", "2", "3")
    one.office.queue.sending = lambda message: os.kill(os.getpid(), number) if message["args"] == ["signal"] else None
    one.relay.run()
    assert one.office.queue.to == ["signal", "2"]
    assert len(one.office.waiting()) == 1
    assert signal.getsignal(number) is former


def test_a_signal_ends_its_pause(running: Any) -> None:
    one = running(interval=60)
    one.prepare()
    looked = one.relay._is_stopped

    def pausing(pause: float) -> bool:
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM]).start()
        return looked(pause)  # type: ignore[no-any-return]

    one.relay._is_stopped = pausing
    began = monotonic()
    one.relay.run()
    assert monotonic() - began < 30


def test_in_another_thread_it_is_stopped_by_another_one(running: Any) -> None:
    one = running(interval=60)
    one.prepare("1")
    one.office.queue.sending = lambda message: sent.set()
    sent = threading.Event()
    thread = threading.Thread(target=one.relay.run)
    thread.start()
    assert sent.wait(20)
    one.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert one.office.waiting() == []


def test_errors_of_the_database_do_not_end_it(running: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Here there is no table yet."""
    one = running(interval=0.01)
    pauses = pauses_of(one)
    paused = one.relay._is_stopped

    def pausing(pause: float) -> bool:
        if len(pauses) == 2:
            one.prepare("last")
        return paused(pause)  # type: ignore[no-any-return]

    one.relay._is_stopped = pausing
    one.relay.run()
    assert one.office.queue.to == ["last"]
    assert pauses[:3] == [0.01, 0.02, 0.04]
    messages = [record.message for record in caplog.records if record.name == "polydatum"]
    assert messages.count("the inbox cannot be pruned") == 1
    assert "the outbox cannot be reached; next attempt in 0.04 seconds" in messages


def test_it_prunes_the_inbox(running: Any) -> None:
    one = running()
    one.prepare("last")
    one.office.ask("INSERT INTO INBOX (id, claimed) VALUES ('old', ?)", time() - 86400 - 70)
    one.office.ask("INSERT INTO INBOX (id, claimed) VALUES ('young', ?)", time() - 86400 + 70)
    one.relay.run()
    assert one.office.ask("SELECT id FROM INBOX") == [("young",)]


def test_once_it_tries_all_that_is_due(running: Any) -> None:
    one = running(batch=2)
    one.prepare("1", "2", "poison", "4", "5")
    one.office.ask("UPDATE OUTBOX SET message = '{' WHERE message LIKE ?", "%poison%")
    assert one.relay.run_once() == (4, 1)
    assert one.office.queue.to == ["1", "2", "4", "5"]
    assert one.relay.run_once() == (0, 0)


def pauses_of(one: Running) -> list[float]:
    """The pauses that it makes, and does not take."""
    paused = one.relay._is_stopped
    pauses: list[float] = []

    def pausing(pause: float) -> bool:
        pauses.append(pause)
        return paused(0)

    one.relay._is_stopped = pausing  # type: ignore[method-assign]
    return pauses


def test_where_a_batch_locks_all_others_get_their_turn(running: Any) -> None:
    """A relay that begins the next batch at once lets nobody else write to a SQLite file until it has sent all."""
    one = running(batch=1)
    one.prepare("1", "2", "last")
    pauses = pauses_of(one)
    one.relay.run()
    assert pauses == [0.1 if isinstance(one.host, SQLITE) else 0] * 3


def test_a_broker_that_is_down_is_not_asked_without_a_pause(running: Any) -> None:
    one = running(batch=1, interval=0.5)
    one.prepare("1", "2", "last")
    port = free_port()

    def sending(message: dict[str, Any]) -> None:
        if message["args"] == ["last"]:
            one.stop()
        socket.create_connection(("127.0.0.1", port)).close()

    one.office.queue.sending = sending
    pauses = pauses_of(one)
    one.relay.run()
    assert pauses == [0.5] * 3


@pytest.mark.parametrize("options", [{"batch": 0}, {"interval": 0}])
def test_numbers_out_of_range_are_refused(options: dict[str, Any]) -> None:
    dm = DataManager(AppDAL)
    dm.register_command_queue(Queue(), outbox=Outbox("db"))
    with pytest.raises(ConfigurationError, match="batch has to be 1 or more"):
        Relay(dm, **options)


def test_a_manager_without_an_outbox_has_no_relay() -> None:
    dm = DataManager(AppDAL)
    dm.register_command_queue(Queue())
    with pytest.raises(ConfigurationError, match="no Outbox"):
        Relay(dm)


def test_an_inbox_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    class Known(dispatch.Inbox):
        """Somewhere else."""

    dm = DataManager(AppDAL)
    dm.register_resources(db=SQLAlchemyBackend("sqlite://"))
    outbox = Outbox("db")
    outbox.create_table(dm.get_client("db"))
    dm.register_command_queue(Queue(), outbox=outbox, inbox=Known())
    assert Relay(dm).run_once() == (0, 0)
    dm.close()


# --- The inbox --------------------------------------------------------------------------------------------------------


@scenario
async def test_a_message_is_claimed_once(office: Office) -> None:
    async with office.context() as ctx:
        assert [await office.claim(ctx, name) for name in ("order-5", "order-5", "Order-5")] == [True, False, True]
    async with office.context() as ctx:
        assert [await office.claim(ctx, name) for name in ("order-5", "Order-5", "ORDER-5")] == [False, False, True]


@scenario
async def test_a_rollback_forgets_the_claim(office: Office) -> None:
    async with office.context() as ctx:
        assert await office.claim(ctx, "order-5")
        ctx.set_rollback_only()
    async with office.context() as ctx:
        assert await office.claim(ctx, "order-5")


@pytest.mark.parametrize("first_commits", [True, False])
def test_a_second_claim_waits_for_what_becomes_of_the_first(host: SQLAlchemyHost, first_commits: bool) -> None:
    async def second() -> bool:
        office = Office(host)
        async with office.context() as ctx:
            is_new = await office.claim(ctx, "order-5")
        await office.close()
        return is_new

    async def test(office: Office) -> None:
        async with office.context() as ctx:
            assert await office.claim(ctx, "order-5")
            result = pool.submit(_result_of, host, second())
            while not is_waiting(office) and not result.done():
                pass
            assert not result.done()
            if not first_commits:
                ctx.set_rollback_only()
        assert result.result(20) is not first_commits

    with ThreadPoolExecutor(1) as pool:
        host.run(in_office(Office(host), test))


NO_PATIENCE = {POSTGRES: "SET LOCAL lock_timeout = '20ms'", MARIA: "SET SESSION innodb_lock_wait_timeout = 0"}


@on(*POSTGRES, *MARIA)
def test_a_claim_that_has_waited_for_too_long_may_be_tried_again(host: SQLAlchemyHost) -> None:
    async def test(office: Office) -> None:
        impatient = next(statement for kind, statement in NO_PATIENCE.items() if isinstance(host, kind))
        async with office.context() as first, office.context() as second:
            assert await office.claim(first, "order-5")
            await settled((await settled(second.db)).execute(text(impatient)))
            with pytest.raises(DBAPIError) as raised:
                await office.claim(second, "order-5")
            assert is_transient(raised.value, lock_timeouts=True)
            second.set_rollback_only()

    host.run(in_office(Office(host), test))


def _result_of(host: SQLAlchemyHost, scenario: Coroutine[Any, Any, Any]) -> Any:
    results = []

    async def run() -> None:
        results.append(await scenario)

    host.run(run())
    return results[0]


def is_waiting(office: Office) -> bool:
    """Whether a transaction waits for another one; of a SQLite file nobody knows."""
    if isinstance(office.host, POSTGRES):
        query = "SELECT 1 FROM pg_stat_activity WHERE application_name = ? AND wait_event_type = 'Lock'"
    elif isinstance(office.host, MARIA):
        # Not innodb_trx: who reads it more often than ten times a second reads the same again and again.
        query = (
            "SELECT 1 FROM information_schema.processlist JOIN information_schema.global_status"
            " ON variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS'"
            " WHERE db = ? AND state = 'Update' AND variable_value > 0"
        )
    else:
        return True
    return bool(office.ask(query, NAME))


@scenario
async def test_what_is_older_than_the_retention_is_pruned(office: Office) -> None:
    async with office.context() as ctx:
        for name in ("old", "older", "young"):
            await office.claim(ctx, name)
    assert await office.prune() == 0
    office.ask("UPDATE INBOX SET claimed = claimed - ? WHERE id <> 'young'", 86400 + 61)
    assert await office.prune() == 2
    assert office.ask("SELECT id FROM INBOX") == [("young",)]


# --- Users' own engines -----------------------------------------------------------------------------------------------


@on(*SYNC)
def test_in_a_transaction_of_a_test_all_of_it_works(host: SQLAlchemyHost) -> None:
    engine: Any = host.engine()
    with engine.connect() as connection:
        office = Office(host, host.make(sessionmaker(connection, join_transaction_mode="create_savepoint")))
        office.outbox.create_table(connection)
        office.inbox.create_table(connection)

        async def test() -> None:
            await office.enqueue("bob")
            assert [entry.path for entry in await office.entries()] == ["mails.send"]
            assert await office.deliver() == 1
            async with office.context() as ctx:
                assert await office.claim(ctx, "order-5")
            assert await office.prune() == 0

        host.run(test())
        connection.rollback()
    engine.dispose()
