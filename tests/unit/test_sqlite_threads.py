"""What people meet first when they use SQLite in more than one thread: the error says what to do."""

from __future__ import annotations

import gc
import sqlite3
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from polydatum import Context, DataManager, bind


def db(context: Context) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        yield connection


@pytest.fixture
def dm() -> DataManager:
    dm = DataManager()
    dm.register_resources(db=db)
    return dm


def test_use_in_another_thread_names_the_option(dm: DataManager) -> None:
    with pytest.raises(sqlite3.ProgrammingError) as raised:
        with ThreadPoolExecutor() as pool, dm.context() as context:
            context.db.execute("SELECT 1")
            pool.submit(bind(lambda: context.db.execute("SELECT 1"))).result()
    assert any("check_same_thread=False" in note for note in raised.value.__notes__)


def test_a_close_in_another_thread_names_the_option(dm: DataManager) -> None:
    context = dm.context().open()
    context.db.execute("SELECT 1")
    with pytest.raises(sqlite3.ProgrammingError) as raised:
        with ThreadPoolExecutor() as pool:
            pool.submit(context.close).result()
    assert any("check_same_thread=False" in note for note in raised.value.__notes__)
    context.leave()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # nobody could close the connection
        del raised, context
        gc.collect()
