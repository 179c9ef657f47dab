"""What users ask for at the end of a Context, recorded and checked; `polydatum.unwinding` decides what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from .callables import is_coroutine_function, name_of
from .errors import AsyncResourceError, shown
from .nesting import refuse_beside
from .opening import CREATED
from .outcome import Wishes

HookT = TypeVar("HookT", bound=Callable[[], Any])


def open_wishes(context: Any, wanted: str) -> Wishes:
    """The wishes of a context that has not settled, to add one; ``wanted`` is the call as users spell it.

    Raises:
        ContextClosedError: if the context has settled already.
    """
    refuse_late(context, wanted)
    return wishes_of(context)


def refuse_late(context: Any, wanted: str) -> None:
    """Refuse a late wish. Checked again once it is added, as a close that began meanwhile may have missed it.

    Raises:
        ContextClosedError: if the context has settled already, or another thread closes it now.
    """
    if context._state is not CREATED:
        context._admit(wanted)


def wishes_of(context: Any) -> Wishes:
    """The wishes of a context, whatever its state; from now on more than resources takes part in its end."""
    with context._mutex:  # several threads may add wishes at once
        wishes: Wishes | None = context._wishes
        if wishes is None:
            context._plain = False
            context._wishes = wishes = Wishes()
        return wishes


def add_hook(context: Any, event: str, hook: HookT) -> HookT:
    """Register a hook of an event, by its name, and return it.

    Raises:
        ContextClosedError: if the context has settled already.
        ConcurrentBlockError: if another task's open block would drop it with its own.
        TypeError: if it cannot be called.
        AsyncResourceError: if it is async and the context is not.
    """
    wanted = f"{event}()"
    wishes = open_wishes(context, wanted)
    refuse_beside(context, wanted)
    getattr(wishes, event).append(_checked(context, hook))
    refuse_late(context, wanted)
    return hook


def _checked(context: Any, hook: HookT) -> HookT:
    if not callable(hook):
        raise TypeError(f"a hook is called without arguments; {type(hook).__name__} is not callable")
    if is_coroutine_function(hook):
        if context._state is CREATED:
            context._sets_up = True  # whether the context is sync is known only when it opens
        elif context._home is None:
            refuse_hook(hook)
    elif context._in_other_thread():
        context._used_thread = True  # it may block, or need a thread, like the code that registered it
    return hook


def refuse_hook(hook: Callable[[], Any]) -> NoReturn:
    """Refuse an async hook of a sync context."""
    name = name_of(hook)
    raise AsyncResourceError(
        name, "is async, and a sync context cannot await it; register a plain function", f"hook {shown(name)}"
    )
