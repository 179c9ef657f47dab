"""What happens in a server, told to the test in a file: a line for each event.

All files are in the folder that the environment variable BANK_FOLDER names. Every request carries a ``key`` in its query,
by which the test finds the lines of that request.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(os.environ["BANK_FOLDER"])
_journal = os.open(FOLDER / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def write(event: str, key: str = "-", number: str = "-") -> None:
    """Add a line in one write, so that the lines of many processes and threads never mix."""
    os.write(_journal, f"{event} {key} {number} {os.getpid()}\n".encode())
