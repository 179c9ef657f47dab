"""Reports the progress of a task, and ends a task that was revoked while running."""

from __future__ import annotations

import logging
from functools import partial
from time import monotonic
from typing import Any

from celery.exceptions import Ignore

logger = logging.getLogger("polydatum")

STATE = "PROGRESS"
"""The state of a task that reports progress; ``AsyncResult.info`` is then ``{"done": ..., "total": ...}``."""
INTERVAL = 0.5
"""Seconds between two writes to the result backend."""


class TaskProgress:
    """Receives ``ctx.progress(done, total)`` in a task.

    Writes it to the result backend, at limited intervals, as a command may report each of a million rows. Errors of the
    backend are logged, and do not disturb the work. A task that the worker was told to revoke ends here, since
    ``revoke(terminate=True)`` only reaches processes: its context rolls back, and its state is REVOKED.
    """

    def __init__(self, task: Any, run: Any) -> None:
        self._task = task
        self._run = run
        self._request = task.request
        self._due = 0.0

    def __call__(self, done: float, total: float | None) -> None:
        """Write the progress, or end the task.

        Raises:
            Ignore: if the task was revoked.
        """
        if self._is_revoked():
            self._run.instead = self._mark_as_revoked
            raise Ignore("revoked")
        now = monotonic()
        if not self._is_written or (now < self._due and done != total):
            return
        self._due = now + INTERVAL
        try:
            self._task.update_state(self._request.id, STATE, {"done": done, "total": total})
        except Exception:
            logger.warning("the progress of task %s was not written", self._task.name, exc_info=True)

    @property
    def _is_written(self) -> bool:
        """Whether progress is stored; not after the end, as a late thread must not overwrite the result."""
        request = self._request
        return not request.is_eager and not request.ignore_result and self._run.context.state == "open"

    def _is_revoked(self) -> bool:
        if self._request.is_eager:
            return False
        from celery.worker.state import revoked  # already loaded in workers, and not needed by senders

        return self._request.id in revoked

    def _mark_as_revoked(self) -> None:
        mark = partial(self._task.backend.mark_as_revoked, self._request.id, "revoked", request=self._request)
        mark(store_result=not self._request.ignore_result)
        raise Ignore("revoked")
