"""The relay: a long-running loop that sends the messages of an outbox."""

from __future__ import annotations

import asyncio
import queue
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from time import monotonic, time
from typing import Any

from polydatum.backends.outbox import Batch, Inbox, doubled, outbox_of
from polydatum.errors import ConfigurationError
from polydatum.reporting import log_error

PAUSE_FOR_OTHERS = 0.1
"""Pause after a batch that locked the whole database: waiting writers of SQLite poll about this often."""
LONGEST_PAUSE = 30.0
"""Longest pause if the database cannot be reached. The first one is the interval; each is twice the last one."""
PRUNED_EVERY = 3600.0
"""Seconds between two prunings of the inbox."""


class Relay:
    """Sends the messages of a DataManager's outbox: ``polydatum outbox run`` is this. Any number may run at once.

    If the resource of the outbox is async, the relay runs in an event loop of its own and closes the DataManager at the
    end. It also prunes the inbox once an hour, if that is an `Inbox`.

    Args:
        data_manager: the DataManager.
        batch: the maximum number of messages sent in one transaction.
        interval: seconds until the outbox is polled again after a batch that sent nothing.

    Raises:
        ConfigurationError: if the DataManager has no `Outbox`, or a number is out of range.
    """

    def __init__(self, data_manager: Any, *, batch: int = 100, interval: float = 1.0) -> None:
        if batch < 1 or not interval > 0:
            raise ConfigurationError("batch has to be 1 or more, and interval more than 0 seconds")
        self._data_manager = data_manager
        self._outbox = outbox_of(data_manager)
        self._batch = batch
        self._interval = interval
        # Reentrant, unlike an Event: a signal handler may put while the thread that it interrupts is in get().
        self._stops: queue.SimpleQueue[None] = queue.SimpleQueue()

    def stop(self) -> None:
        """Make `run` return after the current batch, if any. Safe to call in any thread and in a signal handler."""
        self._stops.put(None)

    def run(self) -> None:
        """Send due messages, and poll for more, until `stop` is called; in the main thread SIGTERM and SIGINT call it.

        No `Exception` ends the loop: if the database cannot be reached, or a table is missing, the error is logged and
        the next attempt follows after a pause that grows to half a minute.
        """
        failures, pruned = 0, float("-inf")
        with self._stopped_by_signals(), self._loop() as finished:
            while True:
                try:
                    batch = finished(self._try_batch(time()))
                except Exception as error:
                    pause = doubled(self._interval, failures, LONGEST_PAUSE)
                    failures += 1
                    log_error("the outbox cannot be reached; next attempt in %g seconds", pause, error=error)
                else:
                    failures = 0
                    pause = _pause_after(batch) if batch.sent else self._interval
                if monotonic() - pruned > PRUNED_EVERY:
                    pruned = monotonic()
                    try:
                        finished(self._prune())
                    except Exception as error:
                        log_error("the inbox cannot be pruned", error=error)
                if self._is_stopped(pause):
                    return

    def run_once(self) -> tuple[int, int]:
        """Try every message that is due now once, and return.

        Returns:
            How many messages were sent, and how many failed.

        Raises:
            Exception: any that `Outbox.deliver` raises.
        """
        sent = failed = 0
        now = time()
        with self._stopped_by_signals(), self._loop() as finished:
            while True:
                batch = finished(self._try_batch(now))
                sent += len(batch.sent)
                failed += len(batch.failed)
                if not (batch.sent or batch.failed) or self._is_stopped(_pause_after(batch)):
                    break
            finished(self._prune())
        return sent, failed

    def _try_batch(self, until: float) -> Any:
        outbox, manager = self._outbox, self._data_manager
        try_batch = outbox.atry_batch if outbox.is_async(manager) else outbox.try_batch
        return try_batch(manager, self._batch, until)

    def _prune(self) -> Any:
        inbox, manager = self._data_manager.dispatch.inbox, self._data_manager
        if isinstance(inbox, Inbox):
            return inbox.aprune(manager) if inbox.is_async(manager) else inbox.prune(manager)
        return None

    def _is_stopped(self, pause: float) -> bool:
        try:
            self._stops.get(timeout=pause)
        except queue.Empty:
            return False
        return True

    @contextmanager
    def _loop(self) -> Iterator[Callable[[Any], Any]]:
        """An event loop for async resources: yields a function that runs a coroutine, and returns any other value."""
        with asyncio.Runner() as runner:
            used = False

            def finished(result: Any) -> Any:
                nonlocal used
                if isinstance(result, Coroutine):
                    used = True
                    return runner.run(result)
                return result

            try:
                yield finished
            finally:
                if used:
                    runner.run(self._data_manager.aclose())

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {
            number: signal.signal(number, lambda *args: self.stop()) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def _pause_after(batch: Batch) -> float:
    return PAUSE_FOR_OTHERS if batch.locked_all else 0
