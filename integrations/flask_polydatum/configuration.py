"""How Polydatum is installed in one app: from the arguments of `FlaskPolydatum` and from ``app.config``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import flask
from flask.typing import ResponseReturnValue

from polydatum import Context, DataManager
from polydatum.adapting import RequestRules, find_manager

EXTENSION = "polydatum"
"""The key of ``app.extensions``, under which an app keeps its Configuration."""

CommitErrorHandler = Callable[
    [flask.Request, Exception], ResponseReturnValue | Awaitable[ResponseReturnValue | None] | None
]


@dataclass(frozen=True)
class Configuration:
    """What ``app.extensions["polydatum"]`` holds, for as long as the app lives.

    Attributes:
        data_manager: the DataManager of the app.
        rules: for the contexts of its requests and commands, in place of the DataManager's; ``on_commit_error`` answers
            requests whose commit failed.
    """

    data_manager: DataManager[Any, Any]
    rules: RequestRules

    @cached_property
    def new_context(self) -> Callable[..., Context]:
        """What makes the contexts of the app's requests and commands."""
        return self.rules.context_factory(self.data_manager)

    @classmethod
    def read(cls, arguments: Mapping[str, Any], config: Mapping[str, Any]) -> Configuration:
        """Make it of arguments, and of the keys ``POLYDATUM_...`` of a config for those that are None.

        Raises:
            ManagerNotFoundError: if neither names a DataManager.
            InvalidManagerError: if what they name is something else.
            InvalidRuleError: if another value is none of its kind, or a dotted path leads nowhere.
        """

        def places(name: str) -> list[tuple[str, Any]]:
            """Where a setting may be, in the words of the user's code, and what is there; the first one wins."""
            key = f"POLYDATUM_{name.upper()}"
            return [(f"FlaskPolydatum({name})", arguments[name]), (f"app.config[{key!r}]", config.get(key))]

        return cls(find_manager(*places("data_manager")), RequestRules.find(places))
