"""What a soak calls wrong."""

from __future__ import annotations

from tests.soak.clients import Seen

EXPECTED = {"clean": {200}, "raised": {500}, "swallowed": {500}, "returned": {409}, "refused": {409}}
"""The answers to a request of a kind; others may have any, as long as it is true."""
SHOWN = 10


def judged(seen: Seen, kept: set[int], *, disturbed: bool = False) -> list[str]:
    """What clients saw that is not true, or was not to be.

    Args:
        seen: what they saw.
        kept: the ids of all rows that are there.
        disturbed: whether connections of the database were ended on purpose, so that any request may fail, and where COMMIT
            was on its way nobody knows whether there is a row.
    """
    odd = [
        f"{kind} {id} was answered with {status}"
        for id, kind, status in answers(seen)
        if status not in EXPECTED.get(kind, {status}) and not (disturbed and status == 500)
    ]
    lost = [id for id, kind, status in answers(seen) if status and status < 400 and id not in kept]
    false = [id for id, kind, status in answers(seen) if kind != "reset" and is_false(seen, id, status, id in kept)]
    if disturbed:
        false = [id for id in false if seen.statuses[id] != 500]
    groups = {
        "an answer that was not asked for": odd,
        "a connection that broke": seen.broken,
        "an answer with somebody else's data": seen.crossed,
        "a 2xx without its row": lost,
        "a row whose answer said no, or none that its context said yes to": false,
    }
    return [f"{len(found)} x {what}: {found[:SHOWN]}" for what, found in groups.items() if found]


def answers(seen: Seen) -> list[tuple[int, str, int | None]]:
    return [(id, kind, seen.statuses[id]) for id, kind in seen.kinds.items()]


def is_false(seen: Seen, id: int, status: int | None, is_there: bool) -> bool:
    outcome = seen.outcomes.get(id)
    if outcome is None:
        return is_there and status is not None and status >= 400
    return is_there != (outcome == "committed") and outcome != "unknown"
