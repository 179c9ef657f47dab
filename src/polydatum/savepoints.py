"""`ctx.nested()`: a block inside a Context that rolls back alone, by a savepoint in every open transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from .callables import name_of
from .errors import AsyncResourceError, RollbackOnlyError, SavepointNotSupported, shown
from .nesting import OpenBlock
from .opening import OPEN
from .outcome import add_note, describe_error, is_cancellation
from .reporting import log_error
from .settling import shield_for
from .waiting import running_asyncio
from .wishing import open_wishes

_WANTED = "nested()"


class Nested:
    """A ``ctx.nested()`` block. A transaction that opens inside it has no earlier work, and is rolled back as a whole."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._savepoints: list[tuple[str, Any]] = []
        self._opened_before: list[Any] = []
        self._hooks: tuple[int, int, int] = (0, 0, 0)

    # --- Sync ---------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Nested:
        self._begin()
        try:
            for name, transaction in self._transactions():
                set_savepoint = getattr(transaction, "savepoint", None)
                if set_savepoint is None:
                    wrote = getattr(transaction, "wrote", None)
                    if wrote is None or _call_sync(name, wrote):
                        raise SavepointNotSupported(name)
                    continue  # it has no work from before the block either
                self._savepoints.append((name, _call_sync(name, set_savepoint)))
                self._opened_before.append(transaction)
        except BaseException as error:
            self._opened_before = [transaction for _, transaction in self._transactions()]
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            self._end(exc)
        finally:
            self._block.end()

    def _end(self, exc: BaseException | None) -> None:
        if exc is not None:
            self._roll_back(exc)
            return
        released: list[str] = []
        if len(self._savepoints) > 1:
            self._put_effects_first()
        while self._savepoints:
            name, savepoint = self._savepoints[-1]
            try:
                _call_sync(name, savepoint.release)
            except BaseException as error:
                self._roll_back(error, released)
                raise
            self._savepoints.pop()
            released.append(name)

    def _roll_back(self, cause: BaseException, released: Sequence[str] = ()) -> None:
        kept = [*released]
        for name, undo in self._rollbacks():
            try:
                _call_sync(name, undo)
            except Exception as error:
                self._not_rolled_back(name, error, cause)
                kept.append(name)
        for hook in self._dropped_hooks(kept, cause):
            try:
                name = name_of(hook)
                _call_sync(name, hook, f"hook {shown(name)}")
            except Exception as error:
                _hook_failed(error)

    # --- Async --------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Nested:
        self._begin()
        try:
            for name, transaction in self._transactions():
                set_savepoint = getattr(transaction, "savepoint", None)
                if set_savepoint is None:
                    wrote = getattr(transaction, "wrote", None)
                    if wrote is None or await _awaited(wrote):
                        raise SavepointNotSupported(name)
                    continue
                self._savepoints.append((name, await _awaited(set_savepoint)))
                self._opened_before.append(transaction)
        except BaseException as error:
            self._opened_before = [transaction for _, transaction in self._transactions()]
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            await self._aend(exc)
        finally:
            self._block.end()

    async def _aend(self, exc: BaseException | None) -> None:
        if exc is not None:
            await self._aroll_back(exc)
            return
        released: list[str] = []
        if len(self._savepoints) > 1:
            self._put_effects_first()
        while self._savepoints:
            name, savepoint = self._savepoints[-1]
            try:
                await _awaited(savepoint.release)
            except BaseException as error:
                await self._aroll_back(error, released)
                raise
            self._savepoints.pop()
            released.append(name)

    async def _aroll_back(self, cause: BaseException, released: Sequence[str] = ()) -> None:
        """Completes even if cancelled, like the steps at the end of a context: a timeout around the block is common."""
        kept = [*released]
        shield = shield_for(self._context._limit, running_asyncio())
        shield.enter()
        try:
            for name, undo in self._rollbacks():
                try:
                    await shield.run(_awaited(undo), f"rolling back resource {name!r} to a savepoint")
                except Exception as error:
                    self._not_rolled_back(name, error, cause)
                    kept.append(name)
            for hook in self._dropped_hooks(kept, cause):
                try:
                    await shield.run(_awaited(hook), "running an on_rollback hook")
                except Exception as error:
                    _hook_failed(error)
        finally:
            shield.exit()
        late = await shield.late_cancel()
        if late is not None and not is_cancellation(cause):
            raise late

    # --- Both ---------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        context = self._context
        if context._state is not OPEN:
            context._admit(_WANTED)
        self._block = OpenBlock(context, _WANTED)
        wishes = context._wishes
        if wishes is not None:
            self._hooks = (len(wishes.before_commit), len(wishes.on_commit), len(wishes.on_rollback))

    def _transactions(self) -> list[tuple[str, Any]]:
        return list(self._context._transactions or ())

    def _rollbacks(self) -> list[tuple[str, Callable[[], Any]]]:
        """What undoes the block, the latest first: savepoints, and whole transactions that began inside it."""
        known = {id(transaction) for transaction in self._opened_before}
        late = [(name, found.rollback) for name, found in self._transactions() if id(found) not in known]
        early = [(name, savepoint.rollback) for name, savepoint in self._savepoints]
        self._savepoints = []
        return [*reversed(late), *reversed(early)]

    def _put_effects_first(self) -> None:
        """Savepoints are released last to first. Only an authority can refuse that; effects can then be undone."""
        kinds = [transaction.kind for transaction in self._opened_before]
        ordered = sorted(zip(self._savepoints, kinds, strict=True), key=lambda entry: entry[1] == "authority")
        self._savepoints = [entry for entry, _ in ordered]

    def _dropped_hooks(self, kept: Sequence[str], cause: BaseException) -> list[Callable[[], Any]]:
        """Remove the block's hooks; returns its ``on_rollback`` hooks, to be run now.

        If work of the block may still be in a transaction, nothing of the context may commit, unless a block around
        this one also rolls back, which removes the refusal.
        """
        wishes = self._context._wishes
        if wishes is None and not kept:
            return []
        wishes = wishes or open_wishes(self._context, _WANTED)
        before_commit, on_commit, on_rollback = self._hooks
        del wishes.before_commit[before_commit:], wishes.on_commit[on_commit:]
        wishes.before_commit += [partial(_refuse, name, cause) for name in kept]
        dropped: list[Callable[[], Any]] = wishes.on_rollback[on_rollback:]
        del wishes.on_rollback[on_rollback:]
        return dropped

    def _not_rolled_back(self, name: str, error: Exception, cause: BaseException) -> None:
        where = f"rolling back resource {name!r} to a savepoint"
        add_note(cause, f"while {where}: {type(error).__name__}: {describe_error(error)}")
        log_error("error while %s: the context will roll back", where, error=error)


def _call_sync(name: str, call: Callable[[], Any], subject: str = "") -> Any:
    result = call()
    if result is not None and isinstance(result, Awaitable):
        unawaited: Any = result
        if hasattr(unawaited, "close"):
            unawaited.close()
        raise AsyncResourceError(name, "cannot be awaited by a plain 'with'; use 'async with ctx.nested()'", subject)
    return result


async def _awaited(call: Callable[[], Any]) -> Any:
    result = call()
    return await result if isinstance(result, Awaitable) else result


def _refuse(name: str, cause: BaseException) -> None:
    raise RollbackOnlyError.after(name, cause) from cause


def _hook_failed(error: Exception) -> None:
    log_error("error while running an on_rollback hook of a nested() block", error=error)
