"""Forks: the child cannot use what the parent has open, opens its own, and closes nothing of the parent's."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pickle
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from polydatum import ContextClosedError, DataManager, NoActiveContextError, Service, opening, resources

Manager = DataManager[Any, Any]

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.timeout(30),
]


GENEROUS = 60.0
"""Seconds. A child saves its coverage before it leaves, which may take some on a busy machine."""


def in_child(work: Callable[[], Any]) -> Any:
    """What ``work`` gives, or raises, in a forked child, which leaves without any further ado."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # worker threads of other tests may be idle
        child = os.fork()
    if child == 0:
        status = 1
        try:
            try:
                result = ("gave", work())
            except BaseException as error:
                result = ("raised", f"{type(error).__name__}: {error}")
            os.write(writing, pickle.dumps(result))
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    kind, result = pickle.loads(data)
    if kind == "raised":
        raise AssertionError(f"in the child: {result}")
    return result


class Log(list[str]):
    def resource(self, name: str) -> Callable[[Any], Iterator[str]]:
        def generator(owner: Any) -> Iterator[str]:
            self.append(f"open {name}")
            try:
                yield f"{name} of {os.getpid()}"
            finally:
                self.append(f"close {name}")

        return generator


def refusal(use: Callable[[], Any]) -> str:
    with pytest.raises(ContextClosedError) as caught:
        use()
    return str(caught.value)


def test_a_context_open_at_the_fork_is_unusable_in_the_child() -> None:
    """Touching an open or a new resource, or calling a service, raises; the parent goes on as if nothing had happened."""
    log = Log()

    class Items(Service[Any]):
        def get(self) -> Any:
            return self._ctx.db

    manager: Manager = DataManager()
    manager.register_services(items=Items())
    manager.register_resources(db=log.resource("db"), other=log.resource("other"))
    with manager.context() as ctx:
        assert ctx.db

        def child() -> Any:
            refusals = [refusal(lambda: ctx.db), refusal(lambda: ctx.other), refusal(manager.get_dal().items.get)]
            return refusals, manager.get_active_context() is None, ctx.state, list(log)

        refusals, none_active, state, seen = in_child(child)
        assert all("parent" in text or "fork" in text for text in refusals[:2]), refusals
        assert none_active
        assert state == "closed"
        assert seen == ["open db"]

        assert ctx.db == f"db of {os.getpid()}"
        assert ctx.other == f"other of {os.getpid()}"
    assert ctx.outcome == "committed"
    assert log == ["open db", "open other", "close other", "close db"]


def test_the_child_opens_contexts_of_its_own() -> None:
    """Inside of the parent's block, with the same manager."""
    log = Log()
    manager: Manager = DataManager()
    manager.register_resources(db=log.resource("db"))
    with manager.context() as ctx:
        assert ctx.db

        def child() -> Any:
            with manager.context() as own:
                value = own.db
            return value == f"db of {os.getpid()}", own.outcome == "committed", list(log)

        assert in_child(child) == (True, True, ["open db", "open db", "close db"])
        assert ctx.db == f"db of {os.getpid()}"
    assert log == ["open db", "close db"]


def test_leaving_the_block_in_the_child_closes_nothing() -> None:
    """Not even when the context is collected: the connection belongs to the parent."""
    log = Log()
    manager: Manager = DataManager()
    manager.register_resources(db=log.resource("db"))

    def child() -> Any:
        holder[0].__exit__(None, None, None)
        outcome = str(holder[0].outcome)
        holder.clear()
        gc.collect()
        return outcome, list(log)

    holder = [manager.context()]
    holder[0].open()
    assert holder[0].db
    assert in_child(child) == ("unknown", ["open db"])
    assert holder[0].close() == "committed"
    assert log == ["open db", "close db"]


def test_app_resources_open_anew_in_the_child() -> None:
    """The parent's are dropped without closing them; those that the child opened, it closes."""
    log = Log()
    manager: Manager = DataManager()
    manager.register_app_resources(engine=log.resource("engine"))
    parents = manager.engine

    def child() -> Any:
        gc.collect()
        own = manager.engine
        with manager.context() as ctx:
            same = ctx.engine == own
        manager.close()
        gc.collect()
        return own == f"engine of {os.getpid()}", same, list(log)

    assert in_child(child) == (True, True, ["open engine", "open engine", "close engine"])
    assert manager.engine == parents
    manager.close()
    assert log == ["open engine", "close engine"]


def test_a_fork_while_threads_open_resources() -> None:
    """Openings and waiters of the parent's threads do not exist in the child: the same names open there at once."""
    inside, go = threading.Event(), threading.Event()
    attempts = 0

    def slow(owner: Any) -> Iterator[str]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            inside.set()
            assert go.wait(GENEROUS)
        yield "value"

    manager: Manager = DataManager()
    manager.register_resources(slow=slow)
    manager.register_app_resources(app=contextlib.contextmanager(slow))
    with manager.context() as ctx:
        threads = [threading.Thread(target=lambda: ctx.slow) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert inside.wait(GENEROUS)

        def child() -> Any:
            with manager.context() as own:
                return own.slow, own.app

        assert in_child(child) == ("value", "value")
        go.set()
        for thread in threads:
            thread.join(GENEROUS)
        assert ctx.slow == "value"


def test_a_fork_while_an_app_resource_opens_in_a_thread() -> None:
    """The child does not wait for an opener that exists only in the parent."""
    inside, go = threading.Event(), threading.Event()
    attempts = 0

    def engine(manager: Any) -> Iterator[str]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            inside.set()
            assert go.wait(GENEROUS)
        yield "engine"

    manager: Manager = DataManager()
    manager.register_app_resources(engine=engine)
    thread = threading.Thread(target=lambda: manager.engine)
    thread.start()
    assert inside.wait(GENEROUS)
    assert in_child(lambda: manager.engine) == "engine"
    go.set()
    thread.join(GENEROUS)
    assert manager.engine == "engine"
    manager.close()


def test_a_fork_while_a_thread_is_about_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever moment a thread of the parent is at, the child can wait for an opener of its own."""
    held, go = threading.Event(), threading.Event()

    class Waits(list[Any]):
        """Stands for the list of who waits for whom; whoever adds to it in the parent stays there, lock in hand."""

        def append(self, entry: Any) -> None:
            super().append(entry)
            held.set()
            assert os.getpid() != parent or go.wait(GENEROUS)

    parent = os.getpid()
    waits = Waits()
    monkeypatch.setattr(opening, "waits", waits)
    monkeypatch.setattr(resources, "waits", waits)
    inside, released = threading.Event(), threading.Event()

    def slow(owner: Any) -> Iterator[str]:
        inside.set()
        assert released.wait(GENEROUS)
        yield "value"

    manager: Manager = DataManager()
    manager.register_resources(slow=slow)

    def child() -> bool:
        """Two threads of the child: one opens, one waits."""
        inside.clear()
        with manager.context() as own:
            threads = [threading.Thread(target=lambda: own.slow, daemon=True) for _ in range(2)]
            for thread in threads:
                thread.start()
            assert inside.wait(GENEROUS)
            released.set()
            for thread in threads:
                thread.join(2)
            return not any(thread.is_alive() for thread in threads)

    with manager.context() as ctx:
        threads = [threading.Thread(target=lambda: ctx.slow) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            assert inside.wait(GENEROUS)
            assert held.wait(GENEROUS)
            assert in_child(child)
        finally:
            go.set()
            released.set()
            for thread in threads:
                thread.join(GENEROUS)


def test_a_fork_under_a_running_loop() -> None:
    """The child of a task: its copy of the context is closed; the parent's task goes on."""
    log: list[str] = []

    async def pg(ctx: Any) -> AsyncIterator[str]:
        yield "pg"
        log.append("closed")

    manager: Manager = DataManager()
    manager.register_resources(pg=pg)

    async def main() -> None:
        async with manager.context() as ctx:
            assert await ctx.pg == "pg"

            def child() -> Any:
                return refusal(lambda: ctx.pg), manager.get_active_context() is None

            text, none_active = in_child(child)
            assert "parent" in text
            assert none_active
            assert await ctx.pg == "pg"
        assert ctx.outcome == "committed"

    asyncio.run(main())
    assert log == ["closed"]


def test_two_forks_deep() -> None:
    """A grandchild is as independent as a child."""
    manager: Manager = DataManager()
    log = Log()
    manager.register_resources(db=log.resource("db"))
    manager.register_app_resources(engine=log.resource("engine"))
    with manager.context() as ctx:
        assert ctx.db
        assert ctx.engine

        def grandchild() -> Any:
            with manager.context() as own:
                return own.db == f"db of {os.getpid()}", own.engine == f"engine of {os.getpid()}"

        def child() -> Any:
            with manager.context() as own:
                assert own.db
                assert own.engine
                return in_child(grandchild), refusal(lambda: ctx.db) != ""

        assert in_child(child) == ((True, True), True)
        assert ctx.db
    manager.close()
    with pytest.raises(NoActiveContextError):
        manager.require_active_context()
