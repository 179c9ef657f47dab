"""The context around ``run``.

Celery retries ``run`` (``autoretry_for``), and its end decides the state, the result and what follows; so all of that
comes after the commit. Signals would not do: Celery only logs their receivers' errors, and ``task_postrun`` is sent
after the result was stored.
"""

from __future__ import annotations

import functools
import logging
import sys
import traceback
from collections.abc import Callable
from typing import Any

from celery.exceptions import Reject, Retry
from kombu.exceptions import OperationalError

from celery_polydatum.progress import TaskProgress
from polydatum import Context

logger = logging.getLogger("polydatum")

_RUN = "polydatum_run"
"""The attribute of a task's request that holds its `TaskRun` during the run."""


class ContextRun:
    """Replaces ``run`` on a task class; calls the original in a context.

    A descriptor, so that ``task.run`` has the signature and the name of the original.
    """

    def __init__(self, run: Any) -> None:
        self._run = run

    def __get__(self, task: Any, owner: type | None = None) -> Any:
        run = self._run.__get__(task, owner) if hasattr(self._run, "__get__") else self._run
        if task is None:
            return run

        @functools.wraps(run)
        def run_in_context(*args: Any, **kwargs: Any) -> Any:
            return _call(task, run, args, kwargs)

        return run_in_context


def _call(task: Any, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    configuration = task.polydatum_configuration
    request = task.request
    if request.called_directly:
        if configuration.data_manager.get_active_context() is not None:
            return run(*args, **kwargs)
    elif current_run(task) is not None:
        return run(*args, **kwargs)  # called by super().run()
    task_run = TaskRun(configuration.new_context(task.context_meta(*args, **kwargs)))
    if request.called_directly:  # all threads may share the request, so nothing is stored on it
        return task_run(run, args, kwargs)
    task_run.context.on_progress(TaskProgress(task, task_run))
    setattr(request, _RUN, task_run)
    try:
        return task_run(run, args, kwargs)
    finally:
        delattr(request, _RUN)


def current_run(task: Any) -> TaskRun | None:
    """The current attempt of a task, if its context is open."""
    task_run: TaskRun | None = vars(task.request).get(_RUN)
    return task_run if task_run is not None and task_run.context.state == "open" else None


def send_retry(task: Any, send: Callable[[], object]) -> object:
    """Send the message of a retry after storing the state RETRY.

    Celery stores it afterwards, and would overwrite the result if another worker has finished the retry by then. With a
    delay of zero, which ``retry_backoff`` sometimes yields, the caller would wait for the result forever.

    Raises:
        Reject: if the broker cannot be reached and will deliver this attempt's message again, as the task acks late.
        Exception: any other error of sending: nothing retries the task, so it fails.
    """
    try:
        return _store_and_send(task, send)
    except OperationalError as error:
        if task.acks_late:
            raise Reject(error, requeue=True) from error
        raise


def _store_and_send(task: Any, send: Callable[[], object]) -> object:
    error = sys.exception()
    if error is None or task.ignore_result or task.request.ignore_result:
        return send()
    reason = error.exc if isinstance(error, Retry) else error
    try:
        task.backend.mark_as_retry(task.request.id, reason, traceback.format_exc(), request=task.request)
    except Exception:
        logger.warning("Task %s: RETRY could not be stored before the retry is sent", task.request.id, exc_info=True)
        return send()  # Celery tries to store it afterwards
    sent = send()
    task.request.ignore_result = True  # so that Celery stores nothing more for this attempt
    return sent


class TaskRun:
    """One attempt of a task.

    Celery sends a retry, or a task's replacement, while the task is still running. If another worker started it before
    this one has rolled back, it would see rows that are about to vanish, and wait for locks. So sending is deferred
    until the context has ended, and dropped if that fails: the task has then finally failed.

    Attributes:
        context: the context of the attempt.
        send_retry: sends the message of a retry.
        instead: called in place of the task's normal end. Sends the replacement and raises what Celery raises for it,
            or runs it in eager mode; or marks the task as revoked.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.send_retry: Callable[[], object] | None = None
        self.instead: Callable[[], object] | None = None

    def __call__(self, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call ``run``, and commit before anybody sees its result; roll back if it raises.

        Raises:
            BaseException: the exception of ``run``, even if a context middleware suppressed it; one that the end of the
                context raised instead; or one that a context middleware raised on entry.
        """
        context = self.context
        # A soft time limit may raise between any two of these steps.
        try:
            context.open()
            result = run(*args, **kwargs)
            context.close()
        except BaseException as error:
            if context.state != "open":  # opening it failed, or its commit
                raise
            context.close(error)
            if self.send_retry is not None:
                self.send_retry()
            if self.instead is not None:
                return self.instead()
            raise
        if self.send_retry is not None:
            self.send_retry()
        return result
