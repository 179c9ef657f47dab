"""The words of the fault tests: what a context may be made of, where a fault may strike it, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

# --- Forms of resources and middleware, one letter each --------------------------------------------------------------

GENERATOR = "G"
MANAGER = "M"  # a context manager
AUTHORITY = "A"  # a transactional object that a callable makes, the first to commit
EFFECT = "E"  # likewise, after all authorities
YIELDED = "Y"  # an authority that a generator yields: committed by the protocol, closed by the generator's end

AUTHORITIES = AUTHORITY + YIELDED
TRANSACTIONAL = AUTHORITIES + EFFECT
CLOSES_ITSELF = AUTHORITY + EFFECT
ENDS_LIKE_WITH = GENERATOR + MANAGER + YIELDED  # is resumed, or has the cause thrown in

# --- Kinds of faults -------------------------------------------------------------------------------------------------

ERROR = "error"
OWN_BASE = "own base"
INTERRUPT = "interrupt"
EXIT = "exit"
CANCEL = "cancel"
GENERATOR_EXIT = "generator exit"
STOP = "stop"
LOST = "lost"  # CommitOutcomeUnknown
RAISED = (ERROR, OWN_BASE, INTERRUPT, EXIT, CANCEL, GENERATOR_EXIT, STOP)

NO_YIELD = "no yield"  # of a callable: it returns something that is no resource
TWO_YIELDS = "two yields"
SWALLOW = "swallow"
DOOM = "doom"  # calls set_rollback_only()
OPEN = "open"  # touches one more resource: LATE
HOOK = "hook"  # registers hooks of every sort, which is late, but not too late

LATE = "x0"  # a generator that no body touches

# --- Wishes of the body ----------------------------------------------------------------------------------------------

BARE = "bare"  # none, not even hooks: what the clean paths of the engine are for
HOOKED = "hooked"  # hooks of every sort, as in the two below
DOOMED = "doomed"  # set_rollback_only()
LENIENT = "lenient"  # commit_on_error()
WISHES = (BARE, HOOKED, DOOMED, LENIENT)


class Shape(NamedTuple):
    """What a context is made of: a form for each resource and each middleware, in order of opening."""

    resources: str
    middleware: str

    def __str__(self) -> str:
        return f"{self.resources or 'none'}-{len(self.middleware)}{'m' if MANAGER in self.middleware else ''}"

    def form_of(self, part: str) -> str:
        """The form of a part such as ``r0`` or ``m1``."""
        if part == LATE:
            return GENERATOR
        return (self.resources if part[0] == "r" else self.middleware)[int(part[1:])]


Faults = Mapping[str, str]
"""Point to kind. A point is ``"<part>.<moment>"``, the body, or a hook."""


def kinds_at(shape: Shape, point: str) -> Iterator[str]:
    """Every kind of fault that may strike at a point."""
    part, _, moment = point.partition(".")
    if moment in ("next", "late") or part == LATE:
        return  # further ones of their sort: they show that the first one's fault stops nobody
    yield from RAISED
    if not moment:
        if part == "before_commit":
            yield from (DOOM, OPEN)
        return
    form = shape.form_of(part)
    if moment == "setup" and form != MANAGER:
        yield NO_YIELD
    if moment in ("resumed", "thrown") and form != MANAGER:
        yield TWO_YIELDS
    if moment == "thrown":
        yield SWALLOW
    if moment == "thrown" and part[0] == "m":
        yield OPEN
    if moment == "resumed" and part[0] == "m":
        yield from (DOOM, HOOK, OPEN)
    if (moment == "commit" and form in AUTHORITIES) or (moment == "resumed" and part[0] == "r"):
        yield LOST
