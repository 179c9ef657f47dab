"""All DataManagers of the process, which are told when it has forked, and when it exits."""

from __future__ import annotations

import atexit
import os
from typing import Any
from weakref import WeakSet

managers: WeakSet[Any] = WeakSet()
"""DataManagers add themselves."""


def _after_fork_in_child() -> None:
    for manager in list(managers):
        manager._after_fork()


def close_at_exit() -> None:
    """Close what the managers have open in the app scope, when the interpreter exits."""
    for manager in list(managers):
        manager._app.close_at_exit()


os.register_at_fork(after_in_child=_after_fork_in_child)
# Under WSGI an application is not told that it ends; a pool that is left open can delay the exit of its process.
atexit.register(close_at_exit)
