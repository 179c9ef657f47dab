"""Outcomes as words with details, and how errors rank."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import subprocess
import sys

import pytest
import trio

from polydatum import ErrorRecord, Outcome
from polydatum.outcome import (
    BODY,
    CANCELLATION,
    COMMITTED,
    INTERRUPT,
    committed_with,
    is_cancellation,
    rank_of,
)


def test_an_outcome_is_its_word() -> None:
    """It compares, prints, hashes and serializes as text."""
    outcome = Outcome("rolled_back", reason="no", http_status=404)
    assert outcome == "rolled_back"
    assert outcome != "committed"
    assert f"{outcome}" == "rolled_back"
    assert json.dumps({"outcome": outcome}) == '{"outcome": "rolled_back"}'
    assert {"rolled_back": 1}[outcome] == 1


def test_details() -> None:
    """All optional; errors are a tuple of records."""
    outcome = Outcome("committed")
    assert (outcome.errors, outcome.reason, outcome.http_status, outcome.suppressed) == ((), None, None, None)
    record = ErrorRecord(OSError, "late", "closing resource 'db'")
    error = KeyError()
    outcome = Outcome("partial", errors=[record], reason="why", http_status=500, suppressed=error)
    assert outcome.errors == (record,)
    assert (record.type, record.message, record.where) == (OSError, "late", "closing resource 'db'")
    assert (outcome.reason, outcome.http_status, outcome.suppressed) == ("why", 500, error)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda outcome: pickle.loads(pickle.dumps(outcome))])
def test_copies(again: object) -> None:
    """Outcomes can be copied and sent to another process, with their details."""
    outcome = Outcome("rolled_back", errors=[ErrorRecord(OSError, "late", "there")], reason="no", http_status=404)
    copied = again(outcome)  # type: ignore[operator]
    assert type(copied) is Outcome
    assert copied == outcome
    assert (copied.errors, copied.reason, copied.http_status) == (outcome.errors, "no", 404)


def test_clean_outcomes_are_shared() -> None:
    """One object for each status, and not without limit."""
    assert committed_with(200) is committed_with(200)
    assert committed_with(200).http_status == 200
    assert COMMITTED.http_status is None
    for status in range(1000, 1200):
        assert committed_with(status).http_status == status


class Own(BaseException):
    """Somebody's own."""


@pytest.mark.parametrize(
    ("error", "rank"),
    [
        (KeyError(), BODY),
        (Own(), BODY),
        (KeyboardInterrupt(), INTERRUPT),
        (SystemExit(), INTERRUPT),
        (GeneratorExit(), CANCELLATION),
        (asyncio.CancelledError(), CANCELLATION),
    ],
)
def test_ranks(error: BaseException, rank: int) -> None:
    """Interrupts before cancellation before the phase; an own BaseException ranks with its phase."""
    assert rank_of(error, BODY) == rank


def test_trio_cancellation() -> None:
    """Is one, as asyncio's is."""
    seen: list[bool] = []

    async def scenario() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except BaseException as error:
                seen.append(is_cancellation(error))
                raise

    trio.run(scenario)
    assert seen == [True]


def test_without_asyncio_or_trio() -> None:
    """A program that never loaded them cannot have been cancelled by them, and does not load them to find out."""
    code = (
        "import sys; from polydatum.outcome import is_cancellation; "
        "assert not is_cancellation(KeyError()); assert is_cancellation(GeneratorExit()); "
        "assert not is_cancellation(Exception()); assert not {'asyncio', 'trio'} & set(sys.modules)"
    )
    path = [entry for entry in sys.path if entry]
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:] = {path!r}; {code}"],
        check=True,
        timeout=60,
    )
