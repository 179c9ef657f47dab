"""Django's own connection as a resource: what services write through the ORM commits or rolls back with the context."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from django.core.exceptions import SynchronousOnlyOperation
from django.db import DEFAULT_DB_ALIAS, Error, connections, transaction
from django.db.models import Model, QuerySet

from django_polydatum.threads import in_view_thread
from django_polydatum.watching import EndWatch
from polydatum import AlreadyCommittedError, CommitOutcomeUnknown, Context, ResourceError, RollbackOnlyError

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

    For sync code: scripts, commands, tasks, and sync views, also under ASGI. Async code uses it like the ORM itself,
    through ``await sync_to_async(function)()``. Like Django's connections, it belongs to the thread that touched it first.

    Args:
        using: the alias of the database in ``DATABASES``.

    Raises:
        ResourceError: on first touch, if the connection is already in a transaction (``ATOMIC_REQUESTS``, an outer
            ``atomic()``, an outer context), or has ``AUTOCOMMIT`` switched off; on use in another thread.
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
        self._watch = EndWatch(self._connection)
        context.close_in(in_view_thread)  # if the context is async, it was touched there
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
                f"database {self.using!r} is already in a transaction, which would decide over this one: switch "
                "ATOMIC_REQUESTS off, and open the context outside of atomic() and of other contexts that use the database"
            ) from error
        self._watch.begin()
        return atomic

    @property
    def has_committed(self) -> bool:
        """Whether a service has committed by a statement, such as ``COMMIT`` or, on MariaDB, DDL."""
        self._watch.look()
        return self._watch.has_committed

    def objects(self, model: type[ModelT]) -> QuerySet[ModelT]:
        """The rows of a model, in this transaction: ``self._ctx.django.objects(Item).filter(...)``.

        Raises:
            ResourceError: if another thread has opened the transaction.
        """
        self.refuse_elsewhere()
        return model._default_manager.using(self.using)

    def prepare(self) -> None:
        """Raise if the transaction cannot be committed.

        Raises:
            RollbackOnlyError: if an error of the database was swallowed, or a service has rolled back.
            ResourceError: if another thread has opened it.
        """
        self.refuse_elsewhere()
        self._watch.look()
        if self._watch.undone:
            raise RollbackOnlyError(self._name, undone=True)
        if _is_doomed(self._connection):
            raise RollbackOnlyError.after(self._name, _doom_of(self._connection))

    def refuse_elsewhere(self) -> None:
        """Refuse calls from another thread, whose connection is not in this transaction.

        Raises:
            ResourceError: if another thread has opened it.
        """
        if not self._is_here():
            raise ResourceError(
                f"the transaction of {self._name} belongs to the thread that touched it first, as Django's connections do, "
                "and this is another one: give threads contexts of their own, 'with dm.context():', in place of "
                "polydatum.bind(); in async code await sync_to_async(function)(), without thread_sensitive=False"
            )

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
                raise CommitOutcomeUnknown(self._name) from error
            raise

    def rollback(self) -> None:
        """Roll back, unless the transaction has ended; while the context is open, begin a new one.

        Raises:
            AlreadyCommittedError: if a statement of a service has committed before.
        """
        if self._atomic is None:
            return
        goes_on = self._context.state == "open"
        if goes_on:
            self.refuse_elsewhere()
        has_committed = self.has_committed
        if self._is_here():
            self._end_undone()
        elif self._is_outermost:
            self._drop_connection()
        else:
            with self._borrowed():
                self._end_undone()
        if goes_on:
            self._atomic = self._begin()
        if has_committed:
            raise AlreadyCommittedError(self._name)

    def savepoint(self) -> OrmSavepoint:
        """A savepoint, for ``ctx.nested()``.

        Raises:
            ResourceError: if another thread has opened the transaction.
        """
        self.refuse_elsewhere()
        return OrmSavepoint(self)

    def close(self) -> None:
        """Roll back, unless the transaction has ended."""
        self.rollback()

    def run_on_commit_hooks(self) -> None:
        """Run the ``transaction.on_commit`` functions of a committed transaction, as Django does."""
        if self._on_commit_hooks:
            self._connection.run_on_commit, self._on_commit_hooks = self._on_commit_hooks, []
            self._connection.run_and_clear_commit_hooks()

    @property
    def _name(self) -> str:
        return f"orm({self.using!r})"

    def _is_here(self) -> bool:
        return connections[self.using] is self._connection

    def _end(self) -> None:
        atomic, self._atomic = self._atomic, None
        self._watch.end()
        atomic.__exit__(None, None, None)

    def _end_undone(self) -> None:
        transaction.set_rollback(True, self.using)
        self._end()

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[None]:
        """Make the connection this thread's for a moment: an outer TestCase transaction must continue."""
        own = connections[self.using]
        self._connection.inc_thread_sharing()
        connections[self.using] = self._connection
        try:
            yield
        finally:
            connections[self.using] = own
            self._connection.dec_thread_sharing()

    def _drop_connection(self) -> None:
        """Make the database roll back, from a thread that does not own the connection; the owner then reconnects."""
        self._atomic = None
        self._watch.end()
        self._connection.inc_thread_sharing()
        try:
            self._connection.in_atomic_block = False
            self._connection.close()
        finally:
            self._connection.dec_thread_sharing()


class OrmSavepoint:
    """An ``atomic()`` block inside the transaction."""

    def __init__(self, outer: OrmTransaction) -> None:
        self._outer = outer
        self._atomic: Any = transaction.atomic(outer.using)
        self._atomic.__enter__()

    def release(self) -> None:
        """Keep the changes made since.

        Raises:
            RollbackOnlyError: if an error of the database was swallowed, where Django would silently roll back, or if a
                service has rolled back.
            ResourceError: if another thread has opened the transaction.
        """
        self._outer.prepare()
        self._end()

    def rollback(self) -> None:
        """Undo the changes made since.

        Raises:
            ResourceError: if another thread has opened the transaction.
        """
        self._outer.refuse_elsewhere()
        transaction.set_rollback(True, self._outer.using)
        self._end()

    def _end(self) -> None:
        atomic, self._atomic = self._atomic, None
        if atomic is not None:
            atomic.__exit__(None, None, None)


def _is_doomed(connection: Any) -> bool:
    """Whether COMMIT, or the end of ``atomic()``, would roll back, by the rules of Django or PostgreSQL."""
    if connection.needs_rollback:
        return True
    if connection.vendor != "postgresql" or connection.connection is None:
        return False
    return connection.connection.info.transaction_status in _ABORTED


def _doom_of(connection: Any) -> BaseException | None:
    """The error that doomed the transaction, if Django knows it."""
    return connection.rollback_exc if connection.needs_rollback else None
