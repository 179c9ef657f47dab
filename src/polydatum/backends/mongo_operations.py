"""Operations of PyMongo that take part in a context's transaction without being told its session.

PyMongo wants ``session=`` with each operation, and what is called without it happens outside of the transaction, in
silence. The classes that services get fill it in, so that nobody has to remember.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from polydatum.errors import ReadOnlyError

ClassT = TypeVar("ClassT", bound="type[InTransaction]")

READS = frozenset(
    {
        "aggregate",  # $out and $merge are refused by the server in a transaction
        "aggregate_raw_batches",
        "count_documents",
        "dereference",
        "distinct",
        "find",
        "find_one",
        "find_raw_batches",
    }
)
"""Any other operation counts as a write, `command` too."""

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
"""What MongoDB refuses in every transaction, and what changes nothing: it happens outside."""


class Work:
    """What was done in one transaction.

    Attributes:
        session: the session that operations take part in.
        wrote: whether any operation was one that may write.
        failed: whether one failed, or was cancelled, which ends the transaction on the server.
    """

    def __init__(self, name: str, session: Any, *, read_only: bool) -> None:
        self.name = name
        self.session = session
        self.read_only = read_only
        self.wrote = self.failed = False

    def begin(self, operation: str, *, takes_part: bool) -> None:
        """Judge an operation, and note it if it takes part."""
        if operation not in READS:
            if self.read_only:
                raise ReadOnlyError(self.name, operation)
            self.wrote |= takes_part


class InTransaction:
    """What databases and collections have in common, sync and async: what is got from them takes part, too."""

    _work: Work
    _joining: dict[type, Callable[[Any], Any]]

    def _joined(self, result: Any) -> Any:
        """A database or collection that takes part, in place of a plain one; anything else as it is."""
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
        """A copy with other options, which takes part as well."""
        plain: Any = super()
        return self._joined(plain.with_options(*args, **options))


def takes_part(*ending: type[BaseException]) -> Callable[[ClassT], ClassT]:
    """Make every operation of a class take part. ``ending``: the errors after which the server has no transaction left."""

    def decorate(joining: ClassT) -> ClassT:
        for name, method in inspect.getmembers(joining, inspect.isfunction):
            if name.startswith("_") or name in OUTSIDE:
                continue
            parameters = list(inspect.signature(method).parameters)
            if "session" in parameters:
                setattr(joining, name, _operation(name, method, parameters.index("session") - 1, ending))
            elif name in READS:  # it passes keyword arguments on
                setattr(joining, name, _operation(name, method, None, ending))
        return joining

    return decorate


def _operation(
    name: str, method: Callable[..., Any], place: int | None, ending: tuple[type[BaseException], ...]
) -> Callable[..., Any]:
    def takes_part_in(work: Work, args: list[Any], options: dict[str, Any]) -> bool:
        """Fill the session in where there is none; False if the caller has brought another one."""
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
        except ending:
            self._work.failed = True
            raise

    @functools.wraps(method)
    async def acall(self: InTransaction, *given: Any, **options: Any) -> Any:
        args = list(given)
        if not takes_part_in(self._work, args, options):
            return await method(self, *args, **options)
        try:
            return self._joined(await method(self, *args, **options))
        except awaited_ending:
            self._work.failed = True
            raise

    return acall if inspect.iscoroutinefunction(method) else call
