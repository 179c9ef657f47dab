"""psycopg: whoever uses a connection longer than its context, or ends the transaction himself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.transaction import OutOfOrderTransactionNesting
from psycopg.types.json import set_json_loads

from polydatum import (
    CommitOutcomeUnknown,
    ContextClosedError,
    DataManager,
    ResourceTimeoutError,
    RollbackOnlyError,
)
from polydatum.backends import psycopg_connections
from polydatum.testing.backend_contract import Bench, Failure, scenario, settled
from tests.backends.psycopg_hosts import HOSTS, PsycopgHost
from tests.backends.sql_servers import NAME, PostgresServer, table_on
from tests.backends.test_psycopg import block, over

BUSY = "DO $$ BEGIN RAISE NOTICE 'busy'; PERFORM pg_sleep(60); END $$"


@pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest) -> Iterator[PsycopgHost]:
    with table_on(PostgresServer()) as server:
        yield request.param(server)


class Straggler:
    """A thread, or a task, in the middle of a statement over a connection that it has from a context."""

    def __init__(self, bench: Bench, connection: Any, statement: str = BUSY) -> None:
        self.is_async = bench.host.is_async
        self.raised: BaseException | None = None
        self._connection = connection
        self._statement = statement

    async def start(self) -> None:
        """Until the server is busy."""
        if self.is_async:
            begun = asyncio.Event()
            self._connection.add_notice_handler(lambda notice: begun.set())
            self._task = asyncio.create_task(self._connection.execute(self._statement))
            await begun.wait()
        else:
            running = threading.Event()
            self._connection.add_notice_handler(lambda notice: running.set())
            self._thread = threading.Thread(target=self._execute, daemon=True)
            self._thread.start()
            assert running.wait(10)

    def _execute(self) -> None:
        try:
            self._connection.execute(self._statement)
        except BaseException as error:
            self.raised = error

    async def end(self) -> BaseException | None:
        """What it ran into."""
        if self.is_async:
            await asyncio.wait({self._task}, timeout=10)
            assert self._task.done()
            return self._task.exception()
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.raised


async def insert(bench: Bench, connection: Any, name: str) -> None:
    await settled(bench.host.write(connection, bench.key(name), "tea"))


def is_free(bench: Bench, name: str) -> bool:
    """Whether no transaction under way has written a key; waits for one that is about to end."""
    statement = f"SET lock_timeout = '5s'; INSERT INTO {NAME} VALUES ('{bench.key(name)}', 'free')"
    bench.host.server.ask(statement)  # type: ignore[attr-defined]
    return bench.look(name) == "free"


USES: dict[str, Callable[[Any, Any], Any]] = {
    "execute": lambda connection, cursor: connection.execute("SELECT 1"),
    "cursor": lambda connection, cursor: connection.cursor(),
    "a cursor from before": lambda connection, cursor: cursor.execute("SELECT 1"),
    "many": lambda connection, cursor: cursor.executemany("SELECT %s", [(1,), (2,)]),
    "commit": lambda connection, cursor: connection.commit(),
    "rollback": lambda connection, cursor: connection.rollback(),
    "block": lambda connection, cursor: connection.transaction(),
    "pipeline": lambda connection, cursor: connection.pipeline(),
    "copy": lambda connection, cursor: cursor.copy(f"COPY {NAME} FROM STDIN"),
}


async def use(bench: Bench, name: str, connection: Any, cursor: Any) -> None:
    used = USES[name](connection, cursor)
    if hasattr(used, "__aenter__") and bench.host.is_async:
        await used.__aenter__()
    elif hasattr(used, "__enter__") and not bench.host.is_async:
        used.__enter__()
    else:
        await settled(used)


class TestTooLate:
    @pytest.mark.parametrize("way", USES)
    @pytest.mark.parametrize("when", ["between", "meanwhile"])
    def test_nothing_reaches_the_context_after(self, host: Any, way: str, when: str) -> None:
        """Over the same connection to the server: it is neither lost nor kept what does not belong there."""

        async def check() -> None:
            bench = Bench(host, host.backend(max_size=1))
            with pytest.raises(Failure):
                async with bench.context() as ctx:
                    held = await bench.value(ctx)
                    cursor = held.cursor()
                    pid = held.info.backend_pid
                    raise Failure
            if when == "between":
                with pytest.raises(ContextClosedError, match="'?db'?.*closed"):
                    await use(bench, way, held, cursor)
            async with bench.context() as ctx:
                assert (await bench.value(ctx)).info.backend_pid == pid
                await bench.write(ctx)
                if when == "meanwhile":
                    with pytest.raises(ContextClosedError):
                        await use(bench, way, held, cursor)
                await settled(held.cancel())
                await settled(held.close())
            assert held.closed
            assert ctx.outcome == "committed"
            assert bench.look() == "tea"
            await bench.close()

        host.run(check())

    @over(max_size=1)
    async def test_a_server_side_cursor_and_a_block(self, bench: Bench) -> None:
        """They end in peace, or with the error."""
        with pytest.raises(OutOfOrderTransactionNesting, match="ends in a block"):
            async with bench.context() as ctx:
                held = await bench.value(ctx)
                await bench.write(ctx)
                cursor = held.cursor("named")
                await settled(cursor.execute("SELECT generate_series(1, 10)"))
                open_block = block(bench, held)
                await open_block.__aenter__()
        assert ctx.outcome == "rolled_back"
        with pytest.raises(ContextClosedError):
            await settled(cursor.fetchone())
        await settled(cursor.close())
        async with bench.context() as ctx:
            await bench.write(ctx, "after")
            with pytest.raises(ContextClosedError):
                await open_block.__aexit__(None, None, None)
        assert [bench.look(), bench.look("after")] == [None, "tea"]

    @over(max_size=1)
    async def test_results_are_still_there(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            cursor = await settled((await bench.value(ctx)).execute("SELECT 1"))
        assert await settled(cursor.fetchone()) == (1,)

    @over(max_size=1)
    async def test_after_a_context_that_is_forgotten(self, bench: Bench) -> None:
        async with bench.context() as ctx:
            held = await bench.value(ctx)
        del ctx
        with pytest.raises(ContextClosedError, match="db"):
            await settled(held.execute("SELECT 1"))

    @over(max_size=1)
    async def test_a_connection_of_the_pool_in_somebodys_transaction(self, bench: Bench) -> None:
        """Whoever still holds the pool's own one, and has begun something there, keeps it for himself."""
        client = await settled(bench.manager.get_client("db"))
        for _ in range(2):
            stranger = await settled(client.getconn())
            await settled(client.putconn(stranger))
            cursor = stranger.cursor()
            await insert(bench, stranger, "stranger")
            async with bench.context() as ctx:
                await bench.write(ctx)
            assert bench.look() == "tea"
            bench.host.server.ask(f"DELETE FROM {NAME}")  # type: ignore[attr-defined]
            cursor._pgconn.finish()
        assert is_free(bench, "stranger")


class TestUnderWay:
    @over(max_size=1)
    async def test_a_statement_under_way_when_it_rolls_back(self, bench: Bench) -> None:
        """It is given up, here and in the server, and nobody waits for a connection that is gone."""
        with pytest.raises(Failure):
            async with bench.context() as ctx:
                await bench.write(ctx)
                straggler = Straggler(bench, await bench.value(ctx))
                await straggler.start()
                raise Failure
        assert isinstance(await straggler.end(), ContextClosedError)
        assert is_free(bench, "")
        async with bench.context() as ctx:
            await bench.write(ctx, "after")
        assert bench.look("after") == "tea"

    @scenario()
    async def test_a_statement_under_way_when_it_commits(self, bench: Bench) -> None:
        """It is waited for, but not for ever."""
        bench.manager = DataManager(teardown_timeout=0.5)
        bench.manager.register_resources(db=bench.backend)
        with pytest.raises(ResourceTimeoutError, match="'db'"):
            async with bench.context() as ctx:
                await bench.write(ctx)
                straggler = Straggler(bench, await bench.value(ctx))
                await straggler.start()
        assert ctx.outcome == "rolled_back"
        assert isinstance(await straggler.end(), ContextClosedError)
        assert is_free(bench, "")

    @scenario()
    async def test_a_statement_that_ends_in_time_is_kept(self, bench: Bench) -> None:
        server: Any = bench.host.server  # type: ignore[attr-defined]
        with psycopg.connect(server.url) as other:
            other.execute("SELECT pg_advisory_lock(4711)")
            statement = (
                "DO $$ BEGIN RAISE NOTICE 'busy'; PERFORM pg_advisory_xact_lock(4711);"
                f" INSERT INTO {NAME} VALUES ('{bench.key()}', 'tea'); END $$"
            )
            async with bench.context() as ctx:
                straggler = Straggler(bench, await bench.value(ctx), statement)
                await straggler.start()
                threading.Timer(0.05, other.execute, ["SELECT pg_advisory_unlock(4711)"]).start()
        assert await straggler.end() is None
        assert ctx.outcome == "committed"
        assert bench.look() == "tea"

    @over(max_size=1)
    async def test_whoever_does_not_leave_keeps_the_connection(self, bench: Bench) -> None:
        """Nobody else waits for him, and libpq is not used by two. When he leaves, he closes it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(psycopg_connections, "LEAVE_TIMEOUT", 0)
            with pytest.raises(Failure):
                async with bench.context() as ctx:
                    straggler = Straggler(bench, await bench.value(ctx))
                    await straggler.start()
                    raise Failure
        async with bench.context() as ctx:
            await bench.write(ctx)
        assert bench.look() == "tea"
        assert isinstance(await straggler.end(), ContextClosedError)
        server: Any = bench.host.server  # type: ignore[attr-defined]
        server.ask(  # it notices when it has slept
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s AND query = %s",
            NAME,
            BUSY,
        )

    def test_whoever_leaves_in_the_last_moment(self) -> None:
        connection = psycopg.connect(PostgresServer().url)
        guard = psycopg_connections.SyncGuard("db", lambda: None)  # type: ignore[arg-type]
        guard.leave_behind(connection.pgconn)
        assert connection.closed

    @over(max_size=1)
    async def test_a_block_that_ends_in_the_middle_of_an_exchange(self, bench: Bench) -> None:
        """The context goes on, but not over its connection, and cannot commit."""
        with pytest.raises(RollbackOnlyError):
            async with bench.context() as ctx:
                with pytest.raises(Failure):
                    async with bench.nested(ctx):
                        await bench.write(ctx)
                        copying = (await bench.value(ctx)).cursor().copy(f"COPY {NAME} FROM STDIN")
                        await settled(copying.__aenter__() if bench.host.is_async else copying.__enter__())
                        raise Failure
                with pytest.raises(psycopg.OperationalError, match="the connection is closed"):
                    await bench.write(ctx, "after")
        assert ctx.outcome == "rolled_back"
        assert bench.look() is None

    @over(max_size=1)
    async def test_a_copy_that_is_not_finished(self, bench: Bench) -> None:
        with pytest.raises(psycopg.OperationalError, match="in the middle of a COPY"):
            async with bench.context() as ctx:
                await bench.write(ctx)
                copying = (await bench.value(ctx)).cursor().copy(f"COPY {NAME} FROM STDIN")
                await settled(copying.__aenter__() if bench.host.is_async else copying.__enter__())
        assert ctx.outcome == "rolled_back"
        assert bench.look() is None


class TestEndedBySQL:
    @pytest.mark.parametrize("then", ["nothing", "a statement", "BEGIN"])
    @pytest.mark.parametrize("sql", ["COMMIT", "ROLLBACK"])
    def test_it_is_told(self, host: Any, sql: str, then: str) -> None:
        async def check() -> None:
            bench = Bench(host)
            with pytest.raises(RollbackOnlyError, match="COMMIT or ROLLBACK in SQL"):
                async with bench.context() as ctx:
                    await bench.write(ctx)
                    connection = await bench.value(ctx)
                    await settled(connection.execute(sql))
                    if then != "nothing":
                        await settled(connection.execute("SELECT 1" if then == "a statement" else "BEGIN"))
                        await bench.write(ctx, "after")
            assert ctx.outcome == "partial"
            assert [bench.look(), bench.look("after")] == ["tea" if sql == "COMMIT" else None, None]
            await bench.close()

        host.run(check())

    @scenario()
    async def test_a_rollback_after_it_is_partial(self, bench: Bench) -> None:
        with pytest.raises(Failure) as failure:
            async with bench.context() as ctx:
                await bench.write(ctx)
                await settled((await bench.value(ctx)).execute("COMMIT"))
                raise Failure
        assert "committed resource 'db'" in failure.value.__notes__[0]
        assert ctx.outcome == "partial"
        assert bench.look() == "tea"

    @scenario()
    async def test_in_a_nested_block(self, bench: Bench) -> None:
        """What cannot be undone there, may not be followed by a commit."""
        for is_open in (True, False):
            with pytest.raises(RollbackOnlyError):
                async with bench.context() as ctx:
                    if is_open:
                        await bench.read(ctx)
                    with pytest.raises(Failure):
                        async with bench.nested(ctx):
                            await bench.write(ctx, str(is_open))
                            await settled((await bench.value(ctx)).execute("COMMIT"))
                            raise Failure
                    await bench.write(ctx, "after")
            assert ctx.outcome == "partial"
            assert [bench.look(str(is_open)), bench.look("after")] == ["tea", None]

    @scenario()
    async def test_read_only_it_is_no_matter(self, bench: Bench) -> None:
        async with bench.context(read_only=True) as ctx:
            await settled((await bench.value(ctx)).execute("COMMIT"))
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                await bench.write(ctx)
        assert ctx.outcome == "committed"

    @pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.__name__, indirect=True)
    def test_a_commit_that_leaves_a_transaction(self, host: Any) -> None:
        """Answered without an error, but it was none."""

        async def check() -> None:
            bench = Bench(host)
            client = await settled(bench.manager.get_client("db"))
            client.connection_class = AsyncUnending if host.is_async else Unending
            with pytest.raises(CommitOutcomeUnknown):
                async with bench.context() as ctx:
                    await bench.write(ctx)
            assert ctx.outcome == "unknown"
            assert bench.look() is None
            await bench.close()

        host.run(check())


class Unending(psycopg.Connection[Any]):
    """A user's own, whose COMMIT does not get through."""

    def _exec_command(self, command: Any, *options: Any) -> Any:
        return super()._exec_command(b"SELECT 1" if command == b"COMMIT" else command, *options)


class AsyncUnending(psycopg.AsyncConnection[Any]):
    """A user's own, whose COMMIT does not get through."""

    def _exec_command(self, command: Any, *options: Any) -> Any:
        return super()._exec_command(b"SELECT 1" if command == b"COMMIT" else command, *options)


class Cursor(psycopg.Cursor[Any]):
    pass


class AsyncCursor(psycopg.AsyncCursor[Any]):
    pass


class TestSettings:
    @over(max_size=1, kwargs={"prepare_threshold": 7})
    async def test_what_a_service_sets_ends_with_its_context(self, bench: Bench) -> None:
        notices: list[Any] = []
        notice = "DO $$ BEGIN RAISE NOTICE 'hello'; END $$"
        for read_only in (False, True):
            async with bench.context(read_only=read_only) as ctx:
                connection = await bench.value(ctx)
                connection.row_factory = dict_row
                connection.cursor_factory = AsyncCursor if bench.host.is_async else Cursor
                connection.prepare_threshold, connection.prepared_max = None, 1
                connection.add_notice_handler(notices.append)
                connection.add_notify_handler(notices.append)
                set_json_loads(lambda text: "mine", connection)
                row = await settled((await settled(connection.execute("SELECT '{}'::json AS a"))).fetchone())
                assert row == {"a": "mine"}
                await settled(connection.execute(notice))
            assert len(notices) == 1
            notices.clear()
            async with bench.context() as ctx:
                connection = await bench.value(ctx)
                assert connection.prepare_threshold == 7
                assert connection.prepared_max == 100
                cursor = await settled(connection.execute("SELECT '{}'::json AS a"))
                assert type(cursor) in (psycopg.Cursor, psycopg.AsyncCursor)
                assert await settled(cursor.fetchone()) == ({},)
                await settled(connection.execute(notice))
            assert notices == []

    @scenario()
    async def test_what_the_pool_has_set_stays(self, bench: Bench) -> None:
        """Its connections' class, adapters and attributes."""

        async def aconfigure(connection: Any) -> None:
            configure(connection)

        def configure(connection: Any) -> None:
            connection.mark = "shop"
            set_json_loads(lambda text: "the pool's", connection)

        is_async = bench.host.is_async
        kind: type[Any] = AsyncOwn if is_async else Own
        backend = bench.host.backend(configure=aconfigure if is_async else configure, connection_class=kind)  # type: ignore[call-arg]
        other = Bench(bench.host, backend)
        for _ in range(2):
            async with other.context() as ctx:
                connection = await other.value(ctx)
                assert isinstance(connection, kind)
                assert repr(connection).startswith(f"<{kind.__module__}.{kind.__qualname__} [INTRANS]")
                assert connection.mark == "shop"
                cursor = await settled(connection.execute("SELECT '{}'::json"))
                assert await settled(cursor.fetchone()) == ("the pool's",)
        await other.close()


class Own(psycopg.Connection[Any]):
    mark: str


class AsyncOwn(psycopg.AsyncConnection[Any]):
    mark: str
