"""The owner's side of resources: what a Context keeps, admits and refuses while they open and close.

The other side, claiming and opening, is in `polydatum.opening` and `polydatum.resources`.
"""

from __future__ import annotations

from contextvars import ContextVar
from threading import get_ident
from typing import Any

from .errors import ContextClosedError, NoActiveContextError, UnknownResourceError
from .kinds import NOTHING
from .opening import CLOSED, CLOSING, CREATED, OPEN
from .outcome import COMMITTED, Outcome
from .resources import RegisteredResource

unwound_here: ContextVar[Any] = ContextVar("polydatum_unwound_here", default=None)
"""The Context that the running code unwinds. Only this code may still touch the context's resources."""
enter_unwinding = unwound_here.set
leave_unwinding = unwound_here.reset


class ResourceOwner:
    """Keeps the resources of one Context.

    Attributes that every context has are set on the instance and have no default on the class: CPython does not
    specialize access to an attribute that is on both. Rare ones stay on the class until they are needed.
    """

    _data_manager: Any
    _mutex: Any  # the manager's; held for a few attribute accesses, never while users' code runs
    _state: str
    _opened: list[Any] | None  # in order of opening, flat to be small: resource, handle, resource, handle, ...
    _home: tuple[int, Any, int] | None  # async context: its loop's thread, asyncio task, cancel count of the task

    _plain = True  # nothing but resources takes part in the end: no middleware, wish, transaction or rule
    _transactions: list[tuple[str, Any]] | None = None
    _sealed = False  # from the first prepare on: nothing may open any more
    _parked: dict[str, Any] | None = None
    _outcome: Outcome = COMMITTED
    _late_hint = ""  # an adapter's advice in the error for late use
    _used_thread = False  # a sync resource was opened, or hook registered, outside the event loop's thread

    @property
    def _is_async(self) -> bool:
        return self._home is not None

    def _in_other_thread(self) -> bool:
        """Whether the caller runs outside the event loop's thread of an async context."""
        return self._home is not None and get_ident() != self._home[0]

    def __contains__(self, name: object) -> bool:
        """Whether a resource is open right now."""
        return any(resource.name == name for resource in (self._opened or ())[::2])

    def _admit(self, wanted: str) -> None:
        if self._state is OPEN:
            return
        if self._state is CREATED:
            raise NoActiveContextError(f"{wanted!r}, in a context that is not open yet")
        if self._sealed or self._state is CLOSED or unwound_here.get() is not self:
            raise self._closed_error(wanted)

    def _touched_while_not_open(self, resource: RegisteredResource) -> Any:
        """The result of a touch while the context is not open: a parked value, NOTHING (may open), or an error."""
        if self._parked is not None and resource.name in self._parked and unwound_here.get() is self:
            return self._parked[resource.name]
        self._admit(resource.name)
        return NOTHING

    def _closed_error(self, wanted: str) -> ContextClosedError:
        outcome = self._outcome if self._state is CLOSED else None
        return ContextClosedError(
            wanted,
            state=self._state,
            outcome=outcome,
            status=None if outcome is None else outcome.http_status,
            hint=self._late_hint,
        )

    def _unknown(self, name: str) -> UnknownResourceError:
        """What a touch of a name without a resource would raise, did ``__getattr__`` not slow every access on Python 3.11."""
        return UnknownResourceError(name, self._data_manager._registry.resources)

    def _append(self, resource: RegisteredResource, handle: Any) -> None:
        entry = [resource, handle]
        # Two threads may open their first resources at once. Under the GIL this line is atomic, as it calls nothing.
        opened = self._opened = self._opened or entry
        if opened is not entry:
            opened += entry

    def _keep(self, resource: RegisteredResource, value: Any, handle: Any, transaction: Any = None) -> bool:
        self._append(resource, handle)
        if transaction is not None:
            with self._mutex:
                self._plain = False
                self._transactions = [*(self._transactions or ()), (resource.name, transaction)]
        is_async = resource.is_async(handle)
        if not is_async and self._in_other_thread():
            self._used_thread = True
        if self._state is OPEN or (self._state is CLOSING and unwound_here.get() is self):
            setattr(self, resource.slot if is_async else resource.name, value)
        return self._state is not CLOSED or not self._take_back(handle)

    def _take_back(self, handle: Any) -> bool:
        """Take a handle off the list of a closer that gave up waiting for it; False if it is no longer on it."""
        with self._mutex:
            for place, kept in enumerate(self._opened or ()):
                if kept is handle:
                    del self._opened[place - 1 : place + 1]  # type: ignore[union-attr]
                    return True
        return False

    def _value_of(self, resource: RegisteredResource) -> Any:
        """The value of an open resource, for a caller that waited for it."""
        if self._state is not OPEN and unwound_here.get() is not self:
            raise self._closed_error(resource.name)
        value = getattr(self, resource.slot, NOTHING)
        return getattr(self, resource.name) if value is NOTHING else value

    def _forget(self, resource: RegisteredResource) -> None:
        """Drop the cached value of a resource that is closing, so that a later touch raises."""
        cached = vars(self)
        cached.pop(resource.name, None)
        cached.pop(resource.slot, None)
        if self._parked is not None:
            self._parked.pop(resource.name, None)

    def _park(self) -> None:
        """Move the cached values of sync resources out of reach of a thread that outlives its cancelled task."""
        self._parked = parked = {}
        cached = vars(self)
        for resource in (self._opened or [])[::2]:
            if resource.name in cached:
                parked[resource.name] = cached.pop(resource.name)
