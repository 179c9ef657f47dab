"""Every error: what it is, what it says, what it keeps."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from django_polydatum.configuration import UnknownKeysError
from polydatum import errors
from polydatum.adapting import (
    AdapterMissingError,
    InvalidManagerError,
    InvalidRuleError,
    ManagerNotFoundError,
    UnsendableAnswerError,
)
from polydatum.backends.blob_journal import ForkedStoreError
from polydatum.backends.blobs import UrlNotSupported
from polydatum.backends.redis_commands import ImmediateWriteError
from polydatum.errors import (
    AlreadyCommittedError,
    AlreadyRegisteredError,
    AsyncResourceError,
    CommandError,
    CommandNotAllowed,
    CommandRejected,
    CommitOutcomeUnknown,
    ConcurrentBlockError,
    ConfigurationError,
    ContextClosedError,
    ContextError,
    ContextReusedError,
    ForkedResourceError,
    InvalidCommandArguments,
    InvalidCommandPath,
    InvalidMiddlewareError,
    InvalidResourceError,
    InvalidServiceError,
    MetaError,
    MetaKeyError,
    MetaReadOnlyError,
    MiddlewareError,
    MiddlewareSetupError,
    MissingClientError,
    MultipleAuthoritiesError,
    NoActiveContextError,
    NotFound,
    PolydatumError,
    ReadOnlyError,
    ResourceCycleError,
    ResourceError,
    ResourceSetupError,
    ResourceTimeoutError,
    RollbackOnlyError,
    RolledBack,
    SavepointNotSupported,
    ServiceError,
    SettleError,
    UnknownCommand,
    UnknownResourceError,
    YieldedTwiceError,
    shown,
)

BASES = [
    (ConfigurationError, PolydatumError),
    (AlreadyRegisteredError, ConfigurationError),
    (InvalidResourceError, ConfigurationError),
    (InvalidMiddlewareError, ConfigurationError),
    (InvalidServiceError, ConfigurationError),
    (ContextError, PolydatumError),
    (NoActiveContextError, ContextError, RuntimeError),
    (ContextReusedError, ContextError, RuntimeError),
    (ContextClosedError, ContextError, RuntimeError),
    (AsyncResourceError, ContextError, TypeError),
    (ResourceError, PolydatumError),
    (UnknownResourceError, ResourceError, AttributeError),
    (ResourceSetupError, ResourceError),
    (ResourceCycleError, ResourceError),
    (ResourceTimeoutError, ResourceError, TimeoutError),
    (MiddlewareError, PolydatumError),
    (MiddlewareSetupError, MiddlewareError),
    (YieldedTwiceError, PolydatumError, RuntimeError),
    (SettleError, PolydatumError),
    (RolledBack, SettleError),
    (RollbackOnlyError, SettleError),
    (CommitOutcomeUnknown, SettleError),
    (AlreadyCommittedError, SettleError),
    (MultipleAuthoritiesError, SettleError),
    (ForkedResourceError, ResourceError),
    (ReadOnlyError, ResourceError),
    (SavepointNotSupported, ResourceError),
    (ConcurrentBlockError, ContextError),
    (MissingClientError, ConfigurationError, ImportError),
    (CommandError, PolydatumError),
    (InvalidCommandPath, CommandError, ValueError),
    (UnknownCommand, CommandError, LookupError),
    (CommandNotAllowed, CommandError, PermissionError),
    (InvalidCommandArguments, CommandError, TypeError, ValueError),
    (CommandRejected, CommandError, PermissionError),
    (MetaError, PolydatumError),
    (MetaReadOnlyError, MetaError, AttributeError),
    (MetaKeyError, MetaError, AttributeError, KeyError, ValueError),
    (ServiceError, PolydatumError),
    (NotFound, ServiceError),
]


@pytest.mark.parametrize("classes", BASES, ids=lambda classes: classes[0].__name__)
def test_bases(classes: tuple[type[BaseException], ...]) -> None:
    """The tree of errors, with the built-in classes that older code catches."""
    assert all(issubclass(classes[0], base) for base in classes[1:])
    assert issubclass(classes[0], PolydatumError)


def test_closed_is_no_attribute_error() -> None:
    """Request proxies of frameworks hide an AttributeError, so use after the close is none."""
    assert not issubclass(ContextClosedError, AttributeError)
    assert not issubclass(NoActiveContextError, AttributeError)


INSTANCES: list[tuple[PolydatumError, dict[str, Any], list[str]]] = [
    (
        AlreadyRegisteredError("resource", "db"),
        {"kind": "resource", "name": "db"},
        ["resource 'db'", "replace_resource()", "dm.override()"],
    ),
    (InvalidResourceError("db", "an int is nothing"), {"name": "db"}, ["resource 'db': an int is nothing"]),
    (InvalidMiddlewareError("mw", "bad"), {"middleware": "mw"}, ["middleware 'mw': bad"]),
    (InvalidServiceError("items", "bad"), {"name": "items"}, ["service 'items': bad"]),
    (
        NoActiveContextError("service Items"),
        {"wanted": "service Items"},
        ["no active context", "service Items", "with dm.context()", "adapter"],
    ),
    (ContextReusedError("closed"), {"state": "closed"}, ["opened only once", "this one is closed", "dm.context()"]),
    (
        ContextClosedError("db", outcome="committed", status=204),
        {"wanted": "db", "state": "closed", "outcome": "committed", "status": 204},
        ["cannot use db", "closed", "status 204", "outcome committed", "dm.context()"],
    ),
    (
        ContextClosedError("db", state="closing", hint="wait"),
        {"state": "closing", "outcome": None, "status": None},
        ["its context is closing; wait"],
    ),
    (AsyncResourceError("pg", "is async"), {"name": "pg", "subject": ""}, ["async resource 'pg' is async"]),
    (
        AsyncResourceError("send", "is async", "hook 'send'"),
        {"name": "send", "problem": "is async", "subject": "hook 'send'"},
        ["hook 'send' is async"],
    ),
    (
        UnknownResourceError("bd", ["db", "cache"]),
        {"name": "bd"},
        ["no resource 'bd'", "registered: cache, db", "dm.register_resources()"],
    ),
    (UnknownResourceError("bd"), {"name": "bd"}, ["registered: none"]),
    (UnknownResourceError("x", [f"r{n:02}" for n in range(21)]), {"name": "x"}, ["r19, ...)"]),
    (ResourceSetupError("db"), {"name": "db"}, ["resource 'db' never yielded"]),
    (ResourceCycleError(["a", "b", "a"]), {"names": ("a", "b", "a")}, ["a -> b -> a"]),
    (
        ResourceTimeoutError("closing resource 'pg'", 0.5),
        {"where": "closing resource 'pg'", "limit": 0.5},
        ["gave up closing resource 'pg'", "0.5 s", "teardown_timeout"],
    ),
    (MiddlewareSetupError("tx"), {"name": "tx"}, ["context middleware 'tx' never yielded"]),
    (
        YieldedTwiceError("generator 'db'"),
        {"what": "generator 'db'"},
        ["generator 'db' yielded more than once"],
    ),
    (RolledBack("status", 404), {"reason": "status", "status": 404}, ["rolled back: status"]),
    (RollbackOnlyError("db"), {"resource": "db"}, ["resource 'db' cannot commit", "savepoint"]),
    (
        RollbackOnlyError.after("db", ZeroDivisionError("secret")),
        {"earlier": "ZeroDivisionError"},
        ["an earlier error (ZeroDivisionError) made it rollback-only"],
    ),
    (
        RollbackOnlyError("db", undone=True),
        {"resource": "db", "undone": True},
        ["resource 'db' cannot commit", "a service rolled it back", "ctx.nested()"],
    ),
    (CommitOutcomeUnknown("db"), {"resource": "db"}, ["resource 'db' was lost while committing"]),
    (AlreadyCommittedError("db"), {"resource": "db"}, ["a service committed resource 'db'", "with dm.context()"]),
    (
        MultipleAuthoritiesError(["orders", "stock"]),
        {"resources": ("orders", "stock")},
        ["resources 'orders', 'stock' all wrote", "commit_order=[...]"],
    ),
    (
        MultipleAuthoritiesError(["db"], databases=2),
        {"resources": ("db",), "databases": 2},
        ["resource 'db' wrote to 2 databases in one session", "twophase=True", "a resource for each"],
    ),
    (ForkedResourceError("db"), {"name": "db"}, ["resource 'db' was used before this process was forked", "URL"]),
    (ReadOnlyError("db", "an INSERT"), {"name": "db"}, ["resource 'db' refuses an INSERT", "read_only=True"]),
    (ConcurrentBlockError("nested()"), {"wanted": "nested()"}, ["nested(): another task", "one after the other"]),
    (SavepointNotSupported("db"), {"name": "db"}, ["resource 'db' has no savepoints", "nested()"]),
    (
        MissingClientError("RedisBackend", "redis", "redis"),
        {"package": "redis"},
        ["RedisBackend needs the package redis: pip install 'polydatum[redis]'"],
    ),
    (InvalidCommandPath("too long"), {}, ["invalid command path: too long"]),
    (UnknownCommand("items.x", "no method"), {"path": "items.x"}, ["no command 'items.x': no method"]),
    (
        CommandNotAllowed("items.x"),
        {"path": "items.x"},
        ["'items.x' may not be run", "decorate the method with @command"],
    ),
    (InvalidCommandArguments("items.x", "too many"), {"path": "items.x"}, ["command 'items.x': too many"]),
    (CommandRejected("it is a list"), {}, ["command message refused: it is a list"]),
    (MetaReadOnlyError(), {}, ["meta is read-only", "when you open the context"]),
    (MetaKeyError("tenant", ["user", "request"]), {"key": "tenant"}, ["no 'tenant'", "keys: request, user"]),
    (MetaKeyError("tenant", []), {"key": "tenant"}, ["keys: none"]),
    (ServiceError("too bad", 3, code=418), {"code": 418, "args": ("too bad", 3)}, ["too bad"]),
    (ServiceError("too bad"), {"code": 500}, ["too bad"]),
    (NotFound("item 1"), {"code": 404}, ["item 1"]),
    (errors.ErrorsOnClose("kept"), {}, ["kept"]),
    (ConfigurationError("outbox: no"), {}, ["outbox: no"]),
    (
        AdapterMissingError("request.dal", "install it"),
        {"fix": "install it"},
        ["no context for request.dal: install it"],
    ),
    (
        UnsendableAnswerError("the status line", "is bad"),
        {"part": "the status line", "problem": "is bad"},
        ["this answer cannot be sent: the status line is bad"],
    ),
    (InvalidRuleError("app.conf.x", "no rule"), {"place": "app.conf.x"}, ["app.conf.x: no rule"]),
    (
        InvalidManagerError("app.conf.x", "the class X"),
        {"place": "app.conf.x"},
        ["app.conf.x: expected a DataManager", "got the class X"],
    ),
    (ManagerNotFoundError(iter(["one", "two"])), {"places": ("one", "two")}, ["set one of these: one, two"]),
    (ManagerNotFoundError(["one"], "no module"), {"places": ("one",)}, ["one: no module"]),
    (ForkedStoreError("blobs"), {"name": "blobs"}, ["resource 'blobs' cannot be used in this process"]),
    (UrlNotSupported("blobs"), {"name": "blobs"}, ["resource 'blobs' cannot sign URLs"]),
    (ImmediateWriteError("cache", "SET"), {"name": "cache"}, ["resource 'cache' refuses SET", "immediate=True"]),
    (UnknownKeysError(iter(["DATA"])), {"keys": ("DATA",)}, ["unknown keys: DATA"]),
]
names = [f"{type(error).__name__}-{number}" for number, (error, _, _) in enumerate(INSTANCES)]


@pytest.mark.parametrize(("error", "facts", "said"), INSTANCES, ids=names)
def test_messages(error: PolydatumError, facts: dict[str, Any], said: list[str]) -> None:
    """A message says what, where and the remedy; the facts are kept as attributes."""
    for name, value in facts.items():
        assert getattr(error, name) == value
    for words in said:
        assert words in str(error)


def pickled(error: PolydatumError) -> Any:
    return pickle.loads(pickle.dumps(error))


def rebuilt(error: PolydatumError) -> PolydatumError:
    """As Celery's result backends do, which keep its class and `args` as JSON."""
    return type(error)(*json.loads(json.dumps(error.args)))


@pytest.mark.parametrize(("error", "facts"), [(error, facts) for error, facts, _ in INSTANCES], ids=names)
@pytest.mark.parametrize("again", [copy.copy, pickled, rebuilt])
def test_errors_travel(error: PolydatumError, facts: dict[str, Any], again: Any) -> None:
    """An error can be copied and sent to another process, as worker pools and queues do."""
    sent = again(error)
    if again is rebuilt and "code" in vars(error):
        sent.code = 418  # one given to the error itself stays behind: `args` are the words of whoever raised it
    assert type(sent) is type(error)
    assert (str(sent), sent.args, vars(sent)) == (str(error), error.args, vars(error))
    assert {name: getattr(sent, name) for name in facts} == facts


def test_errors_of_users_travel_whatever_they_take() -> None:
    class Short(ServiceError):
        def __init__(self, *, item: str, left: int) -> None:
            self.left = left
            super().__init__(f"{left} of {item} left")

    sent = copy.copy(Short(item="tea", left=2))
    assert (str(sent), sent.left) == ("2 of tea left", 2)


def test_every_error_is_covered_here() -> None:
    """Every class with a message of its own has it looked at, and is sent."""

    def below(cls: type[PolydatumError]) -> set[type[PolydatumError]]:
        return {cls}.union(*map(below, cls.__subclasses__()))

    ours = {cls for cls in below(PolydatumError) if "polydatum" in cls.__module__.partition(".")[0]}
    own = {cls for cls in ours if {"__init__", "__str__"} & vars(cls).keys()}
    assert own - {type(error) for error, _, _ in INSTANCES} == set()


def test_meta_key_error_shows_its_message() -> None:
    """KeyError shows the repr of its argument; MetaKeyError shows the message."""
    assert str(MetaKeyError("x", [])).startswith("meta has no 'x'")


def test_names_are_shown_quoted_escaped_and_cut() -> None:
    """A name in a message cannot forge a log line or fill it."""
    assert shown("db") == "'db'"
    assert shown("a\nb\x1b") == r"'a\nb\x1b'"
    assert shown("x" * 80) == repr("x" * 80)
    assert shown("x" * 81) == repr("x" * 77 + "...")
    assert shown(12) == "'12'"


def test_codes_of_service_errors() -> None:
    """The code is the class's, or that of one error."""

    class OutOfStock(ServiceError):
        code = 409

    assert ServiceError().code == 500
    assert OutOfStock("2 left").code == 409
    assert OutOfStock("2 left", code=410).code == 410
    assert OutOfStock.code == 409
    assert NotFound.code == 404
