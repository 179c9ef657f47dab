"""bind: a function that takes the current context along into a thread."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from polydatum import ConfigurationError, ContextClosedError, DataManager, NoActiveContextError, bind


@pytest.fixture
def dm() -> DataManager:
    return DataManager()


def test_a_thread_has_no_context_of_its_own(dm: DataManager) -> None:
    with ThreadPoolExecutor(1) as pool, dm.context() as context:
        with pytest.raises(NoActiveContextError):
            pool.submit(dm.require_active_context).result()
        assert pool.submit(bind(dm.require_active_context)).result() is context
        with pytest.raises(NoActiveContextError):
            pool.submit(dm.require_active_context).result()  # nothing of it stays in the thread


def test_it_may_run_in_many_threads_at_once(dm: DataManager) -> None:
    together = threading.Barrier(4, timeout=10)

    def who() -> str:
        together.wait()
        return dm.require_active_context().meta["user"]

    with ThreadPoolExecutor(4) as pool, dm.context(meta={"user": "ann"}):
        bound = bind(who)
        assert [run.result() for run in [pool.submit(bound) for _ in range(4)]] == ["ann"] * 4


def test_it_passes_arguments_and_errors_through(dm: DataManager) -> None:
    assert bind(divmod)(7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        bind(divmod)(7, 0)


def test_late_use_says_that_the_context_has_closed(dm: DataManager) -> None:
    with dm.context():
        bound = bind(dm.require_active_context)
    with pytest.raises(ContextClosedError):
        bound()


def test_a_coroutine_function_is_refused(dm: DataManager) -> None:
    async def task() -> None: ...

    with pytest.raises(ConfigurationError, match="task' is async"):
        bind(task)
