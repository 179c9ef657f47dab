"""The context around ``run``.

``run`` is what Celery retries (``autoretry_for``) and whose end decides the state, the result and what follows: all of
that comes after the commit. Signals are no place for it: Celery logs what their receivers raise, and ``task_postrun``
comes when the result is stored.
"""

from __future__ import annotations

import functools
import logging
import sys
import traceback
from collections.abc import Callable
from typing import Any

from celery.exceptions import Reject, Retry

from celery_polydatum.progress import TaskProgress
from polydatum import Context

logger = logging.getLogger("polydatum")

_RUN = "polydatum_run"
"""The attribute of a task's request that holds its `TaskRun`, while the context is there."""


class ContextRun:
    """Takes the place of ``run`` on a class of tasks; calls what was there in a context.

    A descriptor, so that ``task.run`` has the signature and the name of what it calls.
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
        return run(*args, **kwargs)  # by super().run()
    task_run = TaskRun(configuration.new_context(task.context_meta(*args, **kwargs)))
    if request.called_directly:  # maybe with a request that all threads share
        return task_run(run, args, kwargs)
    task_run.context.on_progress(TaskProgress(task, task_run))
    setattr(request, _RUN, task_run)
    try:
        return task_run(run, args, kwargs)
    finally:
        delattr(request, _RUN)


def current_run(task: Any) -> TaskRun | None:
    """What a task runs in, if its context is open."""
    task_run: TaskRun | None = vars(task.request).get(_RUN)
    return task_run if task_run is not None and task_run.context.state == "open" else None


def send_retry(task: Any, send: Callable[[], object]) -> object:
    """Send the message of a retry, once the result backend says RETRY.

    Celery stores that afterwards: in the place of the result, if another worker has come to the end by then. With a delay of
    zero, which ``retry_backoff`` gives at times, whoever waits for the task would wait for ever.
    """
    error = sys.exception()
    if error is None or task.ignore_result or task.request.ignore_result:
        return send()
    reason = error.exc if isinstance(error, Retry) else error
    try:
        task.backend.mark_as_retry(task.request.id, reason, traceback.format_exc(), request=task.request)
    except Exception:
        logger.warning("Task %s: RETRY could not be stored before the retry is sent", task.request.id, exc_info=True)
        return send()  # and Celery tries to store it
    sent = send()
    task.request.ignore_result = True  # of this attempt, from here on
    return sent


class TaskRun:
    """One attempt of one task.

    Celery sends a retry, or a task's replacement, from inside of the task. If another worker began with it before this one
    has rolled back, it would find rows that are about to go, and wait for locks. So what goes on is kept until the context
    has ended, and is dropped if that fails: the task is then a failure for good.

    Attributes:
        context: its context.
        send_retry: sends the message of a retry.
        instead: what takes the place of the task's end. Sends the replacement, and raises what Celery raises then, or runs
            it in eager mode; or marks the task as revoked.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.send_retry: Callable[[], object] | None = None
        self.instead: Callable[[], object] | None = None

    def __call__(self, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call ``run``, and commit before its result is seen by anybody; roll back whatever it raises.

        Raises:
            BaseException: what ``run`` raised, suppressed by a context middleware or not; what the end of the context
                raised in its place; what a context middleware raised on entry.
        """
        context = self.context
        # A soft time limit may strike between any two of these steps.
        try:
            context.open()
            result = run(*args, **kwargs)
            context.close()
        except BaseException as error:
            if context.state != "open":  # it did not open, or its commit failed
                raise
            context.close(error)
            self._send_retry()
            if self.instead is not None:
                return self.instead()
            raise
        self._send_retry()
        return result

    def _send_retry(self) -> None:
        if self.send_retry is not None:
            try:
                self.send_retry()
            except Exception as error:
                raise Reject(error, requeue=False) from error  # as Task.retry does
