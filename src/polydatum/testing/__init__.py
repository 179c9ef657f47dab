"""Helpers to test applications (`attach`), adapters (`AdapterContract`) and backends (`BackendContract`).

`attach` needs nothing but Python. The contracts need pytest, which is imported with the first of them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .backend_hosts import BackendHost
from .hosts import Answer, Call, Handler, Host, Reply, View
from .requests import attach

if TYPE_CHECKING:
    from .backend_contract import BackendContract
    from .contract import AdapterContract

__all__ = [
    "AdapterContract",
    "Answer",
    "BackendContract",
    "BackendHost",
    "Call",
    "Handler",
    "Host",
    "Reply",
    "View",
    "attach",
]

_CONTRACTS = {"AdapterContract": "contract", "BackendContract": "backend_contract"}


def __getattr__(name: str) -> Any:
    if name not in _CONTRACTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest

    module = f"{__name__}.{_CONTRACTS[name]}"
    if module not in sys.modules:
        pytest.register_assert_rewrite(module)  # so that its failures show values, as those of test files do
    return getattr(import_module(module), name)
