"""Resources of the app scope: one instance per process (async ones: per event loop), opened on first touch.

They are opened by the same rules as those of a Context, but with the DataManager as argument, and closed by
`DataManager.close`, after which the next touch opens them again.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Any, TypeAlias

from .errors import AsyncResourceError
from .kinds import NOTHING
from .opening import CLOSED, CREATED, OPEN, Placeholder, UnderWay, ain_turn, in_turn
from .outcome import add_note
from .reporting import log_error
from .resources import AsyncTouch, RegisteredResource
from .waiting import has_ended, running_loop

Only: TypeAlias = "Collection[RegisteredResource] | None"
"""Which resources to close; None: all."""

_ALL = "the application's resources"


class AppScope:
    """The open resources of a process, or of one event loop in it."""

    def __init__(self, thread: int | None = None) -> None:
        self._state = OPEN
        self._opened: list[Any] = []
        self._values: dict[RegisteredResource, Any] = {}
        self._thread = thread

    @property
    def _is_async(self) -> bool:
        return running_loop() is not None

    def _in_other_thread(self) -> bool:
        return self._thread is not None and threading.get_ident() != self._thread

    def _admit(self, wanted: str) -> None:
        pass  # a touch after the close opens it again

    def _keep(self, resource: RegisteredResource, value: Any, handle: Any, transaction: Any = None) -> bool:
        self._opened += (resource, handle)
        self._values[resource] = value
        return True

    def _value_of(self, resource: RegisteredResource) -> Any:
        return self._values[resource]

    def _forget(self, resource: RegisteredResource) -> None:
        self._values.pop(resource, None)

    def _next_to_close(self, only: Only = None) -> Any:
        for place in range(len(self._opened) - 2, -1, -2):
            resource, handle = self._opened[place : place + 2]
            if only is None or resource in only:
                del self._opened[place : place + 2]
                return resource.end_step(self, handle)
        return None


class AppResource(RegisteredResource):
    """A resource of the app scope, found by its name on contexts and on the manager."""

    __slots__ = ()

    def __get__(self, owner: Any, owner_type: Any = None) -> Any:
        if owner is None:
            return self
        if owner._state in (CREATED, CLOSED):  # while it closes, resources may return what they took from this one
            owner._touched_while_not_open(self)
        return owner._data_manager._app.touch(self, owner._data_manager)


class AppScopes:
    """All app scopes of one DataManager: the one of the process, and one per event loop."""

    def __init__(self, under_way: UnderWay) -> None:
        self._process = AppScope()
        self._loops: dict[Any, AppScope] = {}
        self._inherited: list[Any] = []
        self._closing = Placeholder("close of the application's resources", under_way)

    def touch(self, resource: RegisteredResource, data_manager: Any) -> Any:
        """The value of a resource, opened now if it is not open; an awaitable of it if it is async."""
        if resource.kind.is_async:
            return resource.async_touch(self._loop_scope(resource.name), data_manager)
        value = self._process._values.get(resource, NOTHING)
        if resource.result_is_async and self._process._is_async:
            return resource.async_touch(self._loop_scope(resource.name), data_manager)
        if value is NOTHING:
            value = resource.open(self._process, data_manager)
            if type(value) is AsyncTouch:  # known only once a callable has made it
                value = value.owned_by(self._loop_scope(resource.name))
        return value

    def _loop_scope(self, name: str, subject: str = "") -> AppScope:
        loop = running_loop()
        if loop is None:
            raise AsyncResourceError(name, "needs a running event loop; await it from async code", subject)
        scope = self._loops.get(loop)
        if scope is None:
            self._drop_ended()
            scope = self._loops[loop] = AppScope(threading.get_ident())
        return scope

    def _drop_ended(self) -> None:
        """Forget resources of ended event loops: they can no longer be closed, and would keep the loops alive."""
        for loop in list(self._loops):
            if has_ended(loop):
                self._loops.pop(loop, None)

    def close(self) -> None:
        """Close what is open, in reverse of opening; the first error is raised when all are closed."""
        self.close_only(None)
        self._drop_ended()
        if any(scope._opened for scope in list(self._loops.values())):
            raise AsyncResourceError(
                _ALL, "are still open; close the manager with 'await dm.aclose()'", "async resources of the application"
            )

    def close_only(self, only: Only, raised: BaseException | None = None) -> None:
        """Close all resources of the process, or some. Errors are noted on what was raised before, if anything was."""
        with in_turn(self._process, self._closing):
            first = self._close_process(only, raised)
        if first is not None and first is not raised:
            raise first

    def close_at_exit(self) -> None:
        """Close what is still open when the interpreter exits, except async ones: their loop is gone."""
        error = self._close_process()
        if error is not None:
            log_error("error while closing the application's resources at exit", error=error)

    def _close_process(self, only: Only = None, first: BaseException | None = None) -> BaseException | None:
        while (step := self._process._next_to_close(only)) is not None:
            try:
                step.call(None)
            except BaseException as error:
                first = _first(first, error, step.where)
        return first

    async def aclose(self, only: Only = None, raised: BaseException | None = None) -> None:
        """Close resources of the running event loop, then of the process: all, or some as in `close_only`."""
        first = raised
        scope = self._loop_scope(_ALL, f"closing {_ALL}")
        async with ain_turn(scope, self._closing):
            while (step := scope._next_to_close(only)) is not None:
                try:
                    await step.call(None)
                except BaseException as error:
                    first = _first(first, error, step.where)
        async with ain_turn(self._process, self._closing):
            first = self._close_process(only, first)
        if first is not None and first is not raised:
            raise first

    def forget_after_fork(self) -> None:
        """In a forked child, leave the parent's resources alone, and referenced so that no finalizer closes them."""
        self._inherited.append((self._process, list(self._loops.values())))
        self._process = AppScope()
        self._loops = {}


def _first(first: BaseException | None, error: BaseException, where: str) -> BaseException:
    if first is None:
        add_note(error, f"while {where}")
        return error
    add_note(first, f"while {where}: {type(error).__name__}: {error}")
    log_error("error while %s", where, error=error)
    return first
