"""The policy of a Context's end: commit or roll back, in which order, and whose error wins.

Rules of this module: it decides, and does no I/O but logging; it knows no event loop, thread or lock; it never calls
what it plans. It plans `Step`s one at a time, because middleware may still open resources; `polydatum.settling` takes
each step, sync or async, and reports back with `Unwinding.done` or `Unwinding.failed`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol

from .callables import is_coroutine_function, name_of
from .errors import CommitOutcomeUnknown, MultipleAuthoritiesError, ResourceTimeoutError, RolledBack
from .outcome import (
    BODY,
    BODY_PLACE,
    CANCELLATION,
    COMMIT,
    TEARDOWN,
    ErrorRecord,
    Outcome,
    Wishes,
    add_note,
    advise,
    describe_error,
    is_cancellation,
    rank_of,
)
from .reporting import log_error

RollbackRule = Callable[[BaseException | None, int | None], bool]

MAX_BEFORE_COMMIT = 1000
"""How many ``before_commit`` hooks may be registered while such hooks run."""


class Unwindable(Protocol):
    """What is unwound: the parts of a Context that the plan is made from."""

    @property
    def _wishes(self) -> Wishes | None: ...
    @property
    def _frames(self) -> list[Any] | None: ...
    @property
    def _opened(self) -> list[Any] | None: ...
    @property
    def _transactions(self) -> list[tuple[str, Any]] | None: ...
    @property
    def _limit(self) -> float: ...
    @property
    def _commit_order(self) -> Sequence[str]: ...
    def _unknown(self, name: str) -> Exception: ...


class Step:
    """One action of the unwinding. ``call`` takes the cause (or None), and may return an awaitable if ``is_async``."""

    __slots__ = ("answer", "call", "commits", "is_async", "nests", "quiet", "rank", "where")

    def __init__(
        self,
        where: str,
        call: Callable[[BaseException | None], Any],
        *,
        is_async: bool = False,
        rank: int = TEARDOWN,
        nests: bool = False,
        quiet: bool = False,
        commits: bool = False,
    ) -> None:
        self.where = where
        self.call = call
        self.is_async = is_async
        self.rank = rank
        self.nests = nests  # nests like `with`: what it raises replaces the error, what it swallows is suppressed
        self.quiet = quiet  # its failure is logged and recorded, and changes neither outcome nor answer
        self.commits = commits  # once done without a cause, it has committed something, or may have
        self.answer: Any = None  # what `call` returned, once it is done

    def is_interrupted_by(self, error: BaseException) -> bool:
        """Whether an error is not the answer to this commit of an authority, but has interrupted it."""
        return self.rank == COMMIT and not self.nests and not self.quiet and not isinstance(error, Exception)

    def awaiting(self, result: Any) -> Step:
        """The rest of a step that looked sync and returned an awaitable."""
        return Step(
            self.where,
            lambda cause: result,
            is_async=True,
            rank=self.rank,
            nests=self.nests,
            quiet=self.quiet,
            commits=self.commits,
        )


class Unwinding:
    """The end of one Context: what is thrown into the next step, what the caller gets, what is only noted."""

    def __init__(
        self, subject: Unwindable, given: BaseException | None, status: int | None, place: str = BODY_PLACE
    ) -> None:
        self.subject = subject
        self.limit = subject._limit
        self.given = given
        self.status = status
        self.cause: BaseException | None = None  # thrown into all further steps; None: on the way to a commit
        self.winner: BaseException | None = given  # what the caller gets; None: no exception
        self.rank = BODY if given is None else rank_of(given, BODY)
        self.suppressed: BaseException | None = None
        self.errors: list[ErrorRecord] = []
        self.kept = False  # something has committed, or may have
        self.unknown = False
        self._readers: list[tuple[str, Any]] = []  # if there are several authorities: those with nothing to commit
        self.hooks_run = self.most_hooks = 0
        self.middleware_has_begun = False
        self.exit_errors: list[BaseException] = []  # raised by closing resources; for `get_resource_exit_errors`
        if given is not None:
            self._record(given, place)

    @classmethod
    def of_failed_open(cls, subject: Unwindable, error: BaseException, middleware: str | None) -> Unwinding:
        """The end of a context whose set-up failed, at a middleware or before; already decided."""
        place = "setting up the context" if middleware is None else f"setting up context middleware {middleware!r}"
        unwinding = cls(subject, error, None, place)
        unwinding.cause = error
        return unwinding

    # --- Decide -------------------------------------------------------------------------------------------------------

    def decide(self, rollback_on: RollbackRule | None) -> None:
        """Decide once whether to commit or roll back: sets the cause, or leaves it None.

        An interrupt or cancellation, and `set_rollback_only`, always roll back. Otherwise `commit_on_error` commits,
        without calling the rule. The rule decides everything else; by default an exception or a status of 400 or more
        rolls back.
        """
        wishes = self.subject._wishes
        given = self.given
        if given is not None and self.rank <= CANCELLATION:
            self.cause = given
        elif wishes is not None and wishes.rollback_only is not None:
            self.cause = given or self._veto(wishes.rollback_only)
        elif wishes is not None and wishes.commit_on_error:
            self.cause = None
        elif rollback_on is not None:
            try:
                rolls_back = rollback_on(given, self.status)
            except BaseException as error:
                self.failed(Step("calling rollback_on", planned_nothing, rank=COMMIT), error)
                return
            if rolls_back:
                self.cause = given or self._veto("rollback_on returned a true value")
        elif given is not None:
            self.cause = given
        elif self.status is not None and self.status >= 400:
            self.cause = self._veto(f"the answer has status {self.status}")

    def _veto(self, reason: str) -> RolledBack:
        return RolledBack(reason, self.status)

    @property
    def vetoed(self) -> bool:
        """Whether a rollback is under way that the caller does not see as an exception."""
        return self.cause is not None and self.winner is None

    # --- Steps, in order ----------------------------------------------------------------------------------------------

    def steps_before_prepare(self, teardown_hook: Callable[..., Any] | None = None) -> Iterator[Step]:
        """1. ``before_commit`` hooks while there is no cause; 2. context middleware in reverse.

        ``teardown_hook``, from polydatum 0.9.1, comes before both.
        """
        if teardown_hook is not None:
            yield Step("running _teardown_hook", lambda cause: teardown_hook(self.given), rank=COMMIT)
        if not self.middleware_has_begun:
            yield from self._before_commit()
        frames = self.subject._frames
        while frames:
            may_commit = frames.pop()
            handle = frames.pop()
            middleware = frames.pop()
            yield middleware.end_step(handle, commits=may_commit)
        yield from self._before_commit()  # what middleware has registered in the meantime

    def _before_commit(self) -> Iterator[Step]:
        while self.cause is None and self.subject._wishes is not None:
            hooks = self.subject._wishes.before_commit
            if self.hooks_run == len(hooks):
                break
            if self.hooks_run == 0:
                self.most_hooks = len(hooks) + MAX_BEFORE_COMMIT
            if self.hooks_run == self.most_hooks:
                error = RuntimeError(f"more than {MAX_BEFORE_COMMIT} before_commit hooks: they register each other")
                self.failed(Step("running before_commit hooks", planned_nothing, rank=COMMIT), error)
                break
            self.hooks_run += 1
            yield hook_step("before_commit", hooks[self.hooks_run - 1], rank=COMMIT)

    def steps_to_the_end(self) -> Iterator[Step]:
        """3. transactional resources: prepare, commit or roll back; 4. every resource closes in reverse of opening."""
        transactions = self.subject._transactions
        if transactions:
            yield from self._settle(transactions)
        opened = self.subject._opened
        while opened:
            handle = opened.pop()
            resource = opened.pop()
            yield resource.end_step(self.subject, handle, quiet=self.cause is None and resource.is_transaction(handle))

    def _settle(self, transactions: list[tuple[str, Any]]) -> Iterator[Step]:
        authorities = [entry for entry in transactions if entry[1].kind == "authority"]
        effects = [entry for entry in transactions if entry[1].kind == "effect"]
        for name, transaction in transactions:
            if self.cause is not None:
                break
            yield transaction_step("preparing", name, transaction.prepare, rank=COMMIT)
        if len(authorities) > 1 and self.cause is None:
            authorities = yield from self._commit_plan(authorities)
        undone = transactions[:]
        in_doubt = False
        for name, transaction in authorities:
            if self.cause is not None:
                break
            wrote = (name, transaction) not in self._readers
            yield transaction_step("committing", name, transaction.commit, rank=COMMIT, commits=wrote)
            if self.cause is None:
                undone.remove((name, transaction))
                in_doubt = in_doubt or wrote
        if self.cause is None:
            for name, transaction in effects:
                # The authority has committed: an effect that fails can no longer change the answer.
                yield transaction_step("committing", name, transaction.commit, rank=COMMIT, quiet=True, commits=True)
        else:
            if any(getattr(transaction, "has_committed", False) for _, transaction in undone):
                self.kept = in_doubt = True
            in_doubt = in_doubt or self.unknown
            for name, transaction in reversed(undone):
                undo = getattr(transaction, "abandon", None) if in_doubt else None
                yield transaction_step("rolling back", name, undo or transaction.rollback)

    def _commit_plan(self, authorities: list[tuple[str, Any]]) -> Generator[Step, None, list[tuple[str, Any]]]:
        """Authorities that only read, in order of opening, then those that wrote, in the user's ``commit_order``."""
        readers: list[tuple[str, Any]] = []
        writers: list[tuple[str, Any]] = []
        for name, transaction in authorities:
            wrote = getattr(transaction, "wrote", None)
            step = None if wrote is None else transaction_step("checking for writes of", name, wrote, rank=COMMIT)
            if step is not None:
                yield step
            is_reader = step is not None and step.answer is False
            (readers if is_reader else writers).append((name, transaction))
        if len(writers) > 1 and self.cause is None:
            names = [name for name, _ in writers]
            order = self.subject._commit_order
            if set(names) <= set(order):
                writers.sort(key=lambda writer: order.index(writer[0]))
            else:
                self.failed(Step("planning the commit", planned_nothing, rank=COMMIT), MultipleAuthoritiesError(names))
        self._readers = readers
        return readers + writers

    def steps_afterwards(self, outcome: Outcome, final_hook: Callable[..., Any] | None = None) -> Iterator[Step]:
        """``on_commit`` hooks of a committed context, ``on_rollback`` hooks of a rolled back one, each isolated.

        ``final_hook``, from polydatum 0.9.1, comes last.
        """
        wishes = self.subject._wishes
        if wishes is not None and outcome == "committed":
            for hook in wishes.on_commit:
                yield hook_step("on_commit", hook, quiet=True)
        elif wishes is not None and outcome == "rolled_back":
            for hook in wishes.on_rollback:
                yield hook_step("on_rollback", hook, quiet=True)
        if final_hook is not None:
            yield Step("running _final_hook", lambda cause: final_hook(self.winner), quiet=True)

    # --- Reports ------------------------------------------------------------------------------------------------------

    def done(self, step: Step, swallowed: Any) -> None:
        """A step ended without an error; ``swallowed``: the cause was thrown in and did not come out again."""
        step.answer = swallowed
        if self.cause is None:
            if step.commits:
                self.kept = True
        elif swallowed and step.nests and self.cause is self.winner and self.rank > CANCELLATION:
            self.suppressed = self.suppressed or self.winner
            self.cause = self._veto(f"suppressed by {step.where.removeprefix('unwinding ')}")
            self.cause.__cause__ = self.winner
            self.winner = None
        self.notice_late_veto()

    def failed(self, step: Step, error: BaseException) -> None:
        """A step raised an error that is not the cause that was thrown in."""
        self._record(error, step.where)
        if not step.nests and step.rank == TEARDOWN:
            self.exit_errors.append(error)
        if isinstance(error, CommitOutcomeUnknown) or (
            step.commits
            and self.cause is None
            and (isinstance(error, ResourceTimeoutError) or step.is_interrupted_by(error))
        ):
            self.unknown = True  # also if a commit was given up over the limit, or interrupted
        rank = rank_of(error, step.rank)
        if step.quiet and isinstance(error, Exception):
            self._note(error, step.where)
        elif self.winner is None:
            if self.vetoed and isinstance(error, Exception):
                self._note(error, step.where)  # the answer stands
            else:
                self._win(error, rank, step)
        elif rank < self.rank or (step.nests and self.rank > CANCELLATION):
            _chain(error, self.winner)
            self._win(error, min(rank, self.rank), step)
        else:
            self._note(error, step.where)
            if self.cause is None and not step.quiet:
                self.cause = error  # the body's error is kept for the caller, but nothing may commit any more

    def cancelled(self, cancellation: BaseException) -> None:
        """A cancel arrived before the first step and was not raised: it rolls back, whatever the body did."""
        if self.winner is not None:
            _chain(cancellation, self.winner)
        self._record(cancellation, BODY_PLACE)
        self.cause = self.winner = cancellation
        self.rank = CANCELLATION

    def interrupted(self, cancellation: BaseException) -> None:
        """A cancel arrived after the first step: it is raised at the end and changes nothing else."""
        if self.winner is not None:
            _chain(cancellation, self.winner)
        self.winner, self.rank = cancellation, CANCELLATION

    def notice_late_veto(self) -> None:
        """Hooks and middleware may still call `set_rollback_only`; the Context refuses it from the first prepare on."""
        wishes = self.subject._wishes
        if self.cause is None and wishes is not None and wishes.rollback_only is not None:
            self.cause = self.winner or self._veto(wishes.rollback_only)

    def _win(self, error: BaseException, rank: int, step: Step) -> None:
        if error is not self.given:
            add_note(error, f"while {step.where}")
        self.winner = error
        self.rank = rank
        if not step.quiet:
            self.cause = error

    def _note(self, error: BaseException, where: str) -> None:
        if self.winner is not None and self.winner is not error:
            add_note(self.winner, f"while {where}: {type(error).__name__}: {describe_error(error)}")
        log_error("error while %s (recorded in the outcome, not raised)", where, error=error)

    def _record(self, error: BaseException, where: str) -> None:
        advise(error, self.subject)
        self.errors.append(ErrorRecord(type(error), describe_error(error), where))

    # --- The end ------------------------------------------------------------------------------------------------------

    def outcome(self) -> Outcome:
        """The outcome, now that every step up to the last resource has been taken."""
        cause = self.cause
        if cause is None:
            word = "committed"
        elif self.unknown:
            word = "unknown"
        elif self.kept:
            word = "partial"
        else:
            word = "rolled_back"
        if word in ("unknown", "partial"):
            log_error("context ended %s: %s", word, _reason(cause))
        return Outcome(
            word,
            errors=self.errors,
            reason=None if cause is None else _reason(cause),
            http_status=self.status,
            suppressed=self.suppressed,
        )

    def release(self) -> None:
        """Drop what would keep frames alive: nobody sees a veto, so nobody needs its traceback."""
        if isinstance(self.cause, RolledBack) and self.cause is not self.winner:
            self.cause.__traceback__ = None
            self.cause.__context__ = None


def hook_step(event: str, hook: Callable[[], Any], *, rank: int = TEARDOWN, quiet: bool = False) -> Step:
    """A step that calls a hook, which takes no argument."""
    return Step(
        f"running {event} hook {name_of(hook)!r}",
        lambda cause: hook(),
        is_async=is_coroutine_function(hook),
        rank=rank,
        quiet=quiet,
    )


def transaction_step(
    verb: str, name: str, method: Callable[[], Any], *, rank: int = TEARDOWN, quiet: bool = False, commits: bool = False
) -> Step:
    """A step of the transactional protocol; its methods take no argument."""
    return Step(
        f"{verb} resource {name!r}",
        lambda cause: method(),
        is_async=is_coroutine_function(method),
        rank=rank,
        quiet=quiet,
        commits=commits,
    )


def planned_nothing(cause: BaseException | None) -> None:
    """The call of a step that only names where an error came from."""


def _chain(error: BaseException, replaced: BaseException) -> None:
    """Make a replaced error reachable from the one that replaced it, unless it already is."""
    last = error
    seen = {id(error)}
    while last is not replaced and last.__context__ is not None and id(last.__context__) not in seen:
        last = last.__context__
        seen.add(id(last))
    reaches_back: BaseException | None = replaced
    while reaches_back is not None and id(reaches_back) not in seen:
        seen.add(id(reaches_back))
        reaches_back = reaches_back.__context__
    if reaches_back is None:
        last.__context__ = replaced


def _reason(cause: BaseException | None) -> str:
    if isinstance(cause, RolledBack):
        return cause.reason
    return "cancelled" if cause is not None and is_cancellation(cause) else f"{type(cause).__name__} was raised"
