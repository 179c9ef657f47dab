"""Transactions: what takes part in the end of a Context, and commits or rolls back as one.

The engine asks for methods, not for a base class (see `polydatum.kinds.is_transactional`); the classes here say what the
methods are, and let services get another object than the transaction itself.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol


class Savepoint(Protocol):
    """A place in a transaction to come back to. Either method ends it; both are coroutines in an `AsyncTransaction`."""

    def release(self) -> Any:
        """Keep what was done since."""

    def rollback(self) -> Any:
        """Undo what was done since. The transaction goes on."""


class Transaction:
    """One transaction of one Context; a resource that returns it takes part in the context's outcome.

    When the context closes, all transactions `prepare`, then the authorities `commit`, then the effects; or all
    `rollback`. Each is closed afterwards. Optional are two further methods, ``savepoint()`` that gives a `Savepoint` for
    ``ctx.nested()``, and ``abandon()`` that is called in place of `rollback` when something may have committed already,
    of an effect that must not undo then what committed rows point at; and an attribute ``has_committed``, true once a
    service has committed by the client itself, which makes a later rollback ``partial``.

    Args:
        value: what services get when they touch the resource.

    Attributes:
        kind: ``"authority"``: its commit decides, as a database's does. ``"effect"``: what it does can wait until the
            authority has committed, and its failure then is logged and changes no answer.

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
        """Do all that may fail before anything commits. An error rolls everything back."""

    def wrote(self) -> bool:
        """Whether there is anything to commit. Asked after `prepare`, of authorities, if there is more than one."""
        return True

    def commit(self) -> None:
        """Keep what was done.

        Raises:
            CommitOutcomeUnknown: if it cannot be known whether it was kept.
            BaseException: whatever the client raises, if it was not.
        """

    def rollback(self) -> None:
        """Undo what was done. May be followed by more work, where ``ctx.nested()`` rolls back.

        Raises:
            AlreadyCommittedError: if not all could be undone, as a service had committed.
        """

    def close(self) -> None:
        """Give back what is held. The last call, whatever happened before."""


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
    """What services get: an object that only has the methods of a transaction is its own value."""
    return transaction.value if isinstance(transaction, Transaction | AsyncTransaction) else transaction
