"""`BlobBackend` and `AsyncBlobBackend` over memory, a folder and S3."""

from __future__ import annotations

import asyncio
import io
import os
import random
import runpy
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore.store
import pytest
from obstore.exceptions import AlreadyExistsError
from obstore.store import MemoryStore

from polydatum import DataManager
from polydatum.backends import Transaction, blobs
from polydatum.backends.blob_journal import ForkedStoreError, refuse_after_fork
from polydatum.backends.blobs import AsyncBlobBackend, BlobBackend, UrlNotSupported
from polydatum.errors import (
    CommitOutcomeUnknown,
    ConfigurationError,
    ContextClosedError,
    MissingClientError,
    ReadOnlyError,
)
from polydatum.testing import BackendContract, BackendHost
from polydatum.testing.backend_contract import Bench, settled
from tests.backends.proxy import Fault, Proxy
from tests.backends.s3 import S3, s3  # noqa: F401 -- a fixture

DELAYS = (0.05, 0.5, 2.0) if os.environ.get("POLYDATUM_FAULTS") == "all" else (0.05,)
WRITES_AT_ONCE = "an upload is there at once, though nobody knows its key"
NO_FORK = "obstore does not work in a forked child; it is refused there"
NOTHING_TAKES_LONG = "no request takes long on the server's side; cancels have tests of their own"


class BlobHost(BackendHost):
    store: Any

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async

    @property
    def kind(self) -> Any:
        return AsyncBlobBackend if self.is_async else BlobBackend

    def given(self) -> tuple[Any, Any]:
        return self.kind(self.store), self.store

    def dispose(self, client: Any) -> None:
        assert client.list() is not None

    def write(self, value: Any, key: str, text: str) -> Any:
        return value.put(text.encode(), key=key)

    def read(self, value: Any, key: str) -> Any:
        return self._aread(value, key) if self.is_async else self._read(value, key)

    def _read(self, value: Any, key: str) -> str | None:
        try:
            return value.get(key).decode()
        except FileNotFoundError:
            return None

    async def _aread(self, value: Any, key: str) -> str | None:
        try:
            return (await value.get(key)).decode()
        except FileNotFoundError:
            return None

    def look(self, key: str) -> str | None:
        return self._look(self.store, key)

    def _look(self, store: Any, key: str) -> str | None:
        try:
            return bytes(store.get(key).bytes()).decode()
        except FileNotFoundError:
            return None


class MemoryHost(BlobHost):
    absent: Mapping[str, str] = {
        "isolation": WRITES_AT_ONCE,
        "counts": "memory has no connections",
        "cancel": "nothing in memory takes long",
        "fork": "a child would have a copy",
        "unreachable": "memory is always there",
    }

    def __init__(self, *, is_async: bool) -> None:
        super().__init__(is_async=is_async)
        self.store = MemoryStore()

    def backend(self) -> Any:
        return self.kind(self.store)  # of a URL it would have a memory that `look` does not see


class FolderHost(BlobHost):
    absent: Mapping[str, str] = {
        "isolation": WRITES_AT_ONCE,
        "counts": "a folder has no connections",
        "cancel": "nothing in a folder takes long",
        "fork": NO_FORK,
    }

    def __init__(self, folder: Path, *, is_async: bool) -> None:
        super().__init__(is_async=is_async)
        self.folder = folder
        self.store = obstore.store.LocalStore(folder)

    def backend(self) -> Any:
        return self.kind(self.folder.as_uri())

    def unreachable(self) -> Any:
        return self.kind((self.folder / "missing").as_uri())

    def look(self, key: str) -> str | None:
        file = self.folder / key
        return file.read_text() if file.exists() else None


class S3Host(BlobHost):
    absent: Mapping[str, str] = {
        "isolation": WRITES_AT_ONCE,
        "counts": "the test server does not tell",
        "cancel": NOTHING_TAKES_LONG,
        "fork": NO_FORK,
    }

    def __init__(self, place: S3, *, is_async: bool) -> None:
        super().__init__(is_async=is_async)
        self.place = place
        self.secret = place.secret
        self.store = place.store()

    def backend(self) -> Any:
        return self.kind(self.place.url, **self.place.options())

    def unreachable(self) -> Any:
        return self.kind(self.place.url, **self.place.options(port=1))


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def is_async(request: pytest.FixtureRequest) -> bool:
    mode: bool = request.param
    return mode


class TestMemory(BackendContract):
    @pytest.fixture
    def host(self, is_async: bool) -> BackendHost:
        return MemoryHost(is_async=is_async)


class TestFolder(BackendContract):
    @pytest.fixture
    def host(self, is_async: bool, tmp_path: Path) -> BackendHost:
        return FolderHost(tmp_path, is_async=is_async)


class TestS3(BackendContract):
    @pytest.fixture
    def host(self, is_async: bool, s3: S3) -> BackendHost:  # noqa: F811
        return S3Host(s3, is_async=is_async)


@pytest.fixture(params=["memory", "folder", "s3"])
def host(request: pytest.FixtureRequest, is_async: bool, tmp_path: Path) -> BlobHost:
    if request.param == "memory":
        return MemoryHost(is_async=is_async)
    if request.param == "folder":
        return FolderHost(tmp_path, is_async=is_async)
    return S3Host(request.getfixturevalue("s3"), is_async=is_async)


@pytest.fixture
def run(host: BlobHost) -> Callable[..., None]:
    """Run a scenario with a bench, in either mode."""

    def run(scenario: Callable[[Bench], Any], backend: Any = None, *others: Callable[[Any], Any]) -> None:
        bench = Bench(host, backend)
        for number, other in enumerate(others):
            bench.manager.register_resources(**{f"other{number}": other})

        async def all_of_it() -> None:
            try:
                await scenario(bench)
            finally:
                await bench.close()

        host.run(all_of_it())

    return run


async def collected(host: BlobHost, found: Any) -> list[Any]:
    return [one async for one in found] if host.is_async else list(found)


def there(host: BlobHost, *keys: str) -> list[bool]:
    return [host.look(key) is not None for key in keys]


class Authority(Transaction):
    """A database whose commit fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__(None)
        self.error = error

    def commit(self) -> None:
        raise self.error


class Broken(MemoryStore):
    """A store that cannot delete."""

    def delete(self, paths: Any) -> None:
        raise OSError("no route to the store")

    async def delete_async(self, paths: Any) -> None:
        raise OSError("no route to the store")


class TestBlobs:
    def test_a_key_is_made_up(self, host: BlobHost, run: Any) -> None:
        async def scenario(bench: Bench) -> None:
            async with bench.context() as ctx:
                blobs = await bench.value(ctx)
                keys = [await settled(blobs.put(b"tea", suffix=".txt")) for _ in range(2)]
            assert there(host, *keys) == [True, True]
            assert len({*keys}) == 2
            assert all(len(key) == 36 and key.endswith(".txt") for key in keys)

        run(scenario)

    def test_nothing_is_overwritten(self, host: BlobHost, run: Any) -> None:
        """Nor deleted, when the context of the second upload rolls back."""

        async def scenario(bench: Bench) -> None:
            async with bench.context() as ctx:
                await bench.write(ctx)
            with pytest.raises(AlreadyExistsError):
                async with bench.context() as ctx:
                    await bench.write(ctx, text="coffee")
            assert bench.look() == "tea"

        run(scenario)

    def test_reading(self, host: BlobHost, run: Any) -> None:
        async def scenario(bench: Bench) -> None:
            async with bench.context() as ctx:
                blobs = await bench.value(ctx)
                key = await settled(blobs.put(io.BytesIO(b"a cup of tea"), key=bench.key("a/b")))
                assert await settled(blobs.get(key)) == b"a cup of tea"
                assert await settled(blobs.get_range(key, 2, 3)) == b"cup"
                assert b"".join(await collected(host, blobs.stream(key, chunk_size=4))) == b"a cup of tea"
                assert (await settled(blobs.head(key)))["size"] == 12
                assert await settled(blobs.exists(key))
                assert not await settled(blobs.exists(bench.key("c")))
                assert [found["path"] for found in await collected(host, blobs.list(bench.key("a")))] == [key]
                assert await collected(host, blobs.list(bench.key("a")[:-1])) == []
                with pytest.raises(FileNotFoundError):
                    await settled(blobs.get(bench.key("c")))

        run(scenario)

    def test_a_url_is_for_everybody(self, host: BlobHost, run: Any) -> None:
        urls: list[str] = []

        async def scenario(bench: Bench) -> None:
            async with bench.context() as ctx:
                blobs = await bench.value(ctx)
                key = await settled(blobs.put(b"tea"))
                if not isinstance(host, S3Host):
                    with pytest.raises(UrlNotSupported, match="resource 'db' cannot sign URLs"):
                        await settled(blobs.url(key))
                    return
                urls.append(await settled(blobs.url(key, expires=60)))
                assert host.place.secret not in urls[0]

        run(scenario)
        for url in urls:
            with urllib.request.urlopen(url, timeout=10) as reply:
                assert reply.read() == b"tea"

    def test_a_deletion_waits_for_the_commit(self, host: BlobHost, run: Any) -> None:
        """What is not there is deleted already."""

        async def scenario(bench: Bench) -> None:
            async with bench.context() as ctx:
                await bench.write(ctx, "a")
                await bench.write(ctx, "b")
            async with bench.context() as ctx:
                blobs = await bench.value(ctx)
                for name in ("missing", "a", "missing too", "b"):
                    await settled(blobs.delete(bench.key(name)))
                assert [bench.look("a"), bench.look("b")] == ["tea", "tea"]
            assert ctx.outcome == "committed"
            assert not ctx.outcome.errors
            assert [bench.look("a"), bench.look("b")] == [None, None]

        run(scenario)

    def test_a_rollback_drops_deletions(self, host: BlobHost, run: Any) -> None:
        async def scenario(bench: Bench) -> None:
            async with bench.context() as ctx:
                await bench.write(ctx)
            async with bench.context() as ctx:
                blobs = await bench.value(ctx)
                await settled(blobs.delete(bench.key()))
                ctx.set_rollback_only("no")
            assert bench.look() == "tea"

        run(scenario)

    def test_a_savepoint_drops_deletions(self, host: BlobHost, run: Any) -> None:
        async def scenario(bench: Bench) -> None:
            async with bench.context() as ctx:
                for name in ("a", "b", "c"):
                    await bench.write(ctx, name)
            async with bench.context() as ctx:
                blobs = await bench.value(ctx)
                await settled(blobs.delete(bench.key("a")))
                with pytest.raises(LookupError):
                    async with bench.nested(ctx):
                        await settled(blobs.delete(bench.key("b")))
                        raise LookupError
                async with bench.nested(ctx):
                    await settled(blobs.delete(bench.key("c")))
            assert [bench.look(name) for name in ("a", "b", "c")] == [None, "tea", None]

        run(scenario)

    @pytest.mark.parametrize(
        ("error", "outcome", "upload", "deletion"),
        [
            (OSError("the disk is full"), "rolled_back", None, "tea"),
            (CommitOutcomeUnknown("other0"), "unknown", "tea", "tea"),
        ],
    )
    def test_the_authority_fails(
        self, host: BlobHost, run: Any, error: Exception, outcome: str, upload: str | None, deletion: str
    ) -> None:
        """Uploads go; unless rows may point at them. Nothing is deleted either way."""

        async def scenario(bench: Bench) -> None:
            async with bench.context() as ctx:
                await bench.write(ctx, "old")
            with pytest.raises(type(error)):
                async with bench.context() as ctx:
                    assert ctx.other0 is None
                    await bench.write(ctx, "new")
                    await settled((await bench.value(ctx)).delete(bench.key("old")))
            assert ctx.outcome == outcome
            assert (bench.look("new"), bench.look("old")) == (upload, deletion)

        run(scenario, None, lambda context: Authority(error))

    def test_read_only(self, host: BlobHost, run: Any) -> None:
        async def scenario(bench: Bench) -> None:
            async with bench.context(read_only=True) as ctx:
                blobs = await bench.value(ctx)
                for write in (
                    lambda: blobs.put(b"tea"),
                    lambda: blobs.delete("tea"),
                    lambda: blobs.sweep(older_than=timedelta(0), keep=list),
                ):
                    with pytest.raises(ReadOnlyError, match=r"refuses (put|delete|sweep)\(\)"):
                        await settled(write())
            assert ctx.outcome == "committed"

        run(scenario)

    def test_nothing_is_written_when_the_context_has_ended(self, host: BlobHost, run: Any) -> None:
        async def scenario(bench: Bench) -> None:
            async with bench.context() as ctx:
                blobs = await bench.value(ctx)
                key = await settled(blobs.put(b"tea"))
            assert await settled(blobs.get(key)) == b"tea"
            for write in (lambda: blobs.put(b"tea"), lambda: blobs.delete(key)):
                with pytest.raises(ContextClosedError):
                    await settled(write())

        run(scenario)

    def test_orphans_are_swept(self, host: BlobHost, run: Any) -> None:
        async def scenario(bench: Bench) -> None:
            async with bench.context() as ctx:
                for name in ("p/used", "p/orphan", "q"):
                    await bench.write(ctx, name)
            asked: list[str] = []

            def keep(keys: list[str]) -> list[str]:
                asked.extend(keys)
                return [key for key in keys if key.endswith("used")]

            async def akeep(keys: list[str]) -> list[str]:
                return keep(keys)

            used, orphan = bench.key("p/used"), bench.key("p/orphan")
            for keeping in (keep, akeep) if host.is_async else (keep,):
                asked.clear()
                async with bench.context() as ctx:
                    blobs = await bench.value(ctx)
                    assert await settled(blobs.sweep(older_than=timedelta(1), keep=keeping)) == []
                    orphans = blobs.sweep(older_than=-timedelta(1), keep=keeping, prefix=bench.key("p"))
                    assert await settled(orphans) == [orphan]
                    assert sorted(asked) == [orphan, used]
                    ctx.set_rollback_only("first, look")
            async with bench.context() as ctx:
                await settled(
                    (await bench.value(ctx)).sweep(older_than=-timedelta(1), keep=keep, prefix=bench.key("p"))
                )
            assert [bench.look(name) for name in ("p/used", "p/orphan", "q")] == ["tea", None, "tea"]

        run(scenario)


class TestDeletionsThatFail:
    @pytest.fixture
    def host(self, is_async: bool) -> BlobHost:
        host = MemoryHost(is_async=is_async)
        host.store = Broken()
        return host

    def test_an_orphan_of_a_rollback_is_logged(
        self, host: BlobHost, run: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The rollback stays one."""

        async def scenario(bench: Bench) -> None:
            async with bench.context() as ctx:
                await bench.write(ctx, "a")
                ctx.set_rollback_only("no")
            assert ctx.outcome == "rolled_back"
            assert f"resource 'db' could not delete {bench.key('a')}" in caplog.text

        run(scenario)

    def test_an_orphan_of_a_savepoint_is_logged(
        self, host: BlobHost, run: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The context may commit: no row knows it."""

        async def scenario(bench: Bench) -> None:
            async with bench.context() as ctx:
                await bench.value(ctx)
                with pytest.raises(LookupError):
                    async with bench.nested(ctx):
                        await bench.write(ctx, "a")
                        raise LookupError
            assert ctx.outcome == "committed"
            assert f"could not delete {bench.key('a')}" in caplog.text

        run(scenario)

    def test_after_the_commit_it_is_in_the_outcome(self, host: BlobHost, run: Any) -> None:
        async def scenario(bench: Bench) -> None:
            async with bench.context() as ctx:
                blobs = await bench.value(ctx)
                await settled(blobs.delete("a"))
                await settled(blobs.delete("b"))
            assert ctx.outcome == "committed"
            assert [(found.type, found.where) for found in ctx.outcome.errors] == [
                (OSError, "committing resource 'db'")
            ]

        run(scenario)

    def test_one_of_several(self, host: BlobHost, run: Any) -> None:
        """A store that minds what is not there leaves the rest; they are deleted one by one."""

        def delete(paths: Any) -> None:
            if isinstance(paths, list) or paths == "missing":
                raise FileNotFoundError
            if paths == "locked":
                raise PermissionError
            MemoryStore.delete(host.store, paths)

        async def delete_async(paths: Any) -> None:
            delete(paths)

        host.store.delete, host.store.delete_async = delete, delete_async

        async def scenario(bench: Bench) -> None:
            async with bench.context() as ctx:
                await bench.write(ctx)
            async with bench.context() as ctx:
                for key in ("missing", "locked", bench.key()):
                    await settled((await bench.value(ctx)).delete(key))
            assert [found.type for found in ctx.outcome.errors] == [PermissionError]
            assert bench.look() is None

        run(scenario)


class TestLateUploads:
    def test_a_thread_outlives_its_context(self, caplog: pytest.LogCaptureFixture) -> None:
        """What it has uploaded by then is deleted, and it is told."""
        store = MemoryStore()
        dm = DataManager()
        dm.register_resources(blobs=BlobBackend(store))
        context = dm.context()
        context.open()
        blobs = context.blobs

        def data() -> Iterator[bytes]:
            thread = threading.Thread(target=context.close)
            thread.start()
            thread.join()
            yield b"tea"

        with pytest.raises(ContextClosedError):
            blobs.put(data())
        context.leave()
        assert store.list().collect() == []
        assert not caplog.records

    def test_a_task_outlives_its_context(self) -> None:
        """The context waits for what is on its way."""
        store = MemoryStore()
        dm = DataManager()
        dm.register_resources(blobs=AsyncBlobBackend(store))
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def data() -> Any:
            begun.set()
            await may_end.wait()
            yield b"tea"

        async def main() -> None:
            async with dm.context() as ctx:
                blobs = await ctx.blobs
                upload = asyncio.create_task(blobs.put(data()))
                await begun.wait()
                asyncio.get_running_loop().call_later(0.01, may_end.set)
            with pytest.raises(ContextClosedError):
                await upload

        asyncio.run(main())
        assert store.list().collect() == []


class TestBackends:
    def test_no_secret_is_shown(self) -> None:
        backend = BlobBackend("s3://shop/photos?password=secret", secret_access_key="secret", region="eu")
        assert repr(backend) == "BlobBackend('s3://shop/photos')"
        store = obstore.store.S3Store("shop", access_key_id="ann", secret_access_key="secret", region="eu")
        assert repr(AsyncBlobBackend(store)) == "AsyncBlobBackend(<S3Store>)"

    @pytest.mark.parametrize("kind", [BlobBackend, AsyncBlobBackend])
    def test_options_are_for_a_url(self, kind: Any) -> None:
        with pytest.raises(ConfigurationError):
            kind(MemoryStore(), region="eu")

    def test_memory_is_one_for_all_event_loops(self) -> None:
        """What one test, or request of a Flask app, has put there is found by the next; backends do not share it."""
        dm = DataManager()
        dm.register_resources(blobs=AsyncBlobBackend("memory:///"), others=AsyncBlobBackend("memory:///"))

        async def put() -> str:
            async with dm.context() as ctx:
                return await (await ctx.blobs).put(b"tea")

        async def found(key: str) -> list[bool]:
            async with dm.context() as ctx:
                seen = [await (await blobs).exists(key) for blobs in (ctx.blobs, ctx.others)]
            await dm.aclose()
            return seen

        key = asyncio.run(put())
        assert asyncio.run(found(key)) == [True, False]
        assert asyncio.run(found(key)) == [True, False]

    def test_memory_outlives_the_manager(self) -> None:
        dm = DataManager()
        dm.register_resources(blobs=BlobBackend("memory:///"))
        with dm.context() as ctx:
            key = ctx.blobs.put(b"tea")
        dm.close()
        with dm.context() as ctx:
            assert ctx.blobs.exists(key)
        dm.close()

    def test_ping_misses_the_bucket(self, s3: S3, is_async: bool) -> None:  # noqa: F811
        dm = DataManager()
        if is_async:
            dm.register_resources(blobs=AsyncBlobBackend("s3://missing", **s3.options()))
            ping = asyncio.run(dm.aping())["blobs"]
        else:
            dm.register_resources(blobs=BlobBackend("s3://missing", **s3.options()))
            ping = dm.ping()["blobs"]
        assert not ping.ok
        assert ping.error == "GenericError"

    def test_a_forked_child_is_refused(self, tmp_path: Path, is_async: bool) -> None:
        """And does not wait for ever."""
        refuse_after_fork("blobs")  # obstore is used here
        if (child := os.fork()) == 0:
            code = 1
            try:
                dm = DataManager()
                if is_async:
                    dm.register_resources(blobs=AsyncBlobBackend(tmp_path.as_uri()))
                    pings = asyncio.run(dm.aping())
                else:
                    dm.register_resources(blobs=BlobBackend(tmp_path.as_uri()))
                    with pytest.raises(ForkedStoreError, match="resource 'blobs' cannot be used in this process"):
                        with dm.context() as ctx:
                            ctx.blobs.get("tea")
                    pings = dm.ping()
                assert pings["blobs"].error == "ForkedStoreError"
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def test_without_obstore(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The message says what to install."""
        monkeypatch.setitem(sys.modules, "obstore", None)
        with pytest.raises(MissingClientError, match=r"pip install 'polydatum\[blobs\]'"):
            runpy.run_path(blobs.__file__)


class TestFaults:
    """A context that reads, uploads and deletes, whose exchanges with S3 are cut and delayed."""

    EXCHANGES = 4  # upload, read, upload, delete

    def work(self, place: S3, is_async: bool, proxy: Proxy, before: str) -> tuple[Any, list[str]]:
        keys: list[str] = []
        contexts: list[Any] = []
        options = place.options(port=proxy.port)

        async def one(bench: Bench) -> None:
            async with bench.context() as ctx:
                contexts.append(ctx)
                blobs = await bench.value(ctx)
                keys.append(await settled(blobs.put(b"tea")))
                assert await settled(blobs.get(before)) == b"old"
                keys.append(await settled(blobs.put(b"rice")))
                await settled(blobs.delete(before))

        host = S3Host(place, is_async=is_async)

        async def scenario() -> None:
            bench = Bench(host, host.kind(place.url, **options))
            try:
                await one(bench)
            except obstore.exceptions.BaseError:
                pass
            finally:
                await bench.close()

        host.run(scenario())
        return contexts[0].outcome, keys

    @pytest.mark.parametrize("exchange", range(EXCHANGES))
    @pytest.mark.parametrize("direction", ["request", "reply"])
    @pytest.mark.parametrize("delay", [None, *DELAYS])
    def test_an_exchange(
        self,
        s3: S3,  # noqa: F811
        is_async: bool,
        exchange: int,
        direction: Any,
        delay: float | None,
    ) -> None:
        """Committed: what was uploaded is there. Rolled back: nothing of it is, not even what only the server knew."""
        store = s3.store()
        before = f"{os.getpid()}-old"
        store.put(before, b"old")
        there_before = s3.keys()
        with Proxy(s3.host, s3.port) as proxy:
            proxy.arm(Fault(exchange, direction, delay))
            outcome, keys = self.work(s3, is_async, proxy, before)
            assert proxy.struck
        there_now = s3.keys()
        if delay is not None or exchange == 3:
            assert outcome == "committed"
            assert there_now - there_before == {*keys}
            deleted = delay is not None or direction == "reply"
            assert (before not in there_now) is deleted
            assert bool(outcome.errors) is (delay is None)
        else:
            assert outcome == "rolled_back"
            assert there_now == there_before
        store.delete([before, *keys])

    def test_a_failed_upload_that_nobody_minds(self, s3: S3, is_async: bool) -> None:  # noqa: F811
        """Its object is deleted though the context commits, since nobody knows its key."""
        host = S3Host(s3, is_async=is_async)
        there_before = s3.keys()

        async def scenario(port: int) -> None:
            bench = Bench(host, host.kind(s3.url, **s3.options(port=port)))
            async with bench.context() as ctx:
                with pytest.raises(obstore.exceptions.GenericError):
                    await settled((await bench.value(ctx)).put(b"tea"))
            assert ctx.outcome == "committed"
            await bench.close()

        with Proxy(s3.host, s3.port) as proxy:
            proxy.arm(Fault(0, "reply"))
            host.run(scenario(proxy.port))
        assert s3.keys() == there_before

    def test_a_lost_reply_is_not_taken_for_somebody_elses_object(self, s3: S3, is_async: bool) -> None:  # noqa: F811
        """With obstore's own retries: an upload whose reply was lost."""
        host = S3Host(s3, is_async=is_async)
        there_before = s3.keys()

        async def scenario(port: int) -> None:
            options = s3.options(port=port, retry_config={"max_retries": 3})
            bench = Bench(host, host.kind(s3.url, **options))
            with pytest.raises(obstore.exceptions.BaseError):
                async with bench.context() as ctx:
                    await settled((await bench.value(ctx)).put(b"tea"))
            assert ctx.outcome == "rolled_back"
            await bench.close()

        with Proxy(s3.host, s3.port) as proxy:
            proxy.arm(Fault(0, "reply"))
            host.run(scenario(proxy.port))
        assert s3.keys() == there_before

    def test_cancelled_uploads_leave_nothing(self, s3: S3) -> None:  # noqa: F811
        """Cancelled at random moments, more than a hundred of them."""
        there_before = s3.keys()
        keys: list[str] = []
        cancelled = 0
        chance = random.Random(7)

        async def one(dm: DataManager) -> None:
            async with dm.context() as ctx:
                key = await (await ctx.blobs).put(b"x" * 100_000)
            keys.append(key)

        async def main() -> None:
            nonlocal cancelled
            dm = DataManager()
            dm.register_resources(blobs=AsyncBlobBackend(s3.url, **s3.options()))
            for _ in range(150):
                task = asyncio.create_task(one(dm))
                await asyncio.sleep(chance.random() * 0.006)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    cancelled += 1
            await dm.aclose()

        asyncio.run(main())
        assert cancelled > 50
        assert s3.keys() - there_before == {*keys}
        s3.store().delete(keys)
