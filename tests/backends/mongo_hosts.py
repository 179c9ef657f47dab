"""PyMongo and a server that speaks its protocol, sync and async."""

from __future__ import annotations

import gc
import os
import socket
import warnings
from typing import Any
from urllib.parse import urlsplit

from pymongo import AsyncMongoClient, MongoClient
from pymongo.monitoring import CommandListener

from polydatum.backends.mongo import AsyncMongoBackend, MongoBackend
from polydatum.testing import BackendHost
from tests.backends.mongod import mongo_url

NAME = f"polydatum-{os.getpid()}"
DATABASE = f"polydatum_{os.getpid()}"
NO_SAVEPOINTS = {"savepoints": "MongoDB has none"}
NO_CANCEL = {"cancel": "a thread cannot be cancelled"}


class MongoHost(BackendHost):
    """The backend under test, and a client of the tests' own that looks from outside."""

    secret = "hush"
    commit = b"commitTransaction"
    backend_class: Any = MongoBackend
    client_class: Any = MongoClient
    absent = NO_SAVEPOINTS | NO_CANCEL

    def __init__(self) -> None:
        self.url = mongo_url()
        self.port: int | None = None
        """Of a proxy in front of the server."""
        self.outside: Any = MongoClient(self.url, appname="outside")
        self.items = self.outside[DATABASE].create_collection("items")  # two transactions that make it would conflict

    def close(self) -> None:
        self.outside.drop_database(DATABASE)
        self.outside.close()

    def backend(self, **options: Any) -> Any:
        if self.port is None:
            return self.backend_class(self.url, database=DATABASE, appname=NAME, **options)
        login, at, _ = urlsplit(self.url).netloc.rpartition("@")
        url = f"mongodb://{login}{at}127.0.0.1:{self.port}/?directConnection=true"
        return self.backend_class(url, database=DATABASE, appname=NAME, **options)

    def given(self) -> tuple[Any, Any]:
        client = self.client_class(self.url)
        return self.backend_class(client, database=DATABASE), client

    def dispose(self, client: Any) -> Any:
        return client.close()

    def unreachable(self) -> Any:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        return self.backend_class(f"mongodb://127.0.0.1:{port}/{DATABASE}", serverSelectionTimeoutMS=200)

    def write(self, value: Any, key: str, text: str) -> Any:
        return value.items.insert_one({"_id": key, "text": text})

    def read(self, value: Any, key: str) -> Any:
        found = value.items.find_one({"_id": key})
        return found and found["text"]

    def look(self, key: str) -> str | None:
        found = self.items.find_one({"_id": key})
        return found and found["text"]

    def connections(self) -> tuple[int, int]:
        """SecantusDB tells no transactions; an open one would be a write conflict, see test_mongo_faults."""
        found = self.outside.admin.command("currentOp")["inprog"]
        # A connection that has not said hello yet has no metadata.
        ours = [op for op in found if op.get("clientMetadata", {}).get("application", {}).get("name") == NAME]
        return sum(op["op"] not in ("hello", "ismaster") for op in ours), 0

    def fail(self, command: str, times: int, **data: Any) -> None:
        """Let the server fail a command of the backend's, for some times."""
        data |= {"failCommands": [command], "appName": NAME}
        self.outside.admin.command("configureFailPoint", "failCommand", mode={"times": times}, data=data)

    def end(self, session: Any) -> None:
        """End a session on the server, and its transaction, which that would keep for a minute."""
        self.outside.admin.command("killSessions", [session])


class AsyncMongoHost(MongoHost):
    is_async = True
    leaks = False
    backend_class = AsyncMongoBackend
    client_class = AsyncMongoClient
    absent = NO_SAVEPOINTS

    def unreachable(self) -> Any:
        self.leaks = True
        return super().unreachable()

    def close(self) -> None:
        super().close()
        if self.leaks:  # PyMongo 4.20 forgets the socket of a connection attempt that its monitor gave up
            with warnings.catch_warnings(action="ignore", category=ResourceWarning):
                gc.collect()

    async def read(self, value: Any, key: str) -> Any:
        found = await value.items.find_one({"_id": key})
        return found and found["text"]

    def slow(self, value: Any) -> Any:
        self.fail("find", 1, blockConnection=True, blockTimeMS=2000)
        return value.items.find_one({})


HOSTS = (MongoHost, AsyncMongoHost)


class Commands(CommandListener):
    """Notes what the client sends."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def started(self, event: Any) -> None:
        self.sent.append(event)

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass

    def names(self) -> list[str]:
        return [event.command_name for event in self.sent]

    @property
    def sessions(self) -> list[Any]:
        return [event.command["lsid"] for event in self.sent if "lsid" in event.command]
