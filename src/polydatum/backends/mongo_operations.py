"""Makes PyMongo's operations take part in a context's transaction without passing its session.

PyMongo expects ``session=`` with each operation; one called without it silently runs outside of the transaction. The
classes that services get therefore fill it in.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from polydatum.errors import ReadOnlyError, kind_of

ClassT = TypeVar("ClassT", bound="type[InTransaction]")

READS = frozenset(
    {
        "aggregate",  # in a transaction the server refuses $out and $merge
        "aggregate_raw_batches",
        "count_documents",
        "dereference",
        "distinct",
        "find",
        "find_one",
        "find_raw_batches",
    }
)
"""Any other operation counts as a write, including `command`."""

OUTSIDE = frozenset(
    {
        "estimated_document_count",
        "index_information",
        "list_collection_names",
        "list_collections",
        "list_indexes",
        "list_search_indexes",
        "options",
        "watch",
    }
)
"""Operations that MongoDB refuses in every transaction, and that change nothing: they run outside of it."""


class Work:
    """The state of one transaction.

    Attributes:
        session: the session passed to its operations.
        wrote: whether it has had an operation that may write.
        failed: the class of the error of an operation that failed or was cancelled, which ends the transaction on the
            server; empty if there was none.
    """

    def __init__(self, name: str, session: Any, *, read_only: bool) -> None:
        self.name = name
        self.session = session
        self.read_only = read_only
        self.wrote = False
        self.failed = ""

    def begin(self, operation: str, *, takes_part: bool) -> None:
        """Refuse a write in a read-only context; note a write that takes part."""
        if operation not in READS:
            if self.read_only:
                raise ReadOnlyError(self.name, operation)
            self.wrote |= takes_part


class InTransaction:
    """Common to databases and collections, sync and async: the collections that they return take part, too."""

    _work: Work
    _joining: dict[type, Callable[[Any], Any]]

    def _joined(self, result: Any) -> Any:
        """Replace a plain database or collection by one that takes part; returns anything else unchanged."""
        join = self._joining.get(type(result))
        if join is None:
            return result
        made = join(result)
        made._work = self._work
        return made

    def __getitem__(self, name: str) -> Any:
        plain: Any = super()
        return self._joined(plain.__getitem__(name))

    def with_options(self, *args: Any, **options: Any) -> Any:
        """A copy with other options that takes part, too."""
        plain: Any = super()
        return self._joined(plain.with_options(*args, **options))


def takes_part(*ending: type[BaseException]) -> Callable[[ClassT], ClassT]:
    """Make every operation of a class take part. ``ending`` lists the errors that end the transaction on the server."""

    def decorate(joining: ClassT) -> ClassT:
        for name, method in inspect.getmembers(joining, inspect.isfunction):
            if name.startswith("_") or name in OUTSIDE:
                continue
            parameters = list(inspect.signature(method).parameters)
            if "session" in parameters:
                setattr(joining, name, _operation(name, method, parameters.index("session") - 1, ending))
            elif name in READS:  # accepts the session among its **kwargs
                setattr(joining, name, _operation(name, method, None, ending))
        return joining

    return decorate


def _operation(
    name: str, method: Callable[..., Any], place: int | None, ending: tuple[type[BaseException], ...]
) -> Callable[..., Any]:
    def takes_part_in(work: Work, args: list[Any], options: dict[str, Any]) -> bool:
        """Pass the session unless the caller passed one; False if the caller's is another one."""
        passed: Any = options
        key: Any = "session"
        if place is not None and len(args) > place:
            passed, key = args, place
        else:
            options.setdefault("session", None)
        takes_part = passed[key] is None or passed[key] is work.session
        work.begin(name, takes_part=takes_part)
        if takes_part:
            passed[key] = work.session
        return takes_part

    awaited_ending: tuple[type[BaseException], ...] = (asyncio.CancelledError, *ending)

    @functools.wraps(method)
    def call(self: InTransaction, *given: Any, **options: Any) -> Any:
        args = list(given)
        if not takes_part_in(self._work, args, options):
            return method(self, *args, **options)
        try:
            return self._joined(method(self, *args, **options))
        except ending as error:
            self._work.failed = kind_of(error)
            raise

    @functools.wraps(method)
    async def acall(self: InTransaction, *given: Any, **options: Any) -> Any:
        args = list(given)
        if not takes_part_in(self._work, args, options):
            return await method(self, *args, **options)
        try:
            return self._joined(await method(self, *args, **options))
        except awaited_ending as error:
            self._work.failed = kind_of(error)
            raise

    return acall if inspect.iscoroutinefunction(method) else call
