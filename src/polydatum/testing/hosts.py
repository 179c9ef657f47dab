"""`Host`: how to call a view in a framework, which is all that the contract needs from an adapter."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from polydatum.manager import DataManager

View = Callable[[Any], "Reply"]
Handler = Callable[[Any, Exception], "Reply"]
CommitErrorHandler = Callable[[Any, Exception], "Reply | None"]


@dataclass
class Reply:
    """A view's answer, independent of any framework; a body that is not bytes is streamed."""

    status: int = 200
    body: bytes | Iterable[bytes] = b"done"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """One call of a view, and how to build the application for it.

    Attributes:
        view: the view, to be called with the framework's request, or its closest equivalent.
        manager: the DataManager to install the adapter with; None: without the adapter.
        log: where `Host.request` has to append ``start <status>`` when the answer starts.
        handlers: the application's own error handlers.
        installed: how many times to install the adapter.
        on_commit_error: the adapter's option of that name, or its equivalent.
    """

    view: View
    manager: DataManager[Any, Any] | None
    log: list[str] = field(default_factory=list)
    method: str = "GET"
    path: str = "/things/7"
    query: str = ""
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()
    body: bytes = b""
    handlers: Mapping[type[Exception], Handler] = field(default_factory=dict)
    installed: int = 1
    on_commit_error: CommitErrorHandler | None = None

    @property
    def header_pairs(self) -> list[tuple[str, str]]:
        """The headers as names and values."""
        return [*(self.headers.items() if isinstance(self.headers, Mapping) else self.headers)]


@dataclass
class Answer:
    """What went over the wire, and what was reported to the developers.

    Attributes:
        raised: the exception that reached the server.
        logged: the exceptions that were logged.
    """

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    raised: BaseException | None = None
    logged: list[BaseException] = field(default_factory=list)

    @property
    def reported(self) -> list[BaseException]:
        """The exceptions that were logged or reached the server, which logs them; with their causes."""
        found: list[BaseException] = []
        for error in (*self.logged, self.raised):
            cause = error
            while cause is not None:
                found.append(cause)
                cause = cause.__cause__
        return found

    def header(self, name: str) -> str | None:
        """The value of a header, or None."""
        return dict(self.headers).get(name.lower())


class Host(ABC):
    """A framework with the adapter installed: knows how to call a view in it.

    Attributes:
        name: the name of the host, for messages.
        adapter: the module of ``stream_context``, which is named in errors about late use.
        fix: what the error for a missing adapter has to mention.
        abort_statuses: the statuses that a view can raise with the framework's own exceptions; see `abort`.
        absent: the features that the framework lacks, each with the reason that skipped tests show: ``"handlers"``:
            error handlers; ``"causes"``: raised errors can be distinguished from returned ones; ``"forms"``: parsed
            synchronously; ``"request"``: request objects with a ``dal``; ``"exits"``: a view's SystemExit reaches the
            server; ``"nesting"``: a request made by a view; ``"twice"``: the adapter can be installed twice;
            ``"on_commit_error"``: an option for the answer to a failed commit.
    """

    name: str
    adapter: str
    fix: str
    abort_statuses: tuple[int, ...] = ()
    absent: Mapping[str, str] = {}

    def abort(self, status: int) -> BaseException:
        """The framework's own exception for one of the ``abort_statuses``."""
        raise NotImplementedError

    @abstractmethod
    def application(self, call: Call) -> Any:
        """An application with the adapter that serves the call's view for GET, POST and HEAD of ``/things/{id}``."""

    @abstractmethod
    def request(self, app: Any, call: Call) -> Answer:
        """Make one request to the application, as a server would."""

    def call(self, call: Call) -> Answer:
        """Build the application, and make one request."""
        return self.observed(self.application(call), call)

    def observed(self, app: Any, call: Call) -> Answer:
        """Make one request, and record the exceptions logged meanwhile."""
        with logged_exceptions() as logged:
            answer = self.request(app, call)
        answer.logged = logged
        return answer

    def together(self, app: Any, calls: Sequence[Call]) -> list[Answer]:
        """Make several requests at once, by default each in a thread."""
        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(lambda call: self.request(app, call), calls))


@contextmanager
def logged_exceptions() -> Iterator[list[BaseException]]:
    """The exceptions that are logged in a block, by any logger."""
    found: list[BaseException] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1] is not None:
                found.append(record.exc_info[1])

    collector = Collector()
    logging.getLogger().addHandler(collector)
    try:
        yield found
    finally:
        logging.getLogger().removeHandler(collector)
