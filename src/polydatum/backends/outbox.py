"""Outbox and inbox in tables of the application's own database: commands are stored by the commit that they belong to.

The SQL is in `polydatum.backends.outbox_tables`, the long-running relay in `polydatum.backends.outbox_relay`.
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
"""After this long a batch sends no more messages: its rows stay locked until it ends, on SQLite the whole database."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
"""Seconds until a message is retried: after its first failed attempt, and at most. Each pause is twice the last one."""


class _InTable:
    """A table that is reached through a resource."""

    def __init__(self, resource: str, table: Table) -> None:
        self.resource = resource
        self.table = table

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.table.fullname} of resource {self.resource!r}>"

    def create_table(self, bind: Engine | Connection) -> None:
        """Create the table, unless it exists.

        Args:
            bind: ``dm.get_client("db")``; for an async resource a connection:
                ``await connection.run_sync(outbox.create_table)``.
        """
        self.table.create(bind, checkfirst=True)

    def is_async(self, data_manager: Any) -> bool:
        """Whether the resource is async, and therefore everything that uses the table.

        Raises:
            UnknownResourceError: if there is no such resource.
            ConfigurationError: if it is not a SQLAlchemy resource.
        """
        backend = data_manager.get_resource(self.resource)
        if not isinstance(backend, SQLAlchemyBackend | AsyncSQLAlchemyBackend):
            raise ConfigurationError(
                f"{type(self).__name__}: resource {shown(self.resource)} has to be a SQLAlchemyBackend or an "
                f"AsyncSQLAlchemyBackend, not {type(backend).__name__}"
            )
        return isinstance(backend, AsyncSQLAlchemyBackend)

    def check(self, data_manager: Any) -> None:
        """Raise if the DataManager's resource is missing or not a SQLAlchemy one, as `is_async` does."""
        self.is_async(data_manager)

    @contextmanager
    def _session(self, data_manager: Any) -> Iterator[Session]:
        """The session of a new context, which commits at the end of the block."""
        with data_manager.context() as context:
            yield getattr(context, self.resource)
        self._require_commit(context)

    @asynccontextmanager
    async def _asession(self, data_manager: Any) -> AsyncIterator[AsyncSession]:
        async with data_manager.context() as context:
            yield await getattr(context, self.resource)
        self._require_commit(context)

    def _require_commit(self, context: Any) -> None:
        """Raise if the context was rolled back: what was sent would stay in the outbox and be sent forever."""
        if context.outcome != "committed":
            raise ConfigurationError(
                f"{self!r}: its context was rolled back ({context.outcome.reason}); "
                "middleware must not roll back contexts that have no user and no request"
            )


class OutboxEntry(NamedTuple):
    """A message that waits in an outbox, without its arguments.

    Attributes:
        id: the id of the message.
        path: the path of its command.
        written: when it was written, in seconds since the epoch.
        due: when it is, or was, due to be sent, in seconds since the epoch.
        attempts: the number of failed attempts.
        error: the class name of the last attempt's error.
    """

    id: str
    path: str
    written: float
    due: float
    attempts: int
    error: str | None


class Batch(NamedTuple):
    """The result of one transaction of the relay; rows in neither list were not tried.

    Attributes:
        sent: the numbers of the rows that were sent.
        failed: the updates to rows that could not be sent.
        locked_all: whether it kept everybody else from writing.
    """

    sent: list[int]
    failed: list[dict[str, Any]]
    locked_all: bool


class Outbox(_InTable, dispatch.Outbox):
    """Keeps commands in a table until they are sent: for ``dm.register_command_queue(queue, outbox=Outbox("db"))``.

    ``ctx.enqueue(command, reliable=True)`` writes a row in the context's own transaction, when the context starts to
    close. A relay, such as ``polydatum outbox run``, sends the message and removes the row. Delivery is at least once:
    a message is sent twice only if the relay dies, or its database fails, between the two steps. The message then has
    the same id, by which an inbox recognizes it.

    Works on PostgreSQL, MySQL 8, MariaDB 10.6 and SQLite, and on later versions of them.

    Args:
        resource: the name of a `SQLAlchemyBackend` or `AsyncSQLAlchemyBackend`.
        table: the name of the table.
        metadata: the metadata that the table joins, next to your own tables, for `create_all` or Alembic; by default
            one of its own.

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
        """A hook that writes a row through the context's session; async if the session is.

        Raises:
            ConfigurationError: if the resource is not a SQLAlchemy one.
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
        """Collect the rows of a context, to be written in one go by a hook that runs after all collecting hooks."""
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
        """Send the messages that are due, in one context, oldest first; skips those that another relay has locked.

        A message that cannot be sent, or read, stays in the outbox. It is retried after a pause that grows to five
        minutes, and the class of the error is recorded and logged. A batch ends after two seconds, plus the time that
        the queue takes to send the current message or to give up.

        Args:
            data_manager: the DataManager that the outbox is registered with.
            limit: the maximum number of messages.

        Returns:
            How many messages were sent.

        Raises:
            ConfigurationError: if no queue is registered, or the context was rolled back without an exception.
            Exception: any error of the database; everything that was sent will then be sent again.
        """
        return len(self.try_batch(data_manager, limit, time()).sent)

    async def adeliver(self, data_manager: Any, limit: int = 100) -> int:
        """The async twin of `deliver`, for an async resource; a worker thread sends the messages."""
        return len((await self.atry_batch(data_manager, limit, time())).sent)

    def try_batch(self, data_manager: Any, limit: int, until: float) -> Batch:
        """As `deliver`, for messages due at the time ``until``; returns the details."""
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
        """The messages that wait to be sent, oldest first."""
        with self._session(data_manager) as session:
            return _entries(outbox_tables.oldest(session, self.table, limit))

    async def aentries(self, data_manager: Any, limit: int = 100) -> list[OutboxEntry]:
        """The async twin of `entries`."""
        async with self._asession(data_manager) as session:
            return _entries(await session.run_sync(outbox_tables.oldest, self.table, limit))


def outbox_of(data_manager: Any) -> Outbox:
    """The outbox that a DataManager was given.

    Raises:
        ConfigurationError: if it was given none, or an outbox of another class.
    """
    outbox = data_manager.dispatch.outbox
    if not isinstance(outbox, Outbox):
        raise ConfigurationError("no Outbox of polydatum.backends: dm.register_command_queue(..., outbox=Outbox('db'))")
    return outbox


def doubled(first: float, times: int, most: float) -> float:
    """The pause ``first``, doubled ``times`` times, but not longer than ``most``."""
    return min(first * 2.0 ** min(times, 30), most)  # 30: a float overflows


def _entries(rows: Sequence[Any]) -> list[OutboxEntry]:
    return [OutboxEntry(*row) for row in rows]


def _send(carrier: dispatch.Dispatch, rows: Sequence[Any], locked_all: bool) -> Batch:
    """Send the messages one by one; a failure does not affect the others."""
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
        log_error("%d outbox messages could not be sent and will be retried", len(batch.failed), error=last_error)
    return batch


class Inbox(_InTable, dispatch.Inbox):
    """Remembers the messages that were handled: for ``dm.register_command_queue(queue, inbox=Inbox("db"))``.

    Args:
        resource: as for `Outbox`; the one that holds the data which the commands change, so that both commit or
            neither.
        table: as for `Outbox`.
        metadata: as for `Outbox`.
        retention: seconds for which a message is remembered; by default one minute longer than a signature is valid.
            The relay of the outbox prunes older ones; without a relay, call `prune` now and then.

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
        """Claim a message through the context's session, and return whether it is new. A rollback undoes the claim.

        If another transaction has claimed the same message and is still open, this waits for it, as long as the
        database permits.

        Raises:
            ConfigurationError: if the resource is not a SQLAlchemy one.
            AsyncResourceError: if it is async; await `aclaim`.
            Exception: any error of the database, such as a lock timeout.
        """
        if self.is_async(context.data_manager):
            raise AsyncResourceError(self.resource, "cannot be used by claim(); await aclaim()")
        return outbox_tables.claim(getattr(context, self.resource), self.table, message_id)

    async def aclaim(self, context: Any, message_id: str) -> bool:
        """The async twin of `claim`, for an async resource."""
        session = await getattr(context, self.resource)
        return await session.run_sync(outbox_tables.claim, self.table, message_id)  # type: ignore[no-any-return]

    def prune(self, data_manager: Any) -> int:
        """Forget messages older than the retention, in a context of its own; returns how many those were."""
        with self._session(data_manager) as session:
            return outbox_tables.prune(session, self.table, self.retention)

    async def aprune(self, data_manager: Any) -> int:
        """The async twin of `prune`, for an async resource."""
        async with self._asession(data_manager) as session:
            return await session.run_sync(outbox_tables.prune, self.table, self.retention)
