"""The set-up of a Context's middleware when it opens, sync and async; `polydatum.closing` is the counterpart.

A caller that closes the context meanwhile waits for the set-up, as for a resource that opens. If the set-up fails, the
middleware that is already set up is unwound by the policy in `polydatum.settling`.
"""

from __future__ import annotations

from threading import get_ident
from typing import Any

from .callables import is_coroutine_function
from .errors import MiddlewareSetupError
from .kinds import GENERATOR, NOTHING
from .opening import CLOSED, Opening, current_opening, enter_opening, leave_opening, release
from .settling import aclose_by_policy, close_by_policy
from .unwinding import Unwinding
from .wishing import refuse_hook, wishes_of


def set_up(context: Any) -> None:
    """Set up the middleware of a sync context that has begun, in order.

    Raises:
        BaseException: whatever a middleware raises; those already set up have then been unwound.
    """
    frames: list[Any] = []
    context._frames = frames
    name = None
    mine = _begin(context, get_ident())
    try:
        context._setup_hook()
        if context._wishes is not None:
            for hook in context._wishes.all_hooks():
                if is_coroutine_function(hook):
                    refuse_hook(hook)
        for middleware in context._data_manager._middleware_for(context):
            name = middleware.name
            before = context._opened
            if middleware.kind is GENERATOR:  # inlined for the usual kind
                handle = middleware.factory(context)
                value = next(handle, NOTHING)
                if value is NOTHING:
                    raise MiddlewareSetupError(middleware.name)
            else:
                value, handle = middleware.open(context)
            frames += (middleware, handle, value is not None or context._opened is not before)
        context._admit("the context")  # another caller may have closed it meanwhile
    except BaseException as error:
        try:
            if _claim_unwinding(context, mine):
                close_by_policy(context, Unwinding.of_failed_open(context, error, name), decided=True)
        finally:
            context.leave()
        raise  # whatever other middleware made of it: a context that did not open is always an error
    release(context, mine)


async def aset_up(context: Any) -> None:
    """The async twin of `set_up`."""
    frames: list[Any] = []
    context._frames = frames
    name = None
    mine = _begin(context, current_opening())
    token = enter_opening(mine)
    try:
        context._setup_hook()
        for middleware in context._data_manager._middleware_for(context):
            name = middleware.name
            before = context._opened
            if middleware.kind is GENERATOR:
                value, handle = middleware.open(context)
            else:
                value, handle = await middleware.aopen(context)
            frames += (middleware, handle, value is not None or context._opened is not before)
        context._admit("the context")
    except BaseException as error:
        try:
            leave_opening(token)
            if _claim_unwinding(context, mine):
                await aclose_by_policy(context, Unwinding.of_failed_open(context, error, name), decided=True)
        finally:
            context.leave()
        raise
    leave_opening(token)
    release(context, mine)


def _begin(context: Any, inside: Any) -> Opening:
    """Let a caller that closes the context wait until its middleware is set up; it then unwinds it."""
    mine: Opening = [context._set_up_placeholder, inside]
    context._under_way[mine[0], context] = mine
    return mine


def _claim_unwinding(context: Any, mine: Opening) -> bool:
    """Whether the opener has to unwind; else a caller that closes the context does it now, and rolls back."""
    is_ours = context._claim_close() or context._state is CLOSED  # closed by a caller that gave up waiting
    if not is_ours:
        wishes_of(context).rollback_only = "the context was closed while its middleware was set up"
    release(context, mine)
    return is_ours
