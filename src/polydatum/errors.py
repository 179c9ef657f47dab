"""The errors that Polydatum itself raises.

::

    PolydatumError
    ├─ ConfigurationError   AlreadyRegisteredError · InvalidResourceError · InvalidMiddlewareError · InvalidServiceError
    ├─ ContextError         NoActiveContextError(RuntimeError) · ContextReusedError(RuntimeError)
    │                       · ContextClosedError(RuntimeError) · AsyncResourceError(TypeError) · ConcurrentBlockError
    ├─ ResourceError        UnknownResourceError(AttributeError) · ResourceSetupError · ResourceTimeoutError(TimeoutError)
    │                       · ResourceCycleError
    ├─ MiddlewareError      MiddlewareSetupError
    ├─ SettleError          RolledBack · RollbackOnlyError · CommitOutcomeUnknown · AlreadyCommittedError
    │                       · MultipleAuthoritiesError
    ├─ CommandError         InvalidCommandPath(ValueError) · UnknownCommand(LookupError)
    │                       · CommandNotAllowed(PermissionError) · InvalidCommandArguments(TypeError, ValueError)
    │                       · CommandRejected(PermissionError)
    ├─ MetaError            MetaReadOnlyError(AttributeError) · MetaKeyError(AttributeError, KeyError, ValueError)
    └─ ServiceError(code)   NotFound(404)   raised by users' services

Errors of users' code and of drivers are raised as they are; Polydatum's own are raised only if there is no original. A
message says what happened, where, and what to do about it; it never contains a value from meta, arguments or SQL. The
second bases keep code working that was written for the built-in classes, or for polydatum 0.9.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self


def shown(name: object) -> str:
    """A name for a message: quoted, with special characters escaped, cut at 80 characters."""
    text = str(name)
    return repr(text if len(text) <= 80 else text[:77] + "...")


def kind_of(error: BaseException) -> str:
    """A database error for a message: its class and any SQLSTATE, but not its text, which may contain values."""
    name = type(error).__name__
    for one in (
        error,
        getattr(error, "orig", None),
        error.__cause__,
    ):  # the driver's error, or the one of SQLAlchemy or Django around it
        state = getattr(one, "sqlstate", None) or getattr(one, "pgcode", None)
        if isinstance(state, str):
            return f"{name}, SQLSTATE {state}"
    return name


class PolydatumError(Exception):
    """Base class of the errors that Polydatum itself raises. All can be pickled and copied, to cross processes.

    ``args`` are the positional arguments of the constructor, and the message is built from the attributes when it is
    read. So ``type(error)(*error.args)`` is an equal error, which is how Celery rebuilds one that was stored as JSON.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, vars(self))


def _restored(cls: type[PolydatumError], args: tuple[Any, ...], facts: dict[str, Any]) -> PolydatumError:
    """Rebuild an error without its constructor: that of a user's subclass may take other arguments than `args`."""
    error = cls.__new__(cls, *args)
    error.args = args
    vars(error).update(facts)
    return error


# --- Configuration: fix the code that registers -----------------------------------------------------------------------


class ConfigurationError(PolydatumError):
    """Something was registered or configured in a way that cannot work."""


class AlreadyRegisteredError(ConfigurationError):
    """A name is already taken."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.kind = kind
        self.name = name

    def __str__(self) -> str:
        return (
            f"{self.kind} {shown(self.name)} is already registered; "
            f"use replace_{self.kind}() or dm.override() to change it"
        )


class InvalidResourceError(ConfigurationError):
    """A resource is of a kind that Polydatum does not support, or its name is not allowed."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return f"resource {shown(self.name)}: {self.problem}"


class InvalidMiddlewareError(ConfigurationError):
    """A middleware is of a kind that Polydatum does not support, or does not fit what it surrounds."""

    def __init__(self, middleware: str, problem: str) -> None:
        super().__init__(middleware, problem)
        self.middleware = middleware
        self.problem = problem

    def __str__(self) -> str:
        return f"middleware {shown(self.middleware)}: {self.problem}"


class InvalidServiceError(ConfigurationError):
    """A service cannot be registered: not a Service, a bad name, or bound to another live DataManager."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return f"service {shown(self.name)}: {self.problem}"


# --- Contexts ---------------------------------------------------------------------------------------------------------


class ContextError(PolydatumError):
    """A Context was used in a way that its state does not allow."""


class NoActiveContextError(ContextError, RuntimeError):
    """Data was accessed outside of any Context."""

    def __init__(self, wanted: str = "the DAL") -> None:
        super().__init__(wanted)
        self.wanted = wanted

    def __str__(self) -> str:
        return (
            f"no active context while using {self.wanted}. Open one with 'with dm.context():' or 'with dm.dal() as dal:'; "
            "in a web request or task, check that the Polydatum adapter is installed, with the manager of this DAL"
        )


class ContextReusedError(ContextError, RuntimeError):
    """A Context was opened a second time."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state

    def __str__(self) -> str:
        return f"a context can be opened only once, and this one is {self.state}; open a new one with dm.context()"


class ContextClosedError(ContextError, RuntimeError):
    """A Context was used after (or while) it ended.

    A RuntimeError and not an AttributeError, because the request proxies of some frameworks hide the latter.
    """

    def __init__(
        self, wanted: str, state: str = "closed", outcome: str | None = None, status: int | None = None, hint: str = ""
    ) -> None:
        super().__init__(wanted, state, outcome, status, hint)
        self.wanted = wanted
        self.state = state
        self.outcome = outcome
        self.status = status
        self.hint = hint

    def __str__(self) -> str:
        facts = (f"status {self.status}" if self.status else "", f"outcome {self.outcome}" if self.outcome else "")
        ended = ", ".join(filter(None, facts))
        return f"cannot use {self.wanted}: its context is {self.state}{f' ({ended})' if ended else ''}; " + (
            self.hint or "finish the work before it closes, or open a new one with dm.context()"
        )


class AsyncResourceError(ContextError, TypeError):
    """Something async was used where nothing can be awaited, or was not awaited: a resource, a hook, a command, a step.

    Attributes:
        name: its name; for a step, its place as in error notes.
        problem: what is wrong, and what to do.
        subject: what the message is about, if it is not the async resource of that name.
    """

    def __init__(self, name: str, problem: str, subject: str = "") -> None:
        super().__init__(name, problem, subject)
        self.name = name
        self.problem = problem
        self.subject = subject

    def __str__(self) -> str:
        return f"{self.subject or f'async resource {shown(self.name)}'} {self.problem}"


# --- Resources and middleware -----------------------------------------------------------------------------------------


class ResourceError(PolydatumError):
    """A resource could not be opened or closed."""


class UnknownResourceError(ResourceError, AttributeError):
    """No resource of that name is registered. An AttributeError, so that ``hasattr`` works."""

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        self.known = tuple(sorted(known))
        super().__init__(name, self.known)
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, vars(self)  # AttributeError keeps the name elsewhere

    def __str__(self) -> str:
        listed = ", ".join(self.known[:20]) + (", ..." if len(self.known) > 20 else "") if self.known else "none"
        return f"no resource {shown(self.name)} is registered (registered: {listed}); see dm.register_resources()"


class ResourceSetupError(ResourceError):
    """A resource's generator ended without yielding a value."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"resource {shown(self.name)} never yielded; it has to yield its value exactly once"


class ResourceCycleError(ResourceError):
    """Resources wait for each other to open, or one for itself."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        super().__init__(self.names)

    def __str__(self) -> str:
        way = " -> ".join(self.names)
        return f"resources wait for each other to open: {way}; open one of them without the other"


class ResourceTimeoutError(ResourceError, TimeoutError):
    """A step of closing took longer than the teardown limit allows.

    Attributes:
        where: the step that was given up.
        limit: the teardown limit of the DataManager, in seconds.
    """

    def __init__(self, where: str, limit: float) -> None:
        super().__init__()
        self.args = (where, limit)  # OSError would take two arguments for an errno and its text
        self.where = where
        self.limit = limit

    def __str__(self) -> str:
        return f"gave up {self.where}: the teardown limit of {self.limit:g} s is used up (DataManager(teardown_timeout=...))"


class ForkedResourceError(ResourceError):
    """A client that was used before this process was forked cannot be used in the forked process."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return (
            f"the client given to resource {shown(self.name)} was used before this process was forked, and both processes "
            "would share its connections; give the backend a URL, so that each process makes its own, or make the client "
            "after the fork"
        )


class ReadOnlyError(ResourceError):
    """A write was tried in a context opened with ``read_only=True``."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(name, what)
        self.name = name
        self.what = what

    def __str__(self) -> str:
        return f"resource {shown(self.name)} refuses {self.what}: the context was opened with read_only=True"


class SavepointNotSupported(ResourceError):
    """A transaction that has already written cannot return to where ``ctx.nested()`` began."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return (
            f"resource {shown(self.name)} has no savepoints and has already written; "
            "enter ctx.nested() before it writes, or do without ctx.nested()"
        )


class ConcurrentBlockError(ContextError):
    """An operation would be undone if another task or thread rolled back its open ``ctx.nested()`` block."""

    def __init__(self, wanted: str) -> None:
        super().__init__(wanted)
        self.wanted = wanted

    def __str__(self) -> str:
        return (
            f"{self.wanted}: another task or thread is in a nested() block of this context, and a rollback of that block "
            "would undo this, too; do one after the other, or give each task a context of its own"
        )


class MissingClientError(ConfigurationError, ImportError):
    """A backend's client library is not installed."""

    def __init__(self, backend: str, package: str, extra: str) -> None:
        super().__init__(backend, package, extra)
        self.backend = backend
        self.package = package
        self.extra = extra
        self.msg = str(self)  # of ImportError

    def __str__(self) -> str:
        return f"{self.backend} needs the package {self.package}: pip install 'polydatum[{self.extra}]'"


class MiddlewareError(PolydatumError):
    """A context middleware broke its protocol."""


class MiddlewareSetupError(MiddlewareError):
    """A context middleware ended without yielding."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"context middleware {shown(self.name)} never yielded; it has to yield exactly once"


class YieldedTwiceError(PolydatumError, RuntimeError):
    """A generator that has to yield exactly once yielded again."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"{self.what} yielded more than once; it has to yield exactly once"


# --- Settling ---------------------------------------------------------------------------------------------------------


class SettleError(PolydatumError):
    """The end of a Context was not a plain commit."""


class RolledBack(SettleError):
    """Thrown into resources and middleware when a Context rolls back although nothing was raised.

    It lets ``try: yield / except: rollback; raise / else: commit`` work unchanged. The core swallows it afterwards:
    the caller never sees it.

    Attributes:
        reason: why, in words.
        status: the final HTTP status, if one was given.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason, status)
        self.reason = reason
        self.status = status

    def __str__(self) -> str:
        return f"rolled back: {self.reason}"


class RollbackOnlyError(SettleError):
    """A transaction could no longer commit, usually because an error of the database was swallowed.

    Attributes:
        resource: the name of its resource.
        undone: whether a service had rolled it back, and with it the work of others.
        ended: whether a service had ended it by SQL, so that the work of others is already kept or lost.
        earlier: the class and SQLSTATE of the error that was swallowed, if they are known.
    """

    def __init__(self, resource: str, undone: bool = False, ended: bool = False, earlier: str = "") -> None:
        super().__init__(resource, undone, ended, earlier)
        self.resource = resource
        self.undone = undone
        self.ended = ended
        self.earlier = earlier

    @classmethod
    def after(cls, resource: str, error: BaseException | None) -> Self:
        """The error for a transaction that an earlier error has doomed; ``error`` is None if that one is not known."""
        return cls(resource, earlier="" if error is None else kind_of(error))

    def __str__(self) -> str:
        earlier = f" ({self.earlier})" if self.earlier else ""
        why = f"an earlier error{earlier} made it rollback-only; let that error escape, or run the statement in a savepoint"
        if self.undone:
            why = (
                "a service rolled it back, including the work of others; let an exception leave the context instead, "
                "or undo a part with ctx.nested()"
            )
        if self.ended:
            why = (
                "a service ended it by a COMMIT or ROLLBACK in SQL, so the work of others is already kept or lost; leave the "
                "end to the context, or undo a part with ctx.nested()"
            )
        return f"the transaction of resource {shown(self.resource)} cannot commit: {why}"


class CommitOutcomeUnknown(SettleError):
    """The connection was lost while COMMIT was in flight: the data may or may not be there. It is never retried."""

    def __init__(self, resource: str) -> None:
        super().__init__(resource)
        self.resource = resource

    def __str__(self) -> str:
        return (
            f"the connection of resource {shown(self.resource)} was lost while committing: "
            "whether the data was kept is unknown"
        )


class AlreadyCommittedError(SettleError):
    """A transaction was rolled back after a service had committed it: the work up to that commit is kept.

    The outcome is ``partial``. This error is not raised to the caller, who gets the cause of the rollback; it is noted
    on that cause, and in ``outcome.errors``.
    """

    def __init__(self, resource: str) -> None:
        super().__init__(resource)
        self.resource = resource

    def __str__(self) -> str:
        return (
            f"a service committed resource {shown(self.resource)} before its context rolled back: leave the commit to the "
            "context; for work that must be kept in any case, open a context of its own: 'with dm.context():'"
        )


class MultipleAuthoritiesError(SettleError):
    """More than one authority has something to commit, and none can be undone once another has committed.

    Attributes:
        resources: the names of the resources.
        databases: how many databases a single resource has written to; 1 if there are several resources.
    """

    def __init__(self, resources: Iterable[str], databases: int = 1) -> None:
        self.resources = tuple(resources)
        self.databases = databases
        super().__init__(self.resources, databases)

    def __str__(self) -> str:
        names = ", ".join(shown(name) for name in self.resources)
        if self.databases == 1:
            what = f"resources {names} all wrote"
            remedy = (
                "use two contexts, or accept the window between the commits with DataManager(commit_order=[...]) "
                "naming them"
            )
        else:
            what = f"resource {names} wrote to {self.databases} databases in one session"
            remedy = "make its sessions with twophase=True, or register a resource for each database"
        return f"{what}, and no single commit covers them: write to one of them only, {remedy}"


# --- Commands ---------------------------------------------------------------------------------------------------------


class CommandError(PolydatumError):
    """A command cannot be resolved or run."""


class InvalidCommandPath(CommandError, ValueError):
    """A command path is malformed."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"invalid command path: {self.problem}"


class UnknownCommand(CommandError, LookupError):
    """A well-formed command path leads to no public service method."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"no command {shown(self.path)}: {self.problem}"


class CommandNotAllowed(CommandError, PermissionError):
    """A command path leads to a method that is not marked as a command."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{shown(self.path)} may not be run as a command; decorate the method with @command to allow it"


class InvalidCommandArguments(CommandError, TypeError, ValueError):
    """Arguments that do not fit the method of a command, or cannot travel as JSON."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"command {shown(self.path)}: {self.problem}"


class CommandRejected(CommandError, PermissionError):
    """A received message is not a command of this application; nothing of it was run."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"command message refused: {self.problem}"


# --- Meta -------------------------------------------------------------------------------------------------------------


class MetaError(PolydatumError):
    """Meta was used against its rules."""


class MetaReadOnlyError(MetaError, AttributeError):
    """Meta was written to."""

    def __str__(self) -> str:
        return "meta is read-only; pass meta={...} when you open the context"


class MetaKeyError(MetaError, AttributeError, KeyError, ValueError):
    """Meta has no such key."""

    def __init__(self, key: object, known: Iterable[str]) -> None:
        self.key = key
        self.known = tuple(sorted(known))
        super().__init__(key, self.known)

    def __str__(self) -> str:
        listed = ", ".join(self.known) or "none"
        return f"meta has no {shown(self.key)} (keys: {listed}); pass it as meta={{...}} when you open the context"


# --- Users' services --------------------------------------------------------------------------------------------------


class ServiceError(PolydatumError):
    """Base class of the errors that users' services raise on purpose.

    An adapter answers ``400 <= code < 500`` with that HTTP status and ``str(exc)`` as the detail; errors with other
    codes propagate as ordinary exceptions. Either way the Context rolls back.

    Example:
        >>> class OutOfStock(ServiceError):
        ...     code = 409
        >>> OutOfStock("2 left").code
        409
    """

    code: int = 500

    def __init__(self, *args: object, code: int | None = None) -> None:
        super().__init__(*args)
        if code is not None:
            self.code = code


class NotFound(ServiceError):
    """An object that the call relies on does not exist: 404."""

    code = 404


# --- Names of polydatum 0.9.1 -----------------------------------------------------------------------------------------

PolydatumException = PolydatumError
AlreadyExistsException = AlreadyRegisteredError
MiddlewareException = MiddlewareError
MiddlewareSetupException = MiddlewareSetupError
ResourceException = ResourceError
ResourceSetupException = ResourceSetupError


class ErrorsOnClose(ResourceError):
    """Kept for imports: an error while closing is raised, noted and logged as it is."""
