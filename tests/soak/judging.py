"""What counts as a violation in a soak test."""

from __future__ import annotations

from tests.soak.clients import Seen

EXPECTED = {"clean": {200}, "raised": {500}, "swallowed": {500}, "returned": {409}, "refused": {409}}
"""The expected statuses by kind of request; other kinds may get any status, as long as it is true."""
SHOWN = 10


def judged(seen: Seen, kept: set[int], *, disturbed: bool = False) -> list[str]:
    """Answers that clients saw and that are untrue or unexpected.

    Args:
        seen: what the clients saw.
        kept: the ids of all committed rows.
        disturbed: whether database connections were terminated on purpose. Then any request may fail, and if COMMIT was
            being sent, its row may or may not exist.
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
