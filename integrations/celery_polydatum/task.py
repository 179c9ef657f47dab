"""The base class of tasks."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from celery import Celery, Task
from celery.exceptions import Ignore, Reject

from celery_polydatum import forking
from celery_polydatum.configuration import CheckConfiguration, Configuration
from celery_polydatum.running import ContextRun, current_run, send_retry
from celery_polydatum.senders import sent_by, task_facts, with_sender
from polydatum import DataManager, NoActiveContextError
from polydatum.adapting import AdapterMissingError

if TYPE_CHECKING:  # in some versions of Celery generic for type checkers only
    CeleryTask = Task[..., Any]
else:
    CeleryTask = Task


class PolydatumTask(CeleryTask):
    """Gives every run of a task a Context of its own, which ends before Celery sees the result.

    To use it for all tasks of an app, set ``app.Task = PolydatumTask`` before the first one is defined. For single
    tasks, use ``@app.task(base=PolydatumTask)`` or ``@shared_task(base=...)``, or derive a class from it. The
    DataManager is the task's attribute ``data_manager``, which ``@app.task(data_manager=dm)`` also sets, or else
    ``app.conf.polydatum_data_manager``; both may be a dotted path to it. A worker that finds none does not start.

    What happens to a task:

    * **It returns**: commits, then Celery stores the result and sends what follows (``link``, chains).
    * **The commit fails**: the task fails with that error, which ``autoretry_for`` may name; nothing follows.
    * **An exception escapes**, including ``SoftTimeLimitExceeded``: rolls back, and the task fails with it, even if a
      context middleware suppressed it (``rollback_on`` and ``ctx.commit_on_error()`` may decide otherwise).
    * **Retry, Ignore, Reject, replace()**: rolls back, then Celery proceeds as usual. The message of a retry or a
      replacement is sent after the context has ended.
    * **Called as a function**, ``task(1)``: takes part in the open context, or else gets one of its own.
    * **Eager**, by ``apply()`` or ``task_always_eager``: as in a worker; an outer context is not affected.

    ``ctx.meta`` has ``task_id``, ``task_name``, ``retries``, ``root_id``, ``parent_id``, ``user_id`` (the sender's),
    and ``user``, which the function named by ``app.conf.polydatum_load_user`` loads on first access.

    Attributes:
        data_manager: the DataManager or a dotted path to it.

    Example:
        >>> app = Celery("shop", set_as_current=False)
        >>> app.Task = PolydatumTask
        >>> app.conf.polydatum_data_manager = DataManager()
        >>> @app.task(bind=True, name="shop.which")
        ... def which(self):
        ...     return self.name
        >>> which.apply().get()
        'shop.which'
    """

    abstract = True
    data_manager: DataManager[Any, Any] | str | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        run = inspect.getattr_static(cls, "run")
        if run is not inspect.getattr_static(Task, "run") and not isinstance(run, ContextRun):
            cls.run = ContextRun(run)  # type: ignore[method-assign, assignment]

    @classmethod
    def on_bound(cls, app: Celery) -> None:
        """Make the app's workers check the configuration when they start, and its forked children connect anew."""
        super().on_bound(app)
        forking.apps.add(app)
        app.steps["worker"].add(CheckConfiguration)

    @cached_property
    def polydatum_configuration(self) -> Configuration:
        """Polydatum's configuration for this task, read on first use.

        Raises:
            ManagerNotFoundError: if no DataManager is named.
            InvalidManagerError: if what is named is not a DataManager.
            InvalidRuleError: if another setting is invalid.
        """
        return Configuration.read(self.app, self.data_manager)

    def context_meta(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The ``meta`` of a run's context. Override it to add facts; it is called with the task's arguments.

        If it raises, the task is not run, and fails with that exception.
        """
        return task_facts(self, sent_by(self.request))

    def check_configuration(self) -> None:
        """Called when a worker starts, which does not start if this raises.

        Raises:
            ConfigurationError: if the task could not run.
        """
        self.polydatum_configuration  # noqa: B018 - reads the configuration

    @property
    def dal(self) -> Any:
        """The DAL of the current context.

        Raises:
            AdapterMissingError: if there is none.
            ContextClosedError: if it has closed.
        """
        try:
            return self.polydatum_configuration.data_manager.require_active_context().dal
        except NoActiveContextError:
            raise AdapterMissingError(
                f"{self.name}.dal",
                "use it while the function of the task runs; before_start, on_success, on_failure and the like have no context: "
                "open one there, 'with dm.context():'; a thread that the task starts has none either, run polydatum.bind(fn) in "
                "it",
            ) from None

    def apply_async(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, *more: Any, **options: Any
    ) -> Any:
        """Send the task, as Celery does, with the user id of the current context."""
        options["headers"] = with_sender(options.get("headers"), self.polydatum_configuration)
        send = partial(super().apply_async, args, kwargs, task_id, *more, **options)
        if task_id is None or task_id != self.request.id or not options.get("retries"):
            return send()
        retry = partial(send_retry, self, send)
        run = current_run(self)
        if run is None:
            return retry()
        run.send_retry = retry
        return self.AsyncResult(task_id)

    def apply(self, *args: Any, **options: Any) -> Any:
        """Run the task immediately, as Celery does, in a context of its own, for the user of the current context."""
        options["headers"] = with_sender(options.get("headers"), self.polydatum_configuration)
        return super().apply(*args, **options)

    def retry(self, *args: Any, **options: Any) -> Any:
        """Retry the task, as Celery does. If the retry cannot be sent, the task fails; with late acks it is redelivered."""
        try:
            return super().retry(*args, **options)
        except Reject as reject:
            unsent: Any = reject.args[0]  # Celery would drop the message; some versions do not even update the state
        raise unsent

    def on_replace(self, sig: Any) -> Any:
        """Replace the task after its context has ended."""
        replace = partial(super().on_replace, sig)
        run = current_run(self)
        if run is None:
            return replace()
        run.instead = replace
        raise Ignore("Replaced by new task")

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """Send the task when the current context has committed; see `apply_async_on_commit`."""
        self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(
        self, args: tuple[Any, ...] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        """Send the task when the current context has committed, and not at all if it rolls back.

        Without a context the task is sent as Celery's ``DjangoTask`` does it: when the surrounding
        ``transaction.atomic()`` of Django's default database has committed, or at once if there is none. The message is
        lost if the process dies right after the commit, or if the broker cannot be reached then: the error is logged,
        and changes neither the outcome nor the answer.

        Args:
            args: positional arguments for the task.
            kwargs: keyword arguments for the task.
            options: those of `apply_async`.

        Raises:
            TypeError: if the arguments do not fit the task.
            ContextClosedError: if the current context has closed.
        """
        check_arguments = getattr(self, "__header__", None)
        if self.typing and check_arguments is not None:
            check_arguments(*(args or ()), **(kwargs or {}))
        options["headers"] = with_sender(options.get("headers"), self.polydatum_configuration)
        send = partial(self.apply_async, args, kwargs, **options)
        try:
            context = self.polydatum_configuration.data_manager.require_active_context()
        except NoActiveContextError:
            after_django_commit(send)
        else:
            context.on_commit(send)


def after_django_commit(send: Callable[[], Any]) -> None:
    """Send after the commit of Django's transaction on its default database; at once without a transaction or Django."""
    transaction: Any = sys.modules.get("django.db.transaction")
    if transaction is not None and sys.modules["django.conf"].settings.configured:
        connection = transaction.get_connection()
        # An unconnected connection is in no transaction, and `on_commit` would connect it.
        if connection.connection is not None or connection.in_atomic_block:
            transaction.on_commit(send)
            return
    send()
