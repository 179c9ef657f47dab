"""MongoBackend and AsyncMongoBackend, over a server that speaks MongoDB's wire protocol."""

from __future__ import annotations

import asyncio
import importlib
import os
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from bson import DBRef
from gridfs import GridFS
from pymongo import MongoClient, WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, InvalidOperation, OperationFailure

from polydatum import DataManager
from polydatum.backends.mongo import (
    AsyncContextCollection,
    AsyncContextDatabase,
    AsyncMongoBackend,
    ContextCollection,
    ContextDatabase,
    MongoBackend,
)
from polydatum.backends.mongo_operations import OUTSIDE, READS
from polydatum.errors import (
    CommitOutcomeUnknown,
    ConfigurationError,
    ForkedResourceError,
    MissingClientError,
    ReadOnlyError,
    RollbackOnlyError,
    SavepointNotSupported,
)
from polydatum.testing import BackendContract
from tests.backends.mongo_hosts import DATABASE, HOSTS, NAME, Commands, MongoHost
from tests.backends.sql_servers import in_child


class TestMongo(BackendContract):
    @pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
    def host(self, request: pytest.FixtureRequest) -> Iterator[Any]:
        with closing(request.param()) as host:
            yield host


# --- What is special to MongoDB ---------------------------------------------------------------------------------------


@pytest.fixture
def host() -> Iterator[MongoHost]:
    with closing(MongoHost()) as host:
        yield host


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def dm(host: MongoHost, commands: Commands) -> Iterator[Any]:
    manager: Any = DataManager()
    manager.register_resources(db=host.backend(event_listeners=[commands]))
    yield manager
    manager.close()


def test_services_get_a_database(dm: Any) -> None:
    with dm.context() as ctx:
        assert isinstance(ctx.db, Database)
        assert isinstance(ctx.db, ContextDatabase)
        assert isinstance(ctx.db.items, Collection)
        assert isinstance(ctx.db.items, ContextCollection)
        assert ctx.db.name == DATABASE
        assert ctx.db.items.database is ctx.db


def test_nothing_is_sent_for_nothing(dm: Any, commands: Commands) -> None:
    with dm.context() as ctx:
        assert ctx.db.items.full_name == f"{DATABASE}.items"
    assert commands.names() == []


@pytest.mark.parametrize(
    "collection",
    [
        lambda db: db.items,
        lambda db: db["items"],
        lambda db: db.get_collection("items"),
        lambda db: db.with_options(write_concern=WriteConcern(w=1)).items,
        lambda db: db.items.with_options(write_concern=WriteConcern(w=1)),
        lambda db: db.items.more,
        lambda db: db.items["more"].with_options(),
        lambda db: db.items.database.items,
        lambda db: db.create_collection(f"made-{os.getpid()}"),
    ],
)
def test_every_collection_takes_part(dm: Any, host: MongoHost, collection: Any) -> None:
    """However it was come by."""
    with pytest.raises(ValueError):
        with dm.context() as ctx:
            found = collection(ctx.db)
            found.insert_one({"_id": 1})
            assert isinstance(found, ContextCollection)
            assert found.find_one({"_id": 1})
            name = found.name
            raise ValueError
    assert host.outside[DATABASE][name].find_one({"_id": 1}) is None


def test_every_operation_takes_part(dm: Any, host: MongoHost, commands: Commands) -> None:
    host.items.insert_many([{"_id": number, "n": number} for number in range(10)])
    with pytest.raises(ValueError):
        with dm.context() as ctx:
            items = ctx.db.items
            items.insert_one({"_id": 20})
            items.insert_many([{"_id": 21}])
            items.update_one({"_id": 0}, {"$set": {"n": -1}})
            items.update_many({}, {"$inc": {"n": 1}}, session=None)
            items.replace_one({"_id": 1}, {"n": 5})
            items.delete_one({"_id": 2})
            items.delete_many({"n": 100})
            items.find_one_and_update({"_id": 3}, {"$set": {"n": 0}})
            items.find_one_and_replace({"_id": 3}, {"n": 0})
            items.find_one_and_delete({"_id": 3})
            assert items.count_documents({}) == 10
            assert len(list(items.find({}, batch_size=2))) == 10
            assert len(list(items.aggregate([{"$match": {"n": 0}}]))) == len(items.distinct("n", {"n": 0}))
            assert ctx.db.dereference(DBRef("items", 20)) == {"_id": 20, "n": 1}
            GridFS(ctx.db).put(b"tea", _id="file")
            raise ValueError
    outside = [event for event in commands.sent if "txnNumber" not in event.command]
    assert [event.command_name for event in outside if event.command_name != "listIndexes"] == []
    assert host.items.count_documents({}) == 10
    assert host.outside[DATABASE]["fs.files"].find_one({"_id": "file"}) is None


def test_what_only_tells_happens_outside(dm: Any, host: MongoHost) -> None:
    """MongoDB would refuse it in a transaction, and end that."""
    host.items.create_index("text")
    with dm.context() as ctx:
        ctx.db.items.insert_one({"_id": 1})
        assert ctx.db.list_collection_names() == ["items"]
        assert "text_1" in ctx.db.items.index_information()
        assert ctx.db.items.estimated_document_count() == 0
        assert ctx.db.items.options() == {}
    assert host.look("1") is None
    assert host.items.count_documents({}) == 1


def test_what_mongodb_does_in_no_transaction_is_refused_by_it(dm: Any, host: MongoHost) -> None:
    for forbidden in (
        lambda db: db.items.drop(),
        lambda db: list(db.items.aggregate([{"$out": "copy"}])),
        lambda db: list(db.items.aggregate([{"$merge": "copy"}])),
    ):
        with pytest.raises(OperationFailure):
            with dm.context() as ctx:
                ctx.db.items.insert_one({"_id": 1})
                forbidden(ctx.db)
        assert ctx.outcome == "rolled_back"
    assert host.outside[DATABASE].list_collection_names() == ["items"]
    assert host.items.count_documents({}) == 0


def test_none_by_position_is_no_other_session(dm: Any, host: MongoHost) -> None:
    """Wrappers pass on what they were given, and PyMongo takes it by position, too."""
    with pytest.raises(ValueError):
        with dm.context() as ctx:
            ctx.db.items.insert_one({"_id": 1}, False, None, "a comment")
            assert ctx.db.items.count_documents({}, None) == 1
            raise ValueError
    assert host.items.count_documents({}) == 0
    with dm.context() as ctx:
        ctx.db.items.insert_one({"_id": 1}, False, None)
    assert host.items.count_documents({}) == 1


def test_the_contexts_own_session_may_be_passed(dm: Any, host: MongoHost) -> None:
    """PyMongo gives it away with each cursor; what is written in it is committed."""
    with dm.context() as ctx:
        session = ctx.db.items.find().session
        ctx.db.items.insert_one({"_id": 1}, session=session)
        ctx.db.items.insert_one({"_id": 2}, False, session)
    assert host.items.count_documents({}) == 2


def test_another_session_is_left_alone(dm: Any, host: MongoHost) -> None:
    with pytest.raises(ValueError):
        with dm.context() as ctx:
            with ctx.db.client.start_session() as other:
                ctx.db.items.insert_one({"_id": "named"}, session=other)
                assert ctx.db.items.count_documents({}, other) == 1
            raise ValueError
    assert host.items.count_documents({}) == 1


def test_a_read_only_context_refuses_a_write_in_another_session(dm: Any, host: MongoHost) -> None:
    with dm.context(read_only=True) as ctx:
        with ctx.db.client.start_session() as other:
            assert ctx.db.items.count_documents({}, session=other) == 0
            with pytest.raises(ReadOnlyError):
                ctx.db.items.insert_one({"_id": 1}, session=other)
    assert host.items.count_documents({}) == 0


def test_a_read_only_context_refuses_all_but_reads(dm: Any, host: MongoHost) -> None:
    host.items.insert_one({"_id": 1, "text": "tea"})
    with dm.context(read_only=True) as ctx:
        assert ctx.db.items.find_one({"_id": 1})["text"] == "tea"
        for write in (
            lambda db: db.items.insert_one({"_id": 2}),
            lambda db: db.items.find_one_and_delete({"_id": 1}),
            lambda db: db.items.bulk_write([]),
            lambda db: db.items.create_index("text"),
            lambda db: db.items.drop(),
            lambda db: db.command("drop", "items"),
            lambda db: db.create_collection("more"),
            lambda db: db.with_options().items.with_options().delete_many({}),
        ):
            with pytest.raises(ReadOnlyError):
                write(ctx.db)
        assert ctx.db.items.count_documents({}) == 1
    assert ctx.outcome == "committed"
    with pytest.raises(OperationFailure):
        with dm.context(read_only=True) as ctx:
            list(ctx.db.items.aggregate([{"$out": "copy"}]))
    assert host.outside[DATABASE].list_collection_names() == ["items"]


def test_the_names_of_operations_are_pymongos() -> None:
    for name in READS | OUTSIDE:
        assert hasattr(Collection, name) or hasattr(Database, name)


def test_a_swallowed_error_is_no_silent_rollback(dm: Any, host: MongoHost) -> None:
    """The server has ended the transaction."""
    host.items.insert_one({"_id": 1})
    with pytest.raises(RollbackOnlyError, match=r"an earlier error \(DuplicateKeyError\)"):
        with dm.context() as ctx:
            ctx.db.items.insert_one({"_id": 2})
            with pytest.raises(DuplicateKeyError):
                ctx.db.items.insert_one({"_id": 1})
    assert ctx.outcome == "rolled_back"
    assert host.items.count_documents({}) == 1


def test_an_error_that_was_swallowed_from_a_cursor_is_found_by_the_server(dm: Any, host: MongoHost) -> None:
    with pytest.raises(OperationFailure, match="transaction"):
        with dm.context() as ctx:
            ctx.db.items.insert_one({"_id": 1})
            with pytest.raises(OperationFailure):
                list(ctx.db.items.find({"$bad": 1}))
    assert ctx.outcome == "rolled_back"
    assert host.items.count_documents({}) == 0


def test_a_swallowed_error_of_a_read_loses_nothing(dm: Any, commands: Commands) -> None:
    with dm.context() as ctx:
        with pytest.raises(OperationFailure):
            ctx.db.items.find_one({"$bad": 1})
    assert ctx.outcome == "committed"
    assert "commitTransaction" not in commands.names()


def test_a_lost_commit_is_tried_again_by_pymongo(dm: Any, host: MongoHost, commands: Commands) -> None:
    """Once; it is idempotent."""
    host.fail("commitTransaction", 1, closeConnection=True)
    with dm.context() as ctx:
        ctx.db.items.insert_one({"_id": "kept", "text": "tea"})
    assert ctx.outcome == "committed"
    assert commands.names().count("commitTransaction") == 2
    assert host.look("kept") == "tea"


def test_a_commit_that_is_lost_twice_is_unknown(dm: Any, host: MongoHost, commands: Commands) -> None:
    """Here it never happened, and the server would keep the transaction open for a minute."""
    host.fail("commitTransaction", 2, closeConnection=True)
    with pytest.raises(CommitOutcomeUnknown, match="db"):
        with dm.context() as ctx:
            ctx.db.items.insert_one({"_id": 1})
    assert ctx.outcome == "unknown"
    host.end(commands.sessions[-1])


def test_a_commit_that_the_server_refuses_is_no_unknown(dm: Any, host: MongoHost, commands: Commands) -> None:
    with pytest.raises(OperationFailure, match="NoSuchTransaction"):
        with dm.context() as ctx:
            ctx.db.items.insert_one({"_id": 1})
            host.end(commands.sessions[-1])
    assert ctx.outcome == "rolled_back"
    assert host.items.count_documents({}) == 0


def test_a_write_conflict_is_tried_again_by_run(dm: Any, host: MongoHost) -> None:
    host.items.insert_one({"_id": 1, "n": 0})
    attempts: list[int] = []

    def add(dal: Any) -> None:
        attempts.append(1)
        with host.outside.start_session() as rival:
            db = dm.require_active_context().db
            db.items.find_one({"_id": 1})
            if len(attempts) == 1:
                host.items.update_one({"_id": 1}, {"$inc": {"n": 10}}, session=rival)
            db.items.update_one({"_id": 1}, {"$inc": {"n": 1}})

    dm.run(add, attempts=3)
    assert len(attempts) == 2
    assert host.items.find_one({"_id": 1}) == {"_id": 1, "n": 11}


def test_transfers_that_collide_keep_the_sum(dm: Any, host: MongoHost) -> None:
    host.items.insert_many([{"_id": number, "money": 100} for number in range(3)])

    def transfer(number: int) -> None:
        def work(dal: Any) -> None:
            items = dm.require_active_context().db.items
            giver, taker = random.sample(range(3), 2)
            amount = items.find_one({"_id": giver})["money"] // 3
            items.update_one({"_id": giver}, {"$inc": {"money": -amount}})
            items.update_one({"_id": taker}, {"$inc": {"money": amount}})
            items.insert_one({"_id": f"journal {number}"})

        dm.run(work, attempts=12)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(transfer, range(40)))
    assert sum(account["money"] for account in host.items.find({"money": {"$exists": True}})) == 300
    assert host.items.count_documents({"_id": {"$regex": "^journal"}}) == 40


def test_there_are_no_savepoints(dm: Any, host: MongoHost) -> None:
    """A block before the first write can be rolled back whole."""
    with dm.context() as ctx:
        ctx.db.items.find_one({})
        with pytest.raises(ValueError):
            with ctx.nested():
                ctx.db.items.insert_one({"_id": "inside"})
                raise ValueError
        ctx.db.items.insert_one({"_id": "after"})
        with pytest.raises(SavepointNotSupported):
            with ctx.nested():
                pass
    assert [found["_id"] for found in host.items.find()] == ["after"]


def test_two_databases_that_wrote_are_refused(host: MongoHost) -> None:
    """One that only read is no hindrance."""
    manager: Any = DataManager()
    manager.register_resources(
        one=MongoBackend(host.url, database=DATABASE), two=MongoBackend(host.url, database=DATABASE)
    )
    with manager.context() as ctx:
        ctx.one.items.insert_one({"_id": 1})
        assert ctx.two.items.find_one({"_id": 1}) is None
    assert ctx.outcome == "committed"
    with pytest.raises(Exception, match="all wrote"):
        with manager.context() as ctx:
            ctx.one.items.insert_one({"_id": 2})
            ctx.two.items.insert_one({"_id": 3})
    assert host.items.count_documents({}) == 1
    manager.close()


def test_nothing_takes_part_after_the_end(dm: Any) -> None:
    with dm.context() as ctx:
        items = ctx.db.items
    with pytest.raises(InvalidOperation):
        items.insert_one({"_id": 1})


def test_a_given_client_is_refused_in_a_child(host: MongoHost) -> None:
    """PyMongo's clients are not fork-safe."""
    backend, client = host.given()
    manager: Any = DataManager()
    manager.register_resources(db=backend)
    with manager.context() as ctx:
        ctx.db.items.insert_one({"_id": "parent"})

    def check() -> None:
        with pytest.raises(ForkedResourceError):
            with manager.context() as ctx:
                ctx.db.items.find_one({})

    assert in_child(host, check) == 0
    manager.close()
    client.close()


def test_how_it_is_set_up(host: MongoHost) -> None:
    with MongoClient(host.url) as client:
        assert repr(MongoBackend(client, database="shop")) == "MongoBackend(<given client>, database='shop')"
        with pytest.raises(ConfigurationError, match="appname"):
            MongoBackend(client, database="shop", appname="x")
        with pytest.raises(ConfigurationError, match="^MongoBackend: no database named"):
            MongoBackend(client)
    with pytest.raises(ConfigurationError, match="^AsyncMongoBackend: no database named"):
        AsyncMongoBackend("mongodb://127.0.0.1/")
    with_secret = MongoBackend("mongodb://ann:hush@one:1,two:2/sh%6Fp?replicaSet=x")
    assert repr(with_secret) == "MongoBackend('mongodb://ann:***@one:1,two:2/sh%6Fp', database='shop')"


def test_without_pymongo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymongo", None)
    monkeypatch.delitem(sys.modules, "polydatum.backends.mongo")
    with pytest.raises(MissingClientError, match=r"pip install 'polydatum\[mongo\]'"):
        importlib.import_module("polydatum.backends.mongo")


def test_async_services_get_an_async_database(host: MongoHost, commands: Commands) -> None:
    async def main() -> None:
        manager: Any = DataManager()
        manager.register_resources(
            db=AsyncMongoBackend(host.url, database=DATABASE, appname=NAME, event_listeners=[commands])
        )
        async with manager.context() as ctx:
            db = await ctx.db
            assert isinstance(db, AsyncContextDatabase)
            items = db.get_collection("items")
            assert isinstance(items, AsyncContextCollection)
            assert isinstance(await db.create_collection(f"made-{os.getpid()}"), AsyncContextCollection)
            await items.insert_one({"_id": 1}, False, None)
            await db.with_options().items.with_options().insert_one({"_id": 2})
            assert [found["_id"] async for found in items.find({})] == [1, 2]
            assert len(await (await items.aggregate([])).to_list()) == 2
            async with db.client.start_session() as other:
                assert await items.count_documents({}, session=other) == 0
            assert host.items.count_documents({}) == 0
        assert host.items.count_documents({}) == 2
        with pytest.raises(RollbackOnlyError):
            async with manager.context() as ctx:
                items = (await ctx.db).items
                await items.insert_one({"_id": 3})
                with pytest.raises(DuplicateKeyError):
                    await items.insert_one({"_id": 1})
        host.fail("commitTransaction", 2, closeConnection=True)
        with pytest.raises(CommitOutcomeUnknown):
            async with manager.context() as ctx:
                await (await ctx.db).items.insert_one({"_id": 4})
        host.end(commands.sessions[-1])
        with pytest.raises(OperationFailure, match="NoSuchTransaction"):
            async with manager.context() as ctx:
                await (await ctx.db).items.insert_one({"_id": 5})
                host.end(commands.sessions[-1])
        async with manager.context() as ctx:
            db = await ctx.db
            with pytest.raises(ValueError):
                async with ctx.nested():
                    await db.items.insert_one({"_id": 6})
                    raise ValueError
            assert await db.items.find_one({"_id": 6}) is None
        await manager.aclose()

    asyncio.run(main())


def test_a_cancelled_operation_closes_its_connection(host: MongoHost, commands: Commands) -> None:
    async def main() -> None:
        manager: Any = DataManager()
        manager.register_resources(
            db=AsyncMongoBackend(host.url, database=DATABASE, appname=NAME, event_listeners=[commands])
        )

        async def work() -> None:
            async with manager.context() as ctx:
                await (await ctx.db).items.find_one({"_id": "slow"})

        await work()
        host.fail("find", 1, blockConnection=True, blockTimeMS=1000)
        task = asyncio.create_task(work())
        for _ in range(1000):
            if commands.names().count("find") == 2:
                break
            await asyncio.sleep(0.001)
        cancelled = commands.sent[-1].server_connection_id
        assert cancelled
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        count = len(commands.sent)
        await work()
        assert cancelled not in {event.server_connection_id for event in commands.sent[count:]}
        await manager.aclose()

    asyncio.run(main())
