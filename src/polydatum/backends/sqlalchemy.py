"""SQLAlchemy as a resource: services get a `Session`, which commits or rolls back with the context."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, closing
from typing import Any, Generic, TypeVar

from polydatum.backends.sources import refuse_options
from polydatum.clients import AsyncBackend, Backend
from polydatum.errors import ConfigurationError, MissingClientError

try:
    from sqlalchemy import URL, Engine, create_engine, event, make_url, select
    from sqlalchemy.exc import ArgumentError
    from sqlalchemy.orm import Session, sessionmaker
except ImportError as error:
    raise MissingClientError("SQLAlchemyBackend", "sqlalchemy", "sqlalchemy") from error
try:
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
except ImportError as error:
    raise MissingClientError("SQLAlchemyBackend", "greenlet", "sqlalchemy") from error

from polydatum.backends.sqlalchemy_sqlite import SharedMemory, begin_transactions, is_memory
from polydatum.backends.sqlalchemy_transactions import AsyncSQLAlchemyTransaction, SQLAlchemyTransaction

MakerT = TypeVar("MakerT")

OF_ONE_CONTEXT: dict[str, Any] = {"expire_on_commit": False, "close_resets_only": False}
"""Options of our sessions: loaded objects stay usable after the context; a session that a service closes does not."""


class _Sessions(Generic[MakerT]):
    """Common to the sync and the async backend: an engine, or how to create it, and how to create sessions on it."""

    def __init__(
        self,
        source: object,
        kinds: tuple[type, type],
        maker: MakerT | None,
        options: dict[str, Any],
        resolve_unknown: bool,
    ) -> None:
        self._url = make_url(source) if isinstance(source, str | URL) else None
        if self._url is None and not isinstance(source, kinds):
            raise ConfigurationError(
                f"{type(self).__name__} takes a URL, {kinds[0].__name__} or {kinds[1].__name__}, "
                f"not a {type(source).__name__}"
            )
        if self._url is None:
            refuse_options(self, options, "engine")
        self._refuse_driver(source if maker is None else _engine_of(maker))
        self._maker = maker
        self._options = options
        self._resolve_unknown = resolve_unknown
        self._memory: SharedMemory | None = None
        if self._url is not None and is_memory(self._url) and not {"poolclass", "creator"} & options.keys():
            self._memory = SharedMemory()
        # A given engine may already be in use, so its pool is replaced in every child of this process.
        self._process: int | None = os.getpid()
        self._inherited_pools: list[Any] = []

    def _refuse_driver(self, engine: Any) -> None:
        """Raise if the driver is sync and has to be async, or the reverse; SQLAlchemy would raise an obscure error, and late."""
        wanted = isinstance(self, AsyncBackend)
        try:
            dialect = engine.dialect if self._url is None else self._url.get_dialect(wanted)
        except (ArgumentError, ImportError):
            return  # there is no such driver: SQLAlchemy raises an error when it connects
        if dialect.is_async is not wanted:
            kinds = ("a sync", "an async")
            other = (AsyncSQLAlchemyBackend, SQLAlchemyBackend)[wanted]
            raise ConfigurationError(
                f"{type(self).__name__} cannot use {dialect.name}+{dialect.driver}, {kinds[not wanted]} driver: "
                f"use {other.__name__}, or {kinds[wanted]} driver"
            )

    def _shown(self, client: Any) -> str:
        url = client.url if self._url is None else self._url
        return f"{type(self).__name__}({url.set(query={}).render_as_string(hide_password=True)})"

    def _engine_arguments(self) -> tuple[URL, dict[str, Any]]:
        assert self._url is not None
        url = self._url if self._memory is None else self._memory.url(self._url)
        # After a restart of the server the pooled connections are dead, and only the pool can replace them.
        return url, {"pool_pre_ping": url.get_backend_name() != "sqlite", **self._options}

    def _mend(self, engine: Engine) -> None:
        """Fix the transactions of an engine that was made from a SQLite URL."""
        if engine.dialect.name != "sqlite":
            return
        if "isolation_level" not in self._options and "autocommit" not in self._options.get("connect_args", ()):
            begin_transactions(engine)

    def _abandon_pool(self, engine: Engine) -> None:
        """Replace the pool, but keep its connections referenced: a finalizer might end them for the parent, too."""
        self._inherited_pools.append(engine.pool)
        engine.dispose(close=False)


def _engine_of(maker: Any) -> Any:
    """The engine of a session factory, which may be bound to a connection instead, as in tests."""
    bind = maker.kw.get("bind")
    if bind is None:
        raise ConfigurationError("the session factory has no bind: bind it to the engine (it may use others, too)")
    return bind if isinstance(bind, Engine | AsyncEngine) else bind.engine


class SQLAlchemyBackend(_Sessions["sessionmaker[Any]"], Backend[Engine]):
    """Sessions of SQLAlchemy: ``dm.register_resources(db=SQLAlchemyBackend("sqlite:///shop.db"))``.

    Services get a real `sqlalchemy.orm.Session`, one per context. It connects when it first executes something, flushes
    and commits when the context closes, and rolls back if the context ends otherwise; services do none of that
    themselves. Loaded objects stay usable after the context, since ``expire_on_commit`` is off and a rollback detaches
    the objects first. Works in sync contexts, and in async ones, where it blocks. `DataManager.get_client` returns the
    engine.

    Args:
        source: a URL; or an engine of your own; or a ``sessionmaker`` of your own with a bind, whose class and options
            are then used. Your own engine is never disposed of.
        resolve_unknown: on PostgreSQL, query the transaction's id before the commit, at the price of one exchange. If
            the connection is lost during the commit, another connection asks the server whether the transaction
            committed.
        options: passed on to ``create_engine``, with a URL. Except for SQLite, ``pool_pre_ping`` is on by default.

    Raises:
        ConfigurationError: if the source is something else, or if options are given along with an engine or session
            factory; when a session connects, if the connection is in AUTOCOMMIT mode.
        RollbackOnlyError: when the context closes, if the database refuses to commit because an earlier error was
            swallowed, or if a service has rolled back changes that may have been written.
        MultipleAuthoritiesError: when the context closes, if the session has written to two databases.
        CommitOutcomeUnknown: when the context closes, if the connection was lost during the commit.
        sqlalchemy.exc.SQLAlchemyError: any other error of SQLAlchemy, unchanged.

    Example:
        >>> from sqlalchemy import text
        >>> from polydatum import DataManager
        >>> dm = DataManager()
        >>> dm.register_resources(db=SQLAlchemyBackend("sqlite://"))
        >>> with dm.context() as ctx:
        ...     _ = ctx.db.execute(text("CREATE TABLE items (name TEXT)"))
        ...     _ = ctx.db.execute(text("INSERT INTO items VALUES ('tea')"))
        >>> with dm.context() as ctx:
        ...     ctx.db.scalars(text("SELECT name FROM items")).all()
        ['tea']
        >>> dm.close()
    """

    def __init__(
        self,
        source: str | URL | Engine | sessionmaker[Any],
        *,
        resolve_unknown: bool = False,
        **options: Any,
    ) -> None:
        maker = source if isinstance(source, sessionmaker) else None
        Backend.__init__(self, source if isinstance(source, Engine) else _engine_of(maker) if maker else None)
        _Sessions.__init__(self, source, (Engine, sessionmaker), maker, options, resolve_unknown)

    def __repr__(self) -> str:
        return self._shown(self._given)

    def connect(self) -> Engine:
        """Create the engine, which connects later."""
        url, options = self._engine_arguments()
        engine = create_engine(url, **options)
        self._mend(engine)
        if self._memory is not None:
            keeper = self._memory.keeper()
            event.listen(engine, "engine_disposed", lambda engine: keeper.close())
        return engine

    def disconnect(self, client: Engine) -> None:
        """Dispose of the engine."""
        client.dispose()

    def renew(self, client: Engine, name: str) -> None:
        """Give the child a new pool, and leave the parent's connections to the parent."""
        self._abandon_pool(client)

    def begin(self, context: Any, client: Engine, name: str) -> SQLAlchemyTransaction:
        """A new session and its transaction; nothing connects yet."""
        session = Session(client, **OF_ONE_CONTEXT) if self._maker is None else self._maker()
        return SQLAlchemyTransaction(session, name, context, self._resolve_unknown)

    def ping(self, client: Engine) -> None:
        """``SELECT 1``."""
        with client.connect() as connection:
            connection.execute(select(1))


class AsyncSQLAlchemyBackend(_Sessions["async_sessionmaker[Any]"], AsyncBackend[AsyncEngine]):
    """The async twin of `SQLAlchemyBackend`: services get an `AsyncSession`, ``session = await self._ctx.db``.

    Args:
        source: a URL with an async driver; or an ``AsyncEngine``, or an ``async_sessionmaker`` with a bind, of your
            own.
        resolve_unknown: as in `SQLAlchemyBackend`.
        options: passed on to ``create_async_engine``, with a URL.

    Example:
        >>> import asyncio
        >>> from sqlalchemy import text
        >>> from polydatum import DataManager
        >>> dm = DataManager()
        >>> dm.register_resources(db=AsyncSQLAlchemyBackend("sqlite+aiosqlite://"))
        >>> async def main():
        ...     async with dm.context() as ctx:
        ...         session = await ctx.db
        ...         print(await session.scalar(text("SELECT 1 + 1")))
        ...     await dm.aclose()
        >>> asyncio.run(main())
        2
    """

    def __init__(
        self,
        source: str | URL | AsyncEngine | async_sessionmaker[Any],
        *,
        resolve_unknown: bool = False,
        **options: Any,
    ) -> None:
        maker = source if isinstance(source, async_sessionmaker) else None
        AsyncBackend.__init__(self, source if isinstance(source, AsyncEngine) else _engine_of(maker) if maker else None)
        _Sessions.__init__(self, source, (AsyncEngine, async_sessionmaker), maker, options, resolve_unknown)

    def __repr__(self) -> str:
        return self._shown(self._given)

    def shared(self) -> AbstractContextManager[Any]:
        """Keeps an in-memory SQLite database alive until the manager is closed."""
        return super().shared() if self._memory is None else closing(self._memory.keeper())

    async def connect(self) -> AsyncEngine:
        """As `SQLAlchemyBackend.connect`."""
        url, options = self._engine_arguments()
        engine = create_async_engine(url, **options)
        self._mend(engine.sync_engine)
        return engine

    async def disconnect(self, client: AsyncEngine) -> None:
        """As `SQLAlchemyBackend.disconnect`."""
        await client.dispose()

    async def renew(self, client: AsyncEngine, name: str) -> None:
        """As `SQLAlchemyBackend.renew`."""
        self._abandon_pool(client.sync_engine)

    async def begin(self, context: Any, client: AsyncEngine, name: str) -> AsyncSQLAlchemyTransaction:
        """As `SQLAlchemyBackend.begin`."""
        session = AsyncSession(client, **OF_ONE_CONTEXT) if self._maker is None else self._maker()
        return AsyncSQLAlchemyTransaction(session, name, context, self._resolve_unknown)

    async def ping(self, client: AsyncEngine) -> None:
        """As `SQLAlchemyBackend.ping`."""
        async with client.connect() as connection:
            await connection.execute(select(1))
