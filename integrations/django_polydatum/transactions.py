"""Django's own connection as a resource: what services write with the ORM commits, or rolls back, with the rest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from django.core.exceptions import SynchronousOnlyOperation
from django.db import DEFAULT_DB_ALIAS, Error, connections, transaction
from django.db.models import Model, QuerySet

from polydatum import CommitOutcomeUnknown, Context, ResourceError, RollbackOnlyError

ModelT = TypeVar("ModelT", bound=Model)

_ABORTED = (3, 4)
"""Of libpq's transaction states: INERROR, where COMMIT rolls back without a word, and UNKNOWN, a lost connection."""


def orm(using: str = DEFAULT_DB_ALIAS) -> Callable[[Context], OrmTransaction]:
    """A resource: one transaction on a connection of Django's, which is part of the context's own.

    Opened on first touch, as ``transaction.atomic(durable=True)``; from then on everything that this thread does on the
    connection is part of it, through models, querysets and cursors. It commits in the same step as other transactional
    resources, after all of them have prepared. ``atomic()`` within it makes savepoints, as does ``ctx.nested()``. Two
    databases that both wrote are refused unless ``DataManager(commit_order=...)`` names them. ``transaction.on_commit``
    functions run once everything has committed; as with ``ctx.on_commit`` an error there is logged and changes nothing.

    For sync code: scripts, commands, tasks, sync views, also under ASGI. Async code reaches it as it reaches the ORM, in
    ``await sync_to_async(function)()``.

    Args:
        using: the alias of the database in ``DATABASES``.

    Raises:
        ResourceError: when it is touched, if the connection is in a transaction already (``ATOMIC_REQUESTS``, ``atomic()``
            further out, an outer context), or has ``AUTOCOMMIT`` switched off.
        SynchronousOnlyOperation: when it is touched in an event loop.

    Example::

        dm.register_resources(django=orm(), archive=orm("archive"))

        class ItemService(Service):
            def add(self, name):
                return self._ctx.django.objects(Item).create(name=name)
    """
    return partial(OrmTransaction, using)


class OrmTransaction:
    """What a service gets for the resource `orm`.

    Attributes:
        using: the alias of the database.
    """

    kind = "authority"

    def __init__(self, using: str, context: Context) -> None:
        self.using = using
        self._context = context
        self._on_commit_hooks: list[Any] = []
        self._connection = connections[using]
        context.on_commit(self.run_on_commit_hooks)  # before it begins: it may be too late for that, and raise
        self._atomic: Any = self._begin()

    def _begin(self) -> Any:
        connection = self._connection
        atomic = transaction.atomic(self.using, durable=True)
        try:
            if not connection.in_atomic_block and not connection.get_autocommit():
                raise ResourceError(
                    f"database {self.using!r} has AUTOCOMMIT off, so that atomic() commits nothing there"
                )
            self._is_outermost = not connection.in_atomic_block  # in a TestCase it is not
            atomic.__enter__()
        except SynchronousOnlyOperation as error:
            error.add_note(
                "the ORM's connection belongs to a thread: await sync_to_async(function)(), or use a sync view"
            )
            raise
        except RuntimeError as error:
            raise ResourceError(
                f"database {self.using!r} is in a transaction already, which this one would depend on: switch "
                "ATOMIC_REQUESTS off, and open the context outside of atomic() and of other contexts that use the database"
            ) from error
        return atomic

    def objects(self, model: type[ModelT]) -> QuerySet[ModelT]:
        """The rows of a model, in this transaction: ``self._ctx.django.objects(Item).filter(...)``."""
        return model._default_manager.using(self.using)

    def prepare(self) -> None:
        """Refuse to commit what cannot be committed.

        Raises:
            RollbackOnlyError: if an error of the database was swallowed.
            ResourceError: if this is another thread than the one that opened it.
        """
        if not self._is_here():
            raise ResourceError(
                f"database {self.using!r} was opened in another thread than the one that closes the context, and Django's "
                "connections belong to threads; under ASGI use a sync view, or sync_to_async(function) as it is"
            )
        if _is_doomed(self._connection):
            raise RollbackOnlyError(f"orm({self.using!r})")

    def commit(self) -> None:
        """Commit.

        Raises:
            CommitOutcomeUnknown: if the connection was lost meanwhile.
        """
        self.prepare()  # once more: it is not the last to prepare
        connection = self._connection
        raw = connection.connection
        if self._is_outermost:  # Django would run them in here, before the others have committed
            self._on_commit_hooks, connection.run_on_commit = connection.run_on_commit, []
        try:
            self._end()
        except Error as error:
            self._on_commit_hooks = []
            if connection.connection is not raw or not connection.is_usable():  # Django drops what is broken
                raise CommitOutcomeUnknown(f"orm({self.using!r})") from error
            raise

    def rollback(self) -> None:
        """Roll back, unless it has ended; while the context is open, what comes next is in a new transaction."""
        if self._atomic is None:
            return
        if self._is_here():
            transaction.set_rollback(True, self.using)
            self._end()
        else:
            self._drop_connection()
        if self._context.state == "open":
            self._atomic = self._begin()

    def savepoint(self) -> OrmSavepoint:
        """A place to come back to, for ``ctx.nested()``."""
        return OrmSavepoint(self.using)

    def close(self) -> None:
        """Roll back what has neither been committed nor rolled back."""
        self.rollback()

    def run_on_commit_hooks(self) -> None:
        """Run the ``transaction.on_commit`` functions of a committed transaction, as Django does."""
        if self._on_commit_hooks:
            self._connection.run_on_commit, self._on_commit_hooks = self._on_commit_hooks, []
            self._connection.run_and_clear_commit_hooks()

    def _is_here(self) -> bool:
        return connections[self.using] is self._connection

    def _end(self) -> None:
        atomic, self._atomic = self._atomic, None
        atomic.__exit__(None, None, None)

    def _drop_connection(self) -> None:
        """Have the database roll back, from another thread than the connection's own, which then connects anew."""
        self._atomic = None
        self._connection.inc_thread_sharing()
        try:
            self._connection.in_atomic_block = False
            self._connection.close()
        finally:
            self._connection.dec_thread_sharing()


class OrmSavepoint:
    """An ``atomic()`` block inside the transaction."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._atomic: Any = transaction.atomic(using)
        self._atomic.__enter__()

    def release(self) -> None:
        """Keep what was done since.

        Raises:
            RollbackOnlyError: if an error of the database was swallowed; Django would roll back without a word.
        """
        if _is_doomed(connections[self._using]):
            raise RollbackOnlyError(f"orm({self._using!r})")
        self._end()

    def rollback(self) -> None:
        """Undo what was done since."""
        transaction.set_rollback(True, self._using)
        self._end()

    def _end(self) -> None:
        atomic, self._atomic = self._atomic, None
        if atomic is not None:
            atomic.__exit__(None, None, None)


def _is_doomed(connection: Any) -> bool:
    """Whether COMMIT, or the end of ``atomic()``, would roll back: by Django's rules, or by PostgreSQL's."""
    if connection.needs_rollback:
        return True
    if connection.vendor != "postgresql" or connection.connection is None:
        return False
    return connection.connection.info.transaction_status in _ABORTED
