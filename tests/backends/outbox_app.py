"""An application whose queue is a file: ``dm``, as the environment says; run as a program, it is a relay.

``OUTBOX_URL``: of the database. ``OUTBOX_TABLE``: the beginning of the names of the tables. ``OUTBOX_JOURNAL``: the file. ``OUTBOX_DIE``: the number
of messages after which the process is killed, before it can commit.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from polydatum import CommandQueue, DataAccessLayer, DataManager, NotFound, Service, command
from polydatum.backends.outbox import Inbox, Outbox
from polydatum.backends.outbox_relay import Relay
from polydatum.backends.sqlalchemy import AsyncSQLAlchemyBackend, SQLAlchemyBackend
from tests.journals import whole_lines


class Mails(Service[Any]):
    @command
    def send(self, to: str) -> str:
        return f"sent to {to}"

    @command
    def count(self, to: int, *, slowly: bool = False) -> dict[str, Any]:
        """Count to a number."""
        for done in range(to + 1):
            self._ctx.progress(done, None if slowly else to)
        return {"counted": to, "slowly": slowly}

    @command
    async def asend(self, to: str) -> str:
        return f"sent to {to}, asynchronously"

    @command
    def fail(self, how: str) -> None:
        if how == "plainly":
            raise ValueError("no such mailbox")
        raise NotFound("no such mailbox")


class AppDAL(DataAccessLayer):
    mails = Mails()


class Journal(CommandQueue):
    """Appends each message and the process that has sent it, in a line, as one write."""

    def __init__(self, path: str, dies_after: int | None) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._left = dies_after

    def send(self, message: dict[str, Any], **options: Any) -> None:
        os.write(self._file, f"{os.getpid()} {json.dumps([message, options])}\n".encode())
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def read(journal: Path) -> list[tuple[int, dict[str, Any], dict[str, Any]]]:
    """What a journal has: process, message, options."""
    lines = (line.split(" ", 1) for line in whole_lines(journal))
    return [(int(process), *json.loads(sent)) for process, sent in lines]


dm = DataManager(AppDAL)
if "OUTBOX_URL" in os.environ:
    url = make_url(os.environ["OUTBOX_URL"])
    backend: Any = AsyncSQLAlchemyBackend if url.get_dialect().is_async else SQLAlchemyBackend
    dm.register_resources(db=backend(url))
    dies_after = os.environ.get("OUTBOX_DIE")
    dm.register_command_queue(
        Journal(os.environ["OUTBOX_JOURNAL"], int(dies_after) if dies_after else None),
        outbox=Outbox("db", table=f"{os.environ['OUTBOX_TABLE']}_outbox"),
        inbox=Inbox("db", table=f"{os.environ['OUTBOX_TABLE']}_inbox"),
    )

if __name__ == "__main__":
    relay = Relay(dm, batch=10)
    print("ready", flush=True)
    sys.stdin.readline()
    print(*relay.run_once())
