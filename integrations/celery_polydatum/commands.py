"""Commands through Celery: a single task runs all of them."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic, sleep
from typing import Any

from celery import Celery
from celery.backends.base import DisabledBackend
from celery.exceptions import Ignore, Reject
from celery.result import AsyncResult
from celery.utils.time import maybe_iso8601, maybe_make_aware

from celery_polydatum.configuration import Configuration
from celery_polydatum.senders import current_sender, task_facts
from celery_polydatum.task import CeleryTask, PolydatumTask
from polydatum import Command, CommandQueue, CommandRejected, ConfigurationError
from polydatum.adapting import UserId, as_text, is_transient

RESULT_DUE = 2.0
"""Seconds after which the result of a command that an earlier delivery has already run is considered lost."""
_JSON = {"json", "application/json"}
_OWN_OPTIONS = {"args", "kwargs", "task_id", "serializer", "argsrepr", "kwargsrepr"}


class RunCommand(PolydatumTask):
    """The task ``polydatum.run_command``: runs a message's command in a context of its own, for the user it names.

    A message is checked before the context is opened. It is acknowledged after the task has ended, so that another
    worker gets it if this one dies: a command runs at least once, and with an inbox takes effect once.

    ``ctx.meta`` has ``command`` and ``message_id`` besides the facts of every task.
    """

    name = "polydatum.run_command"
    serializer = "json"  # for retries, too
    typing = False  # we check the arguments ourselves
    acks_late = True
    reject_on_worker_lost = True

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Send the task; hides the arguments from logs and monitors, also for retries."""
        return super().apply_async(*args, **{"argsrepr": "(...)", **options})

    def context_meta(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The facts of the task, and its command.

        Raises:
            CommandError: if the message is refused.
        """
        if len(args) != 1 or kwargs or type(args[0]) is not str:
            raise CommandRejected("the message must be text, and the task's only argument")
        received = self.polydatum_configuration.data_manager.dispatch.receive(args[0])
        return {**task_facts(self, received.message.user_id), **received.facts}

    def run(self, message: Any) -> Any:
        """Run the command, unless an inbox has already recorded it."""
        context = self.polydatum_configuration.data_manager.require_active_context()
        return context.meta.command.call() if self._is_new(context) else self._done_before()

    def _is_new(self, context: Any) -> bool:
        """Ask the inbox; if it cannot tell, because the same message is being handled, have this one redelivered.

        It is rejected, not retried, since a state stored for this delivery would replace the other one's result.
        """
        try:
            return context.data_manager.dispatch.is_new(context, context.meta.message_id)  # type: ignore[no-any-return]
        except Exception as error:
            if self.acks_late and not self.request.is_eager and is_transient(error, lock_timeouts=True):
                raise Reject(error, requeue=True) from error
            raise

    def _done_before(self) -> None:
        """Keep the stored result, or wait for it: the other delivery may have committed just now.

        If that result was lost with its worker, the caller gets None.
        """
        if not isinstance(self.backend, DisabledBackend) and not self.request.ignore_result:
            result: AsyncResult[Any] = self.AsyncResult(str(self.request.id))
            given_up = monotonic() + RESULT_DUE
            while not result.ready():
                if monotonic() > given_up:
                    return
                sleep(0.05)
        raise Ignore("done before")

    def check_configuration(self) -> None:
        """Refuse a worker that could not run commands, or would accept unsafe content.

        Raises:
            ConfigurationError: if no queue is registered, if its inbox is async or its resource is missing, or if
                content other than JSON is accepted.
        """
        super().check_configuration()
        manager = self.polydatum_configuration.data_manager
        in_async_table = getattr(manager.dispatch.inbox, "is_async", None)  # only inboxes in tables have it
        if in_async_table is not None and in_async_table(manager):
            raise ConfigurationError(
                f"{manager.dispatch.inbox!r} is async, which Celery's tasks cannot await; give workers a sync resource"
            )
        others = set(self.app.conf.accept_content) - _JSON
        if others:
            raise ConfigurationError(
                f"app.conf.accept_content has {', '.join(sorted(others))}: other content is decoded before the "
                "signature is checked; accept JSON alone, or run commands by workers of their own"
            )


class DeliverOutbox(CeleryTask):
    """The task ``polydatum.deliver_outbox``, for ``beat_schedule``: sends the outbox's due messages in batches.

    Returns how many messages were sent. Needs a sync resource; with an async one use ``polydatum outbox run``.
    """

    name = "polydatum.deliver_outbox"
    ignore_result = True

    def run(self, limit: int = 100) -> int:
        """Send batches of up to ``limit`` messages until none is due.

        Raises:
            ConfigurationError: if there is no outbox.
            Exception: any error of the database.
        """
        manager = Configuration.read(self.app).data_manager
        outbox = manager.dispatch.require_outbox()
        sent = 0
        while batch := outbox.deliver(manager, limit):
            sent += batch
        return sent


class CeleryQueue(CommandQueue):
    """Sends commands to the workers of a Celery app: ``dm.register_command_queue(CeleryQueue(app))``.

    Registers the tasks ``polydatum.run_command`` and ``polydatum.deliver_outbox`` with the app. Its DataManager is
    ``app.conf.polydatum_data_manager``. Another DataManager of the same app needs a queue with a task of its own,
    ``CeleryQueue(app, name="other.run_command", data_manager=other)``. The sender's user id is determined as in
    `PolydatumTask`. The id of a message is the id of its task.

    RabbitMQ is asked to confirm the app's messages, since one that is written to a connection which has just broken
    would be lost silently. A ``confirm_publish`` in ``app.conf.broker_transport_options`` takes precedence.

    Args:
        app: the app.
        task_options: attributes of ``polydatum.run_command``, such as ``autoretry_for=(...)``, ``acks_late=False``,
            ``time_limit=60``.

    Raises:
        ConfigurationError: if the app already has such a queue.

    Example:
        >>> from polydatum import DataAccessLayer, DataManager, Service, command
        >>> class Reports(Service):
        ...     @command
        ...     def rebuild(self, year):
        ...         return f"report of {year} by task {self._ctx.meta.task_id}"
        >>> class AppDAL(DataAccessLayer):
        ...     reports = Reports()
        >>> dm = DataManager(AppDAL)
        >>> app = Celery("shop", set_as_current=False)
        >>> app.conf.polydatum_data_manager = dm
        >>> app.conf.task_always_eager = True  # here and now, for this example
        >>> dm.register_command_queue(CeleryQueue(app))
        >>> command(dm.get_dal().reports.rebuild, 2026).send(id="first").get()
        'report of 2026 by task first'
    """

    def __init__(self, app: Celery[Any], **task_options: Any) -> None:
        self.app = app
        self._ask_to_confirm()
        task_class: Any = type("RunCommand", (RunCommand,), {"__module__": RunCommand.__module__, **task_options})
        if task_class.name in app.tasks:
            raise ConfigurationError(
                f"the app already has a task {task_class.name!r}: use one CeleryQueue per app, "
                "or name the task of another DataManager: CeleryQueue(app, name=..., data_manager=...)"
            )
        self._task: Any = app.register_task(task_class(), **task_options)
        if DeliverOutbox.name not in app.tasks:
            app.register_task(DeliverOutbox())

    def _ask_to_confirm(self) -> None:
        """Switch publisher confirms on, unless the user has configured them."""
        conf = self.app.conf
        if "confirm_publish" not in conf.broker_transport_options:
            conf.broker_transport_options = {"confirm_publish": True, **conf.broker_transport_options}

    def send(self, message: dict[str, Any], **options: Any) -> Any:
        """Send a message as a task.

        Args:
            message: the message.
            options: those of ``apply_async``: ``countdown``, ``queue``, ``priority``, ``expires``, ...

        Returns:
            The ``AsyncResult``.

        Raises:
            kombu.exceptions.OperationalError: if the broker cannot be reached.
        """
        self._ask_to_confirm()  # again: the app may have been configured after the queue was created
        path = message["path"]  # shown in logs and monitors, in place of the arguments
        # As text: Celery's JSON would convert some dicts in it, or fail, and the worker would then drop the message.
        return self._task.apply_async(
            (as_text(message),),
            task_id=message["id"],
            argsrepr=repr((path,)),
            **{"shadow": path, **options},
        )

    def check(self, command: Command[Any], options: Mapping[str, Any]) -> None:
        """Refuse a command that no worker could run.

        Raises:
            ConfigurationError: if the method is async, which Celery does not await, or if an option is set by the
                queue.
        """
        if command.is_async:
            raise ConfigurationError(f"{command.path} is an async method, which Celery does not await; send a sync one")
        taken = _OWN_OPTIONS & options.keys()
        if taken:
            raise ConfigurationError(
                f"CeleryQueue sets {', '.join(sorted(taken))} itself; the id of the task is the id= of the message"
            )

    def delay(self, options: Mapping[str, Any]) -> float:
        """The ``countdown``, or the time until ``eta``, which Celery treats as UTC if it has no time zone."""
        if options.get("countdown"):
            return float(options["countdown"])
        eta = maybe_iso8601(options.get("eta"))
        return 0 if eta is None else (maybe_make_aware(eta) - self.app.now()).total_seconds()

    def sender(self, data_manager: Any) -> UserId | None:
        """The sender's user id, as for every task, see `PolydatumTask`; but the app may have another DataManager."""
        return current_sender(self._task.polydatum_configuration, data_manager)
