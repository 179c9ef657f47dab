"""How a view is called in a framework: all that an adapter has to say to be held to the contract."""

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
    """What a view answers, in no framework's words; a body that is no bytes is to be streamed."""

    status: int = 200
    body: bytes | Iterable[bytes] = b"done"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """One call of a view, and the application it is made of.

    Attributes:
        view: to be called with the framework's request, or what comes nearest to one.
        manager: the DataManager to install the adapter with; None: without the adapter.
        log: where `request` has to note ``start <status>`` when the answer starts.
        handlers: error handlers of the application's own.
        installed: how many times to install the adapter.
        on_commit_error: the adapter's option of that name, or what goes by another name there.
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
    """What went over the wire, and what the developers are told.

    Attributes:
        raised: what reached the server.
        logged: the exceptions that were logged.
    """

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    raised: BaseException | None = None
    logged: list[BaseException] = field(default_factory=list)

    @property
    def reported(self) -> list[BaseException]:
        """The exceptions that reached a log, or the server, which logs them; with those that caused them."""
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
    """A framework with the adapter installed: says how a view is called in it.

    Attributes:
        name: for messages.
        adapter: the module that ``stream_context`` is in; errors of late use name it.
        fix: what the error for a missing adapter has to name.
        abort_statuses: the statuses that a view can raise with the framework's own exceptions, see `abort`.
        absent: what the framework does not have, with the reason, which the skipped tests tell: ``"handlers"`` for its
            exceptions, ``"causes"``: raised errors that can be told from returned ones, ``"forms"`` parsed
            synchronously, ``"request"`` objects with a ``dal``, ``"exits"``: a SystemExit of the view that reaches the server, ``"nesting"``: a request made by a view, ``"twice"``: to be installed twice,
            ``"on_commit_error"``: an option for the answer to a commit that failed.
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
        """An application with the adapter, that answers GET, POST and HEAD of ``/things/{id}`` with the view of a call."""

    @abstractmethod
    def request(self, app: Any, call: Call) -> Answer:
        """One request to it, as a server would make it."""

    def call(self, call: Call) -> Answer:
        """Make the application, and one request."""
        return self.observed(self.application(call), call)

    def observed(self, app: Any, call: Call) -> Answer:
        """One request, and what was logged meanwhile."""
        with logged_exceptions() as logged:
            answer = self.request(app, call)
        answer.logged = logged
        return answer

    def together(self, app: Any, calls: Sequence[Call]) -> list[Answer]:
        """Several requests at once; here each in a thread."""
        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(lambda call: self.request(app, call), calls))


@contextmanager
def logged_exceptions() -> Iterator[list[BaseException]]:
    """The exceptions that are logged in a block, through whichever logger."""
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
