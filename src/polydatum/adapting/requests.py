"""``request.dal`` and ``ctx.meta``: what a request shows of its context, and a context of its request."""

from __future__ import annotations

import re
import uuid
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from functools import partial
from typing import Any, Generic, Self, TypeVar, overload

from polydatum.context import Context
from polydatum.errors import ContextClosedError, NoActiveContextError
from polydatum.manager import DataManager
from polydatum.meta import LazyFacts, lazy
from polydatum.opening import CLOSED

RequestT = TypeVar("RequestT")


class AdapterMissingError(NoActiveContextError):
    """``request.dal`` was used in a request that no adapter has given a context."""

    def __init__(self, wanted: str, fix: str) -> None:
        super().__init__(wanted)
        self.args = (wanted, fix)
        self.fix = fix

    def __str__(self) -> str:
        return f"no context for {self.wanted}: {self.fix}"


class RequestDal(Generic[RequestT]):
    """``request.dal``, and what else depends on how the requests of one framework carry their context.

    It goes on the framework's request class, see `put_on`: reading it gives the DAL while the request's context lives,
    and otherwise raises an error that says what to do. A value assigned to ``request.dal`` wins.

    Args:
        find: returns the context of a request, or None if it has none; or the name of the attribute that holds the
            context, which is faster.
        keep: lets a request carry a context.
        facts: returns the ``meta`` of a request's context.
        fix: how to install the adapter.
        stream: how to access data while a body is streamed.
    """

    def __init__(
        self,
        find: Callable[[Any], Context | None] | str,
        keep: Callable[[Any, Context], None],
        facts: Callable[[Any], RequestFacts[RequestT]],
        *,
        fix: str,
        stream: str,
    ) -> None:
        self._attribute = find if isinstance(find, str) else None
        self._find = (lambda request: getattr(request, find, None)) if isinstance(find, str) else find
        self._keep = keep
        self._facts = facts
        self._fix = fix
        self._stream = stream

    @overload
    def __get__(self, request: None, owner: type) -> Self: ...
    @overload
    def __get__(self, request: object, owner: type) -> Any: ...
    def __get__(self, request: object, owner: type) -> Any:
        if request is None:
            return self
        attribute = self._attribute
        context = self._find(request) if attribute is None else getattr(request, attribute, None)
        if context is None:
            raise AdapterMissingError("request.dal", self._fix)
        if context._state is CLOSED:  # not by the property `outcome`: every DAL call of a view comes through here
            outcome = context._outcome
            raise ContextClosedError(
                "request.dal", outcome=outcome, status=outcome.http_status, hint=context._late_hint or self._stream
            )
        return context.dal

    def put_on(self, request_class: type) -> None:
        """Make it the ``dal`` of a request class, once; a ``dal`` that is not Polydatum's stays, with a warning."""
        present = getattr(request_class, "dal", None)
        if present is None:
            request_class.dal = self  # type: ignore[attr-defined]
        elif not isinstance(present, RequestDal):
            warnings.warn(
                f"{request_class.__qualname__} has an attribute 'dal' that is not Polydatum's; request.dal is left unchanged",
                stacklevel=2,
            )

    def attach(self, request: Any, manager: DataManager[Any, Any]) -> Context:
        """A new context for a request that goes through no adapter, such as one made in a test."""
        context: Context = manager.context(self._facts(request))
        self._keep(request, context)
        return context

    def stream_context(self, request: Any) -> Context:
        """A new context with the ``meta`` and rules of a request whose own has ended, or will before its body runs.

        Raises:
            AdapterMissingError: if the request has no context.
        """
        context = self._find(request)
        if context is None:
            raise AdapterMissingError("stream_context(request)", self._fix)
        of_body: Context = context.data_manager.context(
            self._facts(request), rollback_on=context._rollback_on, teardown_timeout=context._limit
        )
        if context._in_thread is not None:
            of_body.close_in(context._in_thread)
        return of_body


class RequestFacts(LazyFacts, Mapping[str, Any], Generic[RequestT]):
    """The ``meta`` of a request's context: ``request``, ``user``, ``params``, ``request_id``, each looked up when read.

    A subclass defines where the framework keeps them. Pass an instance to ``dm.context(meta=...)``, and call `end` when
    the request is over: facts not read by then are gone, and with them a reference cycle between request and context.

    ``request_id`` is the ``X-Request-Id`` of the request if that consists of 1 to 64 ASCII letters, digits, dots,
    underscores and hyphens, as it ends up in logs; else a random one. It is the same in all contexts of the request.
    """

    __slots__ = ("_request",)

    def __init__(self, request: RequestT) -> None:
        self._request: RequestT | None = request

    def find_request(self, request: RequestT) -> object:
        """The value of ``meta.request``."""
        return request

    def find_user(self, request: RequestT) -> object:
        """The user as the framework's own authentication knows them, or None; never taken from a header."""
        return None

    @abstractmethod
    def find_params(self, request: RequestT) -> Iterable[tuple[str, object]]:
        """Query, form fields, path parameters, in this order."""

    @abstractmethod
    def find_header(self, request: RequestT, name: str) -> str | None:
        """The value of a request header, whose name is given in lower case; None if it is missing."""

    def is_routed(self, request: RequestT) -> bool:
        """Whether the path parameters are known."""
        return True

    def notes_of(self, request: RequestT) -> MutableMapping[str, Any]:
        """Where a request keeps what is looked up once: the request itself if it is a mapping, else its attributes."""
        return request if isinstance(request, MutableMapping) else vars(request)

    def end(self) -> None:
        """Release the request."""
        self._request = None

    @property
    def has_ended(self) -> bool:
        """Whether the request is over."""
        return self._request is None

    def request_for(self, wanted: str) -> RequestT:
        """The request.

        Raises:
            ContextClosedError: if it is over.
        """
        if self._request is None:
            raise ContextClosedError(f"meta.{wanted}", hint="read it before the request is over")
        return self._request

    def _look_up(self, key: str) -> object:
        request = self._request
        if request is None:
            request = self.request_for(key)
        if key == "user":
            return self.find_user(request)
        if key == "request":
            return self.find_request(request)
        notes = self.notes_of(request)
        if _ID not in notes:
            notes[_ID] = request_id(self.find_header(request, "x-request-id"))
        return notes[_ID]

    def __getitem__(self, key: str) -> Any:
        if key in _LOOKED_UP:
            return lazy(partial(self._look_up, key))
        if key == "params":
            return Params(self)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter((*_LOOKED_UP, "params"))

    def __len__(self) -> int:
        return len(_LOOKED_UP) + 1


_LOOKED_UP = ("request", "user", "request_id")
_ID = "polydatum.request_id"


def request_id(given: str | None) -> str:
    """The id that a client or proxy has given the request, if it is harmless; else a new one.

    Example:
        >>> request_id("web-1.7f"), len(request_id("a b"))
        ('web-1.7f', 32)
    """
    return given if given is not None and _HARMLESS_ID.fullmatch(given) else uuid.uuid4().hex


_HARMLESS_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


_UNREAD: dict[str, list[Any]] = {}


class Params(Mapping[str, Any]):
    """The parameters of a request, read-only: query, form fields where the framework has parsed them, and path.

    ``params["page"]`` is the last value of a key, so that a query parameter cannot override a path parameter of the
    same name; ``params.getlist("tag")`` returns all of them.
    """

    __slots__ = ("_facts", "_values")

    def __init__(self, facts: RequestFacts[Any]) -> None:
        self._facts: RequestFacts[Any] | None = facts
        self._values = _UNREAD

    def _read(self) -> dict[str, list[Any]]:
        facts = self._facts
        if facts is None or (self._values is not _UNREAD and facts.has_ended):
            return self._values
        request = facts.request_for("params")
        is_routed = facts.is_routed(request)
        if is_routed or self._values is _UNREAD:
            values: dict[str, list[Any]] = {}
            for key, value in facts.find_params(request):
                values.setdefault(key, []).append(value)
            self._values = values
        if is_routed:
            self._facts = None
        return self._values

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
