"""Transactions: they take part in the end of a Context, and commit or roll back as one.

The engine checks for methods, not for a base class (see `polydatum.kinds.is_transactional`); the classes here document
the methods, and let services get another object than the transaction itself.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol


class Savepoint(Protocol):
    """A point in a transaction to return to. Either method ends it; an `AsyncTransaction` has them as coroutines."""

    def release(self) -> Any:
        """Keep what was done since."""

    def rollback(self) -> Any:
        """Undo what was done since. The transaction continues."""


class Transaction:
    """One transaction of one Context; a resource that returns it takes part in the context's outcome.

    When the context closes, all transactions `prepare`, then the authorities `commit`, then the effects; or all
    `rollback`. Each is closed afterwards.

    Two further methods are optional: ``savepoint()`` returns a `Savepoint` for ``ctx.nested()``, and ``abandon()`` is
    called in place of `rollback` if something may have committed already, for an effect that must then not undo what
    committed rows refer to. So is an attribute ``has_committed``, true once a service has committed through the client
    itself, which makes a later rollback ``partial``.

    Args:
        value: what services get when they touch the resource.

    Attributes:
        kind: ``"authority"``: its commit decides, as a database's does. ``"effect"``: its work can wait until the
            authority has committed; if it fails then, that is logged and does not change the answer.

    Example:
        >>> from polydatum import DataManager
        >>> class Letters(Transaction):
        ...     kind = "effect"
        ...     def commit(self):
        ...         print("posted:", *self.value)
        >>> dm = DataManager()
        >>> dm.register_resources(letters=lambda context: Letters([]))
        >>> with dm.context() as ctx:
        ...     ctx.letters.append("to Ann")
        posted: to Ann
    """

    kind: Literal["authority", "effect"] = "authority"

    def __init__(self, value: Any) -> None:
        self.value = value

    def prepare(self) -> None:
        """Do everything that may fail, before anything commits. An error rolls everything back."""

    def wrote(self) -> bool:
        """Whether there is anything to commit.

        Called after `prepare`, on authorities, if there is more than one; and when a ``ctx.nested()`` block begins, on a
        transaction without savepoints: once that has written, the block is refused.
        """
        return True

    def commit(self) -> None:
        """Keep what was done.

        Raises:
            CommitOutcomeUnknown: if it cannot be known whether it was kept.
            BaseException: whatever the client raises, if it was not kept.
        """

    def rollback(self) -> None:
        """Undo what was done. More work may follow, if it is ``ctx.nested()`` that rolls back.

        Raises:
            AlreadyCommittedError: if not everything could be undone, as a service had committed.
        """

    def close(self) -> None:
        """Release what is held. The last call, whatever happened before."""


class AsyncTransaction:
    """The async twin of `Transaction`."""

    kind: Literal["authority", "effect"] = "authority"

    def __init__(self, value: Any) -> None:
        self.value = value

    async def prepare(self) -> None:
        """As `Transaction.prepare`."""

    async def wrote(self) -> bool:
        """As `Transaction.wrote`."""
        return True

    async def commit(self) -> None:
        """As `Transaction.commit`."""

    async def rollback(self) -> None:
        """As `Transaction.rollback`."""

    async def close(self) -> None:
        """As `Transaction.close`."""


def value_of(transaction: Any) -> Any:
    """The value for services; an object that only has the methods of a transaction is its own value."""
    return transaction.value if isinstance(transaction, Transaction | AsyncTransaction) else transaction
