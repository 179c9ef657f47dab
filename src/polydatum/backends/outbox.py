"""Outbox and inbox in tables of the application's own database, so that commands are kept by the commit that they follow.

What happens to the rows in the database is in `polydatum.backends.outbox_tables`; what runs for hours in
`polydatum.backends.outbox_relay`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from time import monotonic, time
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from polydatum import dispatch
from polydatum.errors import AsyncResourceError, ConfigurationError, MissingClientError, shown
from polydatum.messages import CLOCK_SKEW, MAX_AGE, Message, as_json, from_json
from polydatum.reporting import log_error
from polydatum.workers import run_in_worker

try:
    from sqlalchemy import Connection, Engine, MetaData, Table
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session
except ImportError as error:
    raise MissingClientError("Outbox", "sqlalchemy", "sqlalchemy") from error

from polydatum.backends import outbox_tables
from polydatum.backends.sqlalchemy import AsyncSQLAlchemyBackend, SQLAlchemyBackend

BATCH_SECONDS = 2.0
"""After so long a batch takes up no further message: while it lasts its rows are locked, on SQLite all that is written."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
"""Seconds until a message is tried again: after its first failed attempt, and at most. Each pause doubles the former."""


class _InTable:
    """A table that is reached through a resource."""

    def __init__(self, resource: str, table: Table) -> None:
        self.resource = resource
        self.table = table

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.table.fullname} of resource {self.resource!r}>"

    def create_table(self, bind: Engine | Connection) -> None:
        """Create the table, unless it is there.

        Args:
            bind: ``dm.get_client("db")``; for an async resource a connection:
                ``await connection.run_sync(outbox.create_table)``.
        """
        self.table.create(bind, checkfirst=True)

    def is_async(self, data_manager: Any) -> bool:
        """Whether the resource is async, and with it what is done with the table.

        Raises:
            UnknownResourceError: if there is no such resource.
            ConfigurationError: if it is none of SQLAlchemy.
        """
        backend = data_manager.get_resource(self.resource)
        if not isinstance(backend, SQLAlchemyBackend | AsyncSQLAlchemyBackend):
            raise ConfigurationError(
                f"{type(self).__name__}: resource {shown(self.resource)} has to be a SQLAlchemyBackend or an "
                f"AsyncSQLAlchemyBackend, not {type(backend).__name__}"
            )
        return isinstance(backend, AsyncSQLAlchemyBackend)

    def check(self, data_manager: Any) -> None:
        """Refuse a DataManager whose resource is missing or none of SQLAlchemy, as `is_async` does."""
        self.is_async(data_manager)

    @contextmanager
    def _session(self, data_manager: Any) -> Iterator[Session]:
        """That of a context of its own, which commits at the end of the block."""
        with data_manager.context() as context:
            yield getattr(context, self.resource)
        self._require_commit(context)

    @asynccontextmanager
    async def _asession(self, data_manager: Any) -> AsyncIterator[AsyncSession]:
        async with data_manager.context() as context:
            yield await getattr(context, self.resource)
        self._require_commit(context)

    def _require_commit(self, context: Any) -> None:
        """What was sent and then rolled back would be sent for ever."""
        if context.outcome != "committed":
            raise ConfigurationError(
                f"{self!r}: its context was rolled back ({context.outcome.reason}); "
                "let middleware leave contexts alone that have no user and no request"
            )


class OutboxEntry(NamedTuple):
    """A message that waits in an outbox, without its arguments.

    Attributes:
        id: of the message.
        path: of its command.
        written: when, in seconds since the epoch.
        due: when it will be sent, or was to be, in seconds since the epoch.
        attempts: how many have failed.
        error: the name of the class of the last one's error.
    """

    id: str
    path: str
    written: float
    due: float
    attempts: int
    error: str | None


class Batch(NamedTuple):
    """What has become of the rows of one transaction; those that are in neither list were not tried.

    Attributes:
        sent: the numbers of rows that were sent.
        failed: what is noted of rows that could not be.
        locked_all: whether nobody else could write meanwhile.
    """

    sent: list[int]
    failed: list[dict[str, Any]]
    locked_all: bool


class Outbox(_InTable, dispatch.Outbox):
    """Keeps commands in a table until they are sent: for ``dm.register_command_queue(queue, outbox=Outbox("db"))``.

    ``ctx.enqueue(command, reliable=True)`` writes a row in the context's own transaction, at the start of the close. A
    relay, such as ``polydatum outbox run``, sends it and removes it: at least once, and twice only if it dies, or its
    database fails, between the two; the message has the same id then, by which an inbox tells it.

    Works on PostgreSQL, MySQL 8, MariaDB 10.6, SQLite, and later ones.

    Args:
        resource: the name of a `SQLAlchemyBackend` or `AsyncSQLAlchemyBackend`.
        table: the name of the table.
        metadata: where the table is put, besides your own, for `create_all` or Alembic; by default it is by itself.

    Attributes:
        resource: the name of the resource.
        table: the ``sqlalchemy.Table``.

    Example:
        >>> from polydatum import CommandQueue, DataAccessLayer, DataManager, Service, command
        >>> class Mails(Service):
        ...     @command
        ...     def send(self, to): ...
        >>> class AppDAL(DataAccessLayer):
        ...     mails = Mails()
        >>> class Printer(CommandQueue):
        ...     def send(self, message, **options):
        ...         print("sent:", message["path"], message["args"])
        >>> dm = DataManager(AppDAL)
        >>> dm.register_resources(db=SQLAlchemyBackend("sqlite://"))
        >>> outbox = Outbox("db")
        >>> outbox.create_table(dm.get_client("db"))
        >>> dm.register_command_queue(Printer(), outbox=outbox)
        >>> with dm.context() as ctx:
        ...     _ = ctx.enqueue(dm.command("mails.send", "ann"), reliable=True)
        >>> outbox.deliver(dm)
        sent: mails.send ['ann']
        1
        >>> dm.close()
    """

    def __init__(self, resource: str, *, table: str = "polydatum_outbox", metadata: MetaData | None = None) -> None:
        super().__init__(resource, outbox_tables.outbox_table(table, MetaData() if metadata is None else metadata))
        self._unwritten: WeakKeyDictionary[Any, list[dict[str, Any]]] = WeakKeyDictionary()

    # --- Writing ------------------------------------------------------------------------------------------------------

    def writing(self, context: Any, message: Message, options: Mapping[str, Any]) -> Callable[[], Any]:
        """A hook that writes a row by the context's session; an async one if that is async.

        Raises:
            ConfigurationError: if the resource is none of SQLAlchemy.
        """
        row = {
            "id": message.id,
            "path": message.path,
            "message": as_json(message.as_data()),
            "options": as_json(dict(options)),
            "written": message.sent,
            "due": message.sent,
            "attempts": 0,
        }
        if not self.is_async(context.data_manager):
            return partial(self._collect, context, row, self._write)

        async def collect() -> None:
            self._collect(context, row, self._awrite)

        return collect

    def _collect(self, context: Any, row: dict[str, Any], write: Callable[[Any], Any]) -> None:
        """Have all rows of a context written at once: by a hook that runs after those which collect them."""
        rows = self._unwritten.setdefault(context, [])
        rows.append(row)
        if len(rows) == 1:
            context.before_commit(partial(write, context))

    def _write(self, context: Any) -> None:
        outbox_tables.write(getattr(context, self.resource), self.table, self._unwritten.pop(context))

    async def _awrite(self, context: Any) -> None:
        session = await getattr(context, self.resource)
        await session.run_sync(outbox_tables.write, self.table, self._unwritten.pop(context))

    # --- Delivery -----------------------------------------------------------------------------------------------------

    def deliver(self, data_manager: Any, limit: int = 100) -> int:
        """Send what is due, in one context, the oldest first; what another relay is about to send is left to that one.

        A message that cannot be sent, or read, stays: it is tried again after a pause that grows to five minutes, and the
        class of the error is noted and logged. A batch ends after two seconds, or as soon as what is being sent then has
        been sent or given up by the queue.

        Args:
            data_manager: the DataManager that the outbox is registered with.
            limit: how many messages at most.

        Returns:
            How many were sent.

        Raises:
            ConfigurationError: if no queue is registered, or the context was rolled back without an exception.
            Exception: what the database raises; all that was sent is sent again then.
        """
        return len(self.try_batch(data_manager, limit, time()).sent)

    async def adeliver(self, data_manager: Any, limit: int = 100) -> int:
        """The async twin of `deliver`, for an async resource; messages are sent by a worker thread."""
        return len((await self.atry_batch(data_manager, limit, time())).sent)

    def try_batch(self, data_manager: Any, limit: int, until: float) -> Batch:
        """As `deliver`, of what is due at a time; says more of what has become of it."""
        carrier = data_manager.dispatch
        with self._session(data_manager) as session:
            batch = _send(carrier, *outbox_tables.lock_due(session, self.table, limit, until))
            self._note(session, batch)
        return batch

    async def atry_batch(self, data_manager: Any, limit: int, until: float) -> Batch:
        """The async twin of `try_batch`."""
        carrier = data_manager.dispatch
        async with self._asession(data_manager) as session:
            locked = await session.run_sync(outbox_tables.lock_due, self.table, limit, until)
            batch: Batch = await run_in_worker(partial(_send, carrier, *locked))
            await session.run_sync(self._note, batch)
        return batch

    def _note(self, session: Session, batch: Batch) -> None:
        if batch.sent:
            outbox_tables.forget(session, self.table, batch.sent)
        if batch.failed:
            outbox_tables.postpone(session, self.table, batch.failed)

    # --- For people ---------------------------------------------------------------------------------------------------

    def entries(self, data_manager: Any, limit: int = 100) -> list[OutboxEntry]:
        """What waits to be sent, the oldest first."""
        with self._session(data_manager) as session:
            return _entries(outbox_tables.oldest(session, self.table, limit))

    async def aentries(self, data_manager: Any, limit: int = 100) -> list[OutboxEntry]:
        """The async twin of `entries`."""
        async with self._asession(data_manager) as session:
            return _entries(await session.run_sync(outbox_tables.oldest, self.table, limit))


def outbox_of(data_manager: Any) -> Outbox:
    """The outbox that a DataManager was given.

    Raises:
        ConfigurationError: if it was given none, or one of another kind.
    """
    outbox = data_manager.dispatch.outbox
    if not isinstance(outbox, Outbox):
        raise ConfigurationError("no Outbox of polydatum.backends: dm.register_command_queue(..., outbox=Outbox('db'))")
    return outbox


def doubled(first: float, times: int, most: float) -> float:
    """A pause that was doubled so many times, and has grown to the longest."""
    return min(first * 2.0 ** min(times, 30), most)  # as a float has an end


def _entries(rows: Sequence[Any]) -> list[OutboxEntry]:
    return [OutboxEntry(*row) for row in rows]


def _send(carrier: dispatch.Dispatch, rows: Sequence[Any], locked_all: bool) -> Batch:
    """Send them one by one, whatever becomes of the others."""
    ends = monotonic() + BATCH_SECONDS
    batch = Batch([], [], locked_all)
    last_error: Exception | None = None
    for row in rows:
        try:
            carrier.deliver(Message.read(from_json(row.message)), from_json(row.options))
            batch.sent.append(row.number)
        except Exception as error:
            last_error = error
            batch.failed.append(
                {
                    "row_number": row.number,
                    "attempts": row.attempts + 1,
                    "due": time() + doubled(FIRST_PAUSE, row.attempts, LONGEST_PAUSE),
                    "error": type(error).__name__[:100],
                }
            )
        if monotonic() > ends:
            break
    if last_error is not None:
        log_error("%d messages of the outbox could not be sent; they stay in it", len(batch.failed), error=last_error)
    return batch


class Inbox(_InTable, dispatch.Inbox):
    """Remembers the messages that were handled: for ``dm.register_command_queue(queue, inbox=Inbox("db"))``.

    Args:
        resource: as for `Outbox`; that of the data which the commands change, so that both are kept or neither.
        table: as for `Outbox`.
        metadata: as for `Outbox`.
        retention: seconds for which a message is remembered; by default a minute more than a signature holds. The relay
            of the outbox forgets older ones; without one call `prune` now and then.

    Attributes:
        resource: the name of the resource.
        table: the ``sqlalchemy.Table``.

    Example:
        >>> from polydatum import DataManager
        >>> dm = DataManager()
        >>> dm.register_resources(db=SQLAlchemyBackend("sqlite://"))
        >>> inbox = Inbox("db")
        >>> inbox.create_table(dm.get_client("db"))
        >>> with dm.context() as ctx:
        ...     inbox.claim(ctx, "order-5"), inbox.claim(ctx, "order-5")
        (True, False)
        >>> dm.close()
    """

    def __init__(
        self,
        resource: str,
        *,
        table: str = "polydatum_inbox",
        metadata: MetaData | None = None,
        retention: float = MAX_AGE + CLOCK_SKEW,
    ) -> None:
        super().__init__(resource, outbox_tables.inbox_table(table, MetaData() if metadata is None else metadata))
        self.retention = retention

    def claim(self, context: Any, message_id: str) -> bool:
        """Whether a message is new; noted by the context's session, and forgotten if that rolls back.

        While another transaction claims the same message, it waits for that one, as long as the database lets it.

        Raises:
            ConfigurationError: if the resource is none of SQLAlchemy.
            AsyncResourceError: if it is async; await `aclaim`.
            Exception: what the database raises, if it has waited for too long, say.
        """
        if self.is_async(context.data_manager):
            raise AsyncResourceError(self.resource, "cannot be used by claim(); await aclaim()")
        return outbox_tables.claim(getattr(context, self.resource), self.table, message_id)

    async def aclaim(self, context: Any, message_id: str) -> bool:
        """The async twin of `claim`, for an async resource."""
        session = await getattr(context, self.resource)
        return await session.run_sync(outbox_tables.claim, self.table, message_id)  # type: ignore[no-any-return]

    def prune(self, data_manager: Any) -> int:
        """Forget what is older than the retention, in a context of its own; gives how many messages that were."""
        with self._session(data_manager) as session:
            return outbox_tables.prune(session, self.table, self.retention)

    async def aprune(self, data_manager: Any) -> int:
        """The async twin of `prune`, for an async resource."""
        async with self._asession(data_manager) as session:
            return await session.run_sync(outbox_tables.prune, self.table, self.retention)
