"""The life of a Context as a model: open, use, decide, unwind, hooks; and what becomes of errors on the way.

Written from the design's words alone, quoted beside each rule; it shares nothing with the engine. It runs on names
instead of things: a point is passed, a fault may strike there, and the model says what must be seen.
"""

from __future__ import annotations

from typing import NamedTuple

from .shapes import (
    AUTHORITIES,
    BARE,
    CANCEL,
    CLOSES_ITSELF,
    DOOM,
    DOOMED,
    EFFECT,
    EXIT,
    GENERATOR_EXIT,
    HOOK,
    INTERRUPT,
    LATE,
    LENIENT,
    LOST,
    OPEN,
    OWN_BASE,
    SWALLOW,
    TRANSACTIONAL,
    Faults,
    Shape,
)

# "Rank: KeyboardInterrupt/SystemExit > cancellation/GeneratorExit > current body error > commit > teardown"
RANK_INTERRUPT, RANK_CANCELLATION, RANK_BODY, RANK_COMMIT, RANK_TEARDOWN = range(5)

VETO = "veto"
INSIDE, OUTSIDE = "in the context", "in no context"


class Error(NamedTuple):
    """An error by where and how it was raised."""

    point: str
    kind: str

    @property
    def is_exception(self) -> bool:
        return self.kind not in (OWN_BASE, INTERRUPT, EXIT, CANCEL, GENERATOR_EXIT)

    def rank(self, phase: int) -> int:
        """The design: "within a rank the first in time; other BaseExceptions rank with their phase"."""
        if self.kind in (INTERRUPT, EXIT):
            return RANK_INTERRUPT
        return RANK_CANCELLATION if self.kind in (CANCEL, GENERATOR_EXIT) else phase

    def __str__(self) -> str:
        return f"{self.point}:{self.kind}"


class Passed(NamedTuple):
    """A point was passed: with which cause thrown in, and which context was the current one."""

    point: str
    cause: str | None
    current: str


class Story(NamedTuple):
    """All that can be seen of a context's life."""

    trace: list[Passed]
    caller_gets: str | None
    outcome: str
    errors: list[str]
    """Every error met, in order of time: what ``outcome.errors`` holds."""
    suppressed: str | None
    shown: list[str]
    """Those of the errors that the caller can find from the one he gets: "all others reachable"."""


class Life:
    """One context's life. ``current`` is what the caller gets as of now, ``cause`` what is thrown in from now on."""

    def __init__(self, shape: Shape, faults: Faults, wish: str) -> None:
        self.shape = shape
        self.faults = faults
        self.wish = wish
        self.trace: list[Passed] = []
        self.errors: list[str] = []
        self.shown: list[str] = []  # what the caller can find from the error he gets as of now
        self.current: Error | None = None
        self.rank = RANK_TEARDOWN
        self.cause: Error | str | None = None
        self.suppressed: Error | None = None
        self.doomed = False
        self.kept = False
        self.unknown = False
        self.middleware: list[str] = []  # set up
        self.opened: list[str] = []
        self.hooks = False  # registered by the body
        self.late_hooks = 0  # registered by middleware that was resumed

    def passes(self, point: str, *, thrown: bool = False, current: str = INSIDE) -> Error | None:
        """Pass a point; the error that arises there, if one does."""
        self.trace.append(Passed(point, str(self.cause) if thrown else None, current))
        kind = self.faults.get(point)
        if kind == DOOM:
            self.doomed = True
        if kind == HOOK:
            self.late_hooks += 1
        if kind == OPEN and LATE not in self.opened:  # "New resources may open until `prepare`."
            self.trace.append(Passed(f"{LATE}.setup", None, current))
            self.opened.append(LATE)
        return None if kind in (None, DOOM, HOOK, OPEN, SWALLOW) else Error(point, kind)

    def swallows(self, point: str) -> bool:
        return self.faults.get(point) == SWALLOW

    # --- Open, use, decide -------------------------------------------------------------------------------------------

    def open(self) -> Error | None:
        """The design: "Context middleware is set up in order." The error of one that fails."""
        for number in range(len(self.shape.middleware)):
            error = self.passes(f"m{number}.setup")
            if error is not None:
                return error
            self.middleware.append(f"m{number}")
        return None

    def use(self) -> Error | None:
        """The body: wishes, hooks, a touch of each resource, work. The error that escapes from it."""
        self.doomed = self.wish == DOOMED
        self.hooks = self.wish != BARE
        for number in range(len(self.shape.resources)):
            error = self.passes(f"r{number}.setup")  # "its error reaches its own caller unwrapped"
            if error is not None:
                return error
            self.opened.append(f"r{number}")
        return self.passes("body")

    def decide(self, escaped: Error | None) -> None:
        """The design: "Commit or roll back, once, from: the escaped exception, `ctx.set_rollback_only(reason)`, ...".

        `commit_on_error()` "overrides the exception and the status, nothing else"; an interrupt or a cancellation is
        more than an exception, and always rolls back.
        """
        if escaped is not None:
            self.meets(escaped, RANK_BODY)
            if self.wish == LENIENT and self.rank > RANK_CANCELLATION:
                self.cause = None
        self.heed_veto()

    def heed_veto(self) -> None:
        """The design: "The reason for a rollback is the cause; a veto without exception is `RolledBack`, thrown into
        generators". There is an exception if `commit_on_error` had set one aside."""
        if self.doomed and self.cause is None:
            self.cause = self.current or VETO

    # --- Unwind ------------------------------------------------------------------------------------------------------

    def unwind(self) -> None:
        """The design: "in this order, every step taken whatever is raised"."""
        self.run_before_commit()
        for part in reversed(self.middleware):
            self.end_middleware(part)
        for _ in range(self.late_hooks if self.cause is None else 0):
            self.passes("before_commit.late")  # what middleware has registered: still before the commit
        self.settle()
        for part in reversed(self.opened):
            self.close(part)

    def run_before_commit(self) -> None:
        """The design: "1. `before_commit` hooks, only while there is no cause."."""
        for point in ("before_commit", "before_commit.next"):
            if self.hooks and self.cause is None:
                self.meets(self.passes(point), RANK_COMMIT)
                self.heed_veto()

    def end_middleware(self, part: str) -> None:
        """The design: "2. Context middleware in reverse: resumed if there is no cause, else the cause is thrown
        in."."""
        if self.cause is None:
            error = self.passes(f"{part}.resumed")
            self.kept = self.kept or error is None  # it may have committed: we cannot see inside
            self.meets(error, RANK_COMMIT, nests=True)
            self.heed_veto()
        else:
            self.meets(self.passes(f"{part}.thrown", thrown=True), RANK_COMMIT, nests=True)
            if self.swallows(f"{part}.thrown"):
                self.suppress()

    def suppress(self) -> None:
        """The design: "Suppression by middleware changes only what the caller sees: everything unwound afterwards still
        rolls back (`RolledBack("suppressed by ...")` with the original as cause)"; interrupts and cancellation "can be
        neither suppressed nor replaced"."""
        if self.current is not None and self.cause == self.current and self.rank > RANK_CANCELLATION:
            self.suppressed = self.current
            self.cause = f"{VETO} of {self.current}"
            self.current = None
            self.shown = []

    def settle(self) -> None:
        """The design: "3. Transactional resources: `prepare` then `commit`, authorities in opening order, then effects;
        with a cause, `rollback` of all in reverse."."""
        to_undo = [part for part in self.opened if self.shape.form_of(part) in TRANSACTIONAL]
        authorities = [part for part in to_undo if self.shape.form_of(part) in AUTHORITIES]
        effects = [part for part in to_undo if self.shape.form_of(part) == EFFECT]
        for part in to_undo:
            if self.cause is None:
                self.meets(self.passes(f"{part}.prepare"), RANK_COMMIT)
        for part in authorities:
            if self.cause is None:
                error = self.passes(f"{part}.commit")
                self.meets(error, RANK_COMMIT)
                self.unknown = self.unknown or (error is not None and not error.is_exception)  # interrupted
                if error is None:
                    self.kept = True
                    to_undo.remove(part)
        if self.cause is None:
            for part in effects:
                error = self.passes(f"{part}.commit")
                self.kept = self.kept or error is None
                self.meets(error, RANK_COMMIT, only_logged=True)
        else:
            for part in reversed(to_undo):
                self.meets(self.passes(f"{part}.rollback"), RANK_TEARDOWN)

    def close(self, part: str) -> None:
        """The design: "4. Every resource closes in reverse of opening; a generator or context manager is resumed, or
        the cause is thrown in."."""
        if self.shape.form_of(part) in CLOSES_ITSELF:
            self.meets(self.passes(f"{part}.close"), RANK_TEARDOWN, only_logged=self.cause is None)
        elif self.cause is None:
            error = self.passes(f"{part}.resumed")
            self.kept = self.kept or error is None
            self.meets(error, RANK_TEARDOWN)
        else:
            self.meets(self.passes(f"{part}.thrown", thrown=True), RANK_TEARDOWN)

    def run_hooks(self, outcome: str) -> None:
        """The design: "then `on_commit` hooks (only `committed`) or `on_rollback` hooks (only `rolled_back`), in order,
        with no current context, each isolated: an Exception is logged and counted, a BaseException propagates after
        the rest."."""
        event = {"committed": "on_commit", "rolled_back": "on_rollback"}.get(outcome)
        if event is not None:
            for point in (event, f"{event}.next") * self.hooks + (f"{event}.late",) * self.late_hooks:
                self.meets(self.passes(point, current=OUTSIDE), RANK_TEARDOWN, only_logged=True)

    # --- Errors ------------------------------------------------------------------------------------------------------

    def meets(self, error: Error | None, phase: int, *, nests: bool = False, only_logged: bool = False) -> None:
        """Who wins, and what is thrown in from now on.

        ``only_logged``: "except a transactional resource's own `close` after its commit and an effect's failure, which
        are logged and kept".
        """
        if error is None:
            return
        self.errors.append(str(error))
        self.unknown = self.unknown or error.kind == LOST
        rank = error.rank(phase)
        if only_logged and error.is_exception:
            wins = False
        elif self.current is None:
            # "While a veto is thrown, an Exception raised in response is noted and logged and the answer stands."
            wins = self.cause is None or not error.is_exception
        else:
            # "Middleware nests like `with`: what it raises replaces the current exception [...]. A resource never
            # replaces or suppresses". What is neither raised nor replaced is a note.
            wins = rank < self.rank or (nests and self.rank > RANK_CANCELLATION)
            rank = min(rank, self.rank)
        if wins:
            self.current, self.rank = error, rank
        if self.current is not None:
            self.shown.append(str(error))
        if not only_logged and (wins or self.cause is None):
            self.cause = error  # "An error anywhere up to and in 4 becomes the cause for everything still to come"

    def word(self) -> str:
        """The design: "Only now the outcome is fixed: `committed`, `rolled_back`, `unknown` (connection lost with
        COMMIT in flight) or `partial` (something had committed before a later step failed)"."""
        if self.cause is None:
            return "committed"
        if self.unknown:
            return "unknown"
        return "partial" if self.kept else "rolled_back"


def story_of(shape: Shape, faults: Faults, wish: str) -> Story:
    """What must be seen of a context of that shape when those faults strike."""
    life = Life(shape, faults, wish)
    failed = life.open()
    if failed is None:
        life.decide(life.use())
    else:
        life.meets(failed, RANK_BODY)
    life.unwind()
    outcome = life.word()
    life.run_hooks(outcome)
    winner = life.current or failed  # "A failing one unwinds those already set up; its error is always raised."
    return Story(
        trace=life.trace,
        caller_gets=None if winner is None else str(winner),
        outcome=outcome,
        errors=life.errors,
        suppressed=None if life.suppressed is None else str(life.suppressed),
        shown=life.shown,
    )
