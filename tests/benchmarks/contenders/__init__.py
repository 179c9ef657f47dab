"""The contenders, and their common shape.

A *work* is a context manager that yields ``run(times)``, which does the row's work that many times.
A contender maps rows to its works; a row that is missing has no equivalent there.
"""

import importlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Run = Callable[[int], None]
AsyncRun = Callable[[int], Awaitable[None]]
SyncWork = Callable[[], AbstractContextManager[Run]]
AsyncWork = Callable[[], AbstractAsyncContextManager[AsyncRun]]


class Holder(NamedTuple):
    """Functions that open a context, returning what keeps it open, and that close it again."""

    open: Callable[[], Any]
    close: Callable[[Any], object]


HeldWork = Callable[[], AbstractContextManager[Holder]]
Registering = Callable[[int], Callable[[], None]]
"""Prepares that many things to register; returns a function that registers them and opens a context."""


@dataclass(frozen=True)
class Contender:
    name: str
    sync: Mapping[str, SyncWork] = field(default_factory=dict)
    async_: Mapping[str, AsyncWork] = field(default_factory=dict)
    held: Mapping[str, HeldWork] = field(default_factory=dict)
    registering: Mapping[str, Registering] = field(default_factory=dict)
    one_among: Callable[[int], SyncWork] | None = None
    """The work of row ``one`` with that many resources and services registered."""
    ambient: bool = False
    """Whether its open context is found without being passed on, at the price of a ContextVar."""


LIMIT = "limit"
OURS = "polydatum"
BARE = "bare"
"""The framework without an adapter; only over HTTP."""

CORE = {
    LIMIT: "limit",
    OURS: "ours",
    "wireup": "peer_wireup",
    "dishka": "peer_dishka",
    "svcs": "peer_svcs",
    "modern-di": "peer_modern_di",
    "polydatum 0.9.1": "peer_upstream",
}
OVER_HTTP = {
    BARE: "http_bare",
    LIMIT: "http_limit",
    OURS: "http_ours",
    "wireup": "http_wireup",
    "dishka": "http_dishka",
    "svcs": "http_svcs",
}
"""The contenders, by name, and their modules."""


def load(modules: Mapping[str, str], *, ours_only: bool) -> tuple[dict[str, Contender], dict[str, str]]:
    """The contenders that can be imported, and for the others the reason why not."""
    contenders: dict[str, Contender] = {}
    missing: dict[str, str] = {}
    for name, module_name in modules.items():
        if ours_only and name not in (BARE, LIMIT, OURS):
            continue
        try:
            module = importlib.import_module(f"{__name__}.{module_name}")
        except Exception as error:
            missing[name] = f"not available: {type(error).__name__}: {error}"
        else:
            contenders[name] = module.contender
    return contenders, missing
