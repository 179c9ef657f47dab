"""All DataManagers of the process, and what each of them has to be told: that it was forked, and that it ends."""

from __future__ import annotations

import atexit
import os
from typing import Any
from weakref import WeakSet

managers: WeakSet[Any] = WeakSet()
"""They register themselves here."""


def _after_fork_in_child() -> None:
    for manager in list(managers):
        manager._after_fork()


def close_at_exit() -> None:
    """Close what the managers have open for the application, when the interpreter ends."""
    for manager in list(managers):
        manager._app.close_at_exit()


os.register_at_fork(after_in_child=_after_fork_in_child)
# Under WSGI nobody tells an application that it ends; a pool that is left open can hold up the end of its process.
atexit.register(close_at_exit)
