"""Running something in a forked child."""

from __future__ import annotations

import os
from collections.abc import Callable


def fork(work: Callable[[], None]) -> Callable[[], int]:
    """Do some work in a forked child; gives what waits for its end and returns its exit code, 0 unless the work raised."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
