"""What every adapter would write again: for the authors of adapters, ours and yours.

Nothing here knows a framework. An adapter finds its `DataManager` with `find_manager`, describes the request to ``ctx.meta``
with a `RequestFacts`, puts a `RequestDal` on the framework's request class, answers a `ServiceError` with `answer_for`,
and keeps a streamed body outside of the context with `StreamedBody`. What it owes its users beyond that:

* one context per request, closed before the first byte of the answer, with the final status and, if one escaped or the
  framework made it a status of 400 or more, the exception;
* what `Context.close` raises is the answer: the response is dropped, the framework shows its 500 page;
* the exception that escaped is raised again, suppressed by a context middleware or not, unless it is answered.
"""

from __future__ import annotations

import http
import importlib
import json
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Generic, NamedTuple, Self, TypeVar, overload

from .context import Context
from .errors import ConfigurationError, ContextClosedError, NoActiveContextError, ServiceError, shown
from .manager import DataManager
from .meta import lazy

RequestT = TypeVar("RequestT")

# --- Finding the DataManager ------------------------------------------------------------------------------------------


class ManagerNotFoundError(ConfigurationError):
    """An adapter found no DataManager, or could not import it.

    Attributes:
        places: where it looked, in the words of the user's code.
    """

    def __init__(self, places: Iterable[str], problem: str = "") -> None:
        self.places = tuple(places)
        super().__init__(
            f"{self.places[0]}: {problem}"
            if problem
            else f"no DataManager found; set one of these: {', '.join(self.places)}"
        )


class InvalidManagerError(ConfigurationError):
    """What an adapter found where the DataManager should be is something else."""

    def __init__(self, place: str, found: object) -> None:
        self.place = place
        kind = f"the class {found.__name__}" if isinstance(found, type) else f"an object of {type(found).__name__}"
        super().__init__(f"{place}: a DataManager, or a dotted path to one, is needed, not {kind}")


def find_manager(*places: tuple[str, object]) -> DataManager[Any, Any]:
    """The DataManager in the first place that holds anything: itself, or a dotted path such as ``"shop.data.dm"``.

    To be called when the application starts, so that a mistake shows then and not at the first request.

    Args:
        places: pairs of a place, in the words of the user's code, and what was found there; None for nothing.

    Raises:
        ManagerNotFoundError: if all places are empty, or the path leads nowhere.
        InvalidManagerError: if it is no DataManager.

    Example:
        >>> find_manager(("MyAdapter(data_manager=...)", None), ("config['DATA_MANAGER']", DataManager()))
        <DataManager of <DynamicDAL >, 0 resources>
    """
    for place, found in places:
        if found is None:
            continue
        manager = _imported(place, found) if isinstance(found, str) else found
        if not isinstance(manager, DataManager):
            raise InvalidManagerError(place, manager)
        return manager
    raise ManagerNotFoundError([place for place, _ in places])


def _imported(place: str, path: str) -> object:
    module_name, _, attribute = path.replace(":", ".").rpartition(".")
    if not module_name:
        raise ManagerNotFoundError([place], f"{shown(path)} is no dotted path such as 'shop.data.dm'")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise ManagerNotFoundError([place], f"cannot import {shown(path)}: {error}") from error
    except AttributeError as error:
        raise ManagerNotFoundError([place], f"module {shown(module_name)} has no {shown(attribute)}") from error


# --- request.dal ------------------------------------------------------------------------------------------------------


class AdapterMissingError(NoActiveContextError):
    """``request.dal`` was asked for in a request that no adapter has given a context."""

    def __init__(self, wanted: str, fix: str) -> None:
        super().__init__(wanted)
        self.fix = fix
        self.args = (f"no context for {wanted}: {fix}",)


class RequestDal:
    """``request.dal``: the DAL while the request's context lives, and an error that says what to do otherwise.

    Goes on the framework's request class, see `put_on`. A value that somebody assigns to ``request.dal`` wins.

    Args:
        find: the context of a request, or None if it was given none.
        fix: how to install the adapter.
        stream: how to get at data while a body is streamed.
    """

    def __init__(self, find: Callable[[Any], Context | None], *, fix: str, stream: str) -> None:
        self._find = find
        self._fix = fix
        self._stream = stream

    @overload
    def __get__(self, request: None, owner: type) -> Self: ...
    @overload
    def __get__(self, request: object, owner: type) -> Any: ...
    def __get__(self, request: object, owner: type) -> Any:
        if request is None:
            return self
        context = self._find(request)
        if context is None:
            raise AdapterMissingError("request.dal", self._fix)
        outcome = context.outcome
        if outcome is not None:
            raise ContextClosedError("request.dal", outcome=outcome, status=outcome.http_status, hint=self._stream)
        return context.dal

    def put_on(self, request_class: type) -> None:
        """Make it the ``dal`` of a class of requests, once; a ``dal`` of somebody else's stays, with a warning."""
        present = getattr(request_class, "dal", None)
        if present is None:
            request_class.dal = self  # type: ignore[attr-defined]
        elif not isinstance(present, RequestDal):
            warnings.warn(
                f"{request_class.__qualname__} has an attribute 'dal' that is not Polydatum's; request.dal stays what it was",
                stacklevel=2,
            )


# --- ctx.meta ---------------------------------------------------------------------------------------------------------


class RequestFacts(Mapping[str, Any], Generic[RequestT]):
    """The ``meta`` of a request's context: ``request``, ``user`` and ``params``, each looked up when it is read.

    A subclass says where the framework keeps them. Pass it to ``dm.context(meta=...)``, and call `end` when the request
    is over: facts that nobody has read by then are gone, and with them a reference cycle between request and context.
    """

    __slots__ = ("_request",)

    def __init__(self, request: RequestT) -> None:
        self._request: RequestT | None = request

    def find_request(self, request: RequestT) -> object:
        """What ``meta.request`` shows."""
        return request

    def find_user(self, request: RequestT) -> object:
        """The user as the framework's own authentication knows them, or None; never taken from a header."""
        return None

    @abstractmethod
    def find_params(self, request: RequestT) -> Iterable[tuple[str, object]]:
        """Query, form fields, path parameters, in this order."""

    def is_routed(self, request: RequestT) -> bool:
        """Whether the path parameters are known."""
        return True

    def end(self) -> None:
        """Let go of the request."""
        self._request = None

    def request_for(self, wanted: str) -> RequestT:
        """The request.

        Raises:
            ContextClosedError: if it is over.
        """
        if self._request is None:
            raise ContextClosedError(f"meta.{wanted}", hint="read it before the request is over")
        return self._request

    def _look_up(self, key: str) -> object:
        request = self.request_for(key)
        return self.find_user(request) if key == "user" else self.find_request(request)

    def __getitem__(self, key: str) -> Any:
        if key == "params":
            return Params(self)
        if key in {"request", "user"}:
            return lazy(partial(self._look_up, key))
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(("request", "user", "params"))

    def __len__(self) -> int:
        return 3


class Params(Mapping[str, Any]):
    """The parameters of a request, read-only: query, form fields where the framework has parsed them, and path.

    ``params["page"]`` is the last value of a key, so that a path parameter cannot be overruled by a query of the same
    name; ``params.getlist("tag")`` has all of them.
    """

    __slots__ = ("_facts", "_values")

    def __init__(self, facts: RequestFacts[Any]) -> None:
        self._facts: RequestFacts[Any] | None = facts
        self._values: dict[str, list[Any]] = {}

    def _read(self) -> dict[str, list[Any]]:
        facts = self._facts
        if facts is None:
            return self._values
        request = facts.request_for("params")
        values: dict[str, list[Any]] = {}
        for key, value in facts.find_params(request):
            values.setdefault(key, []).append(value)
        if facts.is_routed(request):
            self._values = values
            self._facts = None
        return values

    def getlist(self, key: str) -> list[Any]:
        """All values of a key, in order: those of the query, of the form, of the path; empty if there are none."""
        return list(self._read().get(key, ()))

    def __getitem__(self, key: str) -> Any:
        return self._read()[key][-1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return f"<Params {', '.join(self._read())}>"  # keys only: values may be secret


# --- Answering a ServiceError -----------------------------------------------------------------------------------------


class ServiceAnswer(NamedTuple):
    """A ServiceError as an HTTP answer: ``{"detail": "..."}`` or the bare text."""

    status: int
    headers: dict[str, str]
    body: bytes


def answer_for(error: BaseException, accept: str | None = None) -> ServiceAnswer | None:
    """The answer to an exception, if it is a `ServiceError` with ``400 <= code < 500``; None for every other.

    Args:
        error: what left the view, or the context.
        accept: the request's Accept header. JSON is the answer unless it prefers text.

    Example:
        >>> from polydatum import NotFound
        >>> answer_for(NotFound("item 1"), "application/json").body
        b'{"detail": "item 1"}'
    """
    if not isinstance(error, ServiceError):
        return None
    status: object = error.code  # users set it
    if not isinstance(status, int) or not 400 <= status < 500:
        return None
    detail = str(error) or _phrase(status)
    headers = {"Content-Type": "text/plain; charset=utf-8", "Vary": "Accept"}
    if prefers_json(accept):
        headers["Content-Type"] = "application/json"
        detail = json.dumps({"detail": detail})
    return ServiceAnswer(int(status), headers, detail.encode("utf-8", "replace"))


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "error"


def prefers_json(accept: str | None) -> bool:
    """Whether a client would rather have JSON than text; in doubt it would.

    Example:
        >>> prefers_json("*/*"), prefers_json("text/html, */*;q=0.8"), prefers_json("text/*;q=0.5, application/json")
        (True, False, True)
    """
    if not accept:
        return True
    qualities: dict[str, float] = {}
    for part in accept.lower().split(","):
        media_type, *options = (piece.strip() for piece in part.split(";"))
        quality = _quality(options)
        kind = "json" if media_type.endswith(("/json", "+json", "application/*")) else media_type.partition("/")[0]
        qualities[kind] = max(quality, qualities.get(kind, 0.0))
    otherwise = qualities.get("*", 0.0)
    return qualities.get("json", otherwise) >= qualities.get("text", otherwise)


def _quality(options: Iterable[str]) -> float:
    for option in options:
        if option.startswith("q="):
            try:
                return float(option[2:])
            except ValueError:
                return 0.0
    return 1.0


# --- Streamed bodies --------------------------------------------------------------------------------------------------


class StreamedBody:
    """The body of a streamed answer: runs with the request's closed context current, and leaves that at its end.

    So that what the body does with a DAL it was handed raises `ContextClosedError`, and never reaches an outer context.
    The context has to be closed with ``keep_current=True``.
    """

    def __init__(self, body: Iterable[Any], context: Context) -> None:
        self._body = body
        self._iterator = iter(body)
        self._context = context

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._iterator)
        except BaseException:
            self._context.leave()
            raise

    def close(self) -> None:
        """Close the body, if it can be closed; the server calls this however the answer ends."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._context.leave()
