"""Django's own connection as a resource: what services write through the ORM commits or rolls back with the context."""

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
"""libpq's transaction states INERROR, in which COMMIT silently rolls back, and UNKNOWN, for a lost connection."""


def orm(using: str = DEFAULT_DB_ALIAS) -> Callable[[Context], OrmTransaction]:
    """A resource: one transaction on one of Django's connections, as part of the context's own transaction.

    It opens on first touch, as ``transaction.atomic(durable=True)``. From then on everything that this thread does on
    the connection is part of it, through models, querysets and cursors. It commits in the same step as other
    transactional resources, after all of them have prepared. An inner ``atomic()`` is a savepoint, as is
    ``ctx.nested()``. If two databases have both written, the commit is refused unless ``DataManager(commit_order=...)``
    names them. ``transaction.on_commit`` functions run once everything has committed; as with ``ctx.on_commit``, an
    error there is logged and changes nothing.

    For sync code: scripts, commands, tasks, and sync views, also under ASGI. Async code uses it as it uses the ORM, by
    ``await sync_to_async(function)()``.

    Args:
        using: the alias of the database in ``DATABASES``.

    Raises:
        ResourceError: on first touch, if the connection is already in a transaction (``ATOMIC_REQUESTS``, an outer
            ``atomic()``, an outer context), or has ``AUTOCOMMIT`` switched off.
        SynchronousOnlyOperation: on first touch in an event loop.

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
        context.on_commit(self.run_on_commit_hooks)  # before BEGIN, as this raises if it is too late for hooks
        self._atomic: Any = self._begin()

    def _begin(self) -> Any:
        connection = self._connection
        atomic = transaction.atomic(self.using, durable=True)
        try:
            if not connection.in_atomic_block and not connection.get_autocommit():
                raise ResourceError(
                    f"database {self.using!r} has AUTOCOMMIT off, so that atomic() commits nothing there"
                )
            self._is_outermost = not connection.in_atomic_block  # False in a TestCase
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
        """Raise if the transaction cannot be committed.

        Raises:
            RollbackOnlyError: if an error of the database was swallowed.
            ResourceError: if another thread has opened it.
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
            CommitOutcomeUnknown: if the connection was lost during the commit.
        """
        self.prepare()  # once more, as other resources have prepared since
        connection = self._connection
        raw = connection.connection
        if self._is_outermost:  # Django would run the hooks in here, before the other resources have committed
            self._on_commit_hooks, connection.run_on_commit = connection.run_on_commit, []
        try:
            self._end()
        except Error as error:
            self._on_commit_hooks = []
            if connection.connection is not raw or not connection.is_usable():  # Django drops a broken connection
                raise CommitOutcomeUnknown(f"orm({self.using!r})") from error
            raise

    def rollback(self) -> None:
        """Roll back, unless the transaction has ended; while the context is open, begin a new one."""
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
        """A savepoint, for ``ctx.nested()``."""
        return OrmSavepoint(self.using)

    def close(self) -> None:
        """Roll back, unless the transaction has ended."""
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
        """Make the database roll back, called in another thread than the connection's own, which then reconnects."""
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
        """Keep the changes made since.

        Raises:
            RollbackOnlyError: if an error of the database was swallowed; Django would silently roll back.
        """
        if _is_doomed(connections[self._using]):
            raise RollbackOnlyError(f"orm({self._using!r})")
        self._end()

    def rollback(self) -> None:
        """Undo the changes made since."""
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
