"""For tests: of applications (`attach`), and of adapters (`AdapterContract`).

`attach` needs nothing but Python, `AdapterContract` needs pytest, which is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .hosts import Answer, Call, Handler, Host, Reply, View
from .requests import attach

if TYPE_CHECKING:
    from .contract import AdapterContract

__all__ = ["AdapterContract", "Answer", "Call", "Handler", "Host", "Reply", "View", "attach"]


def __getattr__(name: str) -> Any:
    if name != "AdapterContract":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest

    pytest.register_assert_rewrite(f"{__name__}.contract")  # its failures shall show values, as those of test files do
    from .contract import AdapterContract

    return AdapterContract
