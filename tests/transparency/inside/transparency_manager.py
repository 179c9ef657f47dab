"""The DataManager that is installed in every application of a suite, and how often it was used.

It has a service and a resource, as an application would, which nobody touches. It has no context middleware: that would be
code of a user's, which takes part in every request.
"""

from __future__ import annotations

import collections
import os
import threading
from collections.abc import Iterator
from typing import Any

from polydatum import Context, DataManager, Service

POSITION = os.environ.get("TRANSPARENCY_POSITION", "bare")
"""Where the adapter is installed; "bare": nowhere."""

contexts: collections.Counter[str] = collections.Counter()
"""How many contexts were made, and how many resources were opened in them, which is none."""

_lock = threading.Lock()


def _add(name: str) -> None:
    with _lock:
        contexts[name] += 1


class CountingManager(DataManager[Any, Any]):
    """Counts the contexts that the adapter asks for."""

    def context(self, *args: Any, **kwargs: Any) -> Context:
        """Called by the adapter for every request."""
        _add("opened")
        return super().context(*args, **kwargs)


def untouched(ctx: Context) -> Iterator[None]:
    """A resource."""
    _add("resources")
    raise AssertionError("a resource was opened that nobody has touched")
    yield


class Items(Service):
    """A service."""


manager = CountingManager()
manager.register_resources(untouched=untouched)
manager.register_services(items=Items())
