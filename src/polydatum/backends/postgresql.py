"""PostgreSQL's transaction states, and how to find out whether a commit succeeded, for all backends that use it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator

IN_FAILED_TRANSACTION = 3
"""libpq's PQTRANS_INERROR: an error has made the transaction rollback-only, and COMMIT would silently roll it back."""
IN_FAILED_TRANSACTION_STATE = "25P02"
"""The SQLSTATE of any statement in such a transaction."""
TRANSACTION_ID = "SELECT pg_current_xact_id_if_assigned()::text"
"""Null until the transaction writes."""

QUESTIONS = 20
FAILURES = 2


def status_of(xid: str) -> str:
    """The query for a transaction's status. While it is in progress, the server sleeps a little before it answers."""
    status = f"pg_xact_status('{int(xid)}')"
    return f"SELECT CASE {status} WHEN 'in progress' THEN pg_sleep(0.05) END, {status}"


def asking(xid: str) -> Generator[str, object, bool | None]:
    """Yield statements; the caller sends the last column of each answer, or the exception if there was none.

    The server may notice late that a connection is gone, so the query is repeated while the transaction is in progress.
    Eventually the server forgets the transaction.
    """
    failures = 0
    for _ in range(QUESTIONS):
        answer = yield status_of(xid)
        if answer in ("committed", "aborted"):
            return answer == "committed"
        if isinstance(answer, Exception):
            failures += 1
        if answer is None or failures == FAILURES:
            break
    return None


def was_committed(xid: str, ask: Callable[[str], object]) -> bool | None:
    """Find out over new connections whether a transaction committed whose COMMIT was not answered.

    Args:
        xid: the transaction's id, queried before the commit.
        ask: executes a statement over another connection, and returns the last column of its row.

    Returns:
        True if the transaction committed, False if it did not, None if the server does not say.

    Example:
        >>> was_committed("7", lambda statement: "committed")
        True
    """
    questions = asking(xid)
    question = next(questions)
    while True:
        answer: object
        try:
            answer = ask(question)
        except Exception as error:
            answer = error
        try:
            question = questions.send(answer)
        except StopIteration as stop:
            verdict: bool | None = stop.value
            return verdict


async def awas_committed(xid: str, ask: Callable[[str], Awaitable[object]]) -> bool | None:
    """The async twin of `was_committed`."""
    questions = asking(xid)
    question = next(questions)
    while True:
        answer: object
        try:
            answer = await ask(question)
        except Exception as error:
            answer = error
        try:
            question = questions.send(answer)
        except StopIteration as stop:
            verdict: bool | None = stop.value
            return verdict
