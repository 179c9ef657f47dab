"""Polydatum's configuration for one app: from the arguments of `FlaskPolydatum` and from ``app.config``."""

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
"""The key of an app's Configuration in ``app.extensions``."""

CommitErrorHandler = Callable[
    [flask.Request, Exception], ResponseReturnValue | Awaitable[ResponseReturnValue | None] | None
]


@dataclass(frozen=True)
class Configuration:
    """The value of ``app.extensions["polydatum"]``.

    Attributes:
        data_manager: the app's DataManager.
        rules: the rules for contexts of the app's requests and commands, in place of the DataManager's;
            ``on_commit_error`` answers requests whose commit failed.
    """

    data_manager: DataManager[Any, Any]
    rules: RequestRules

    @cached_property
    def new_context(self) -> Callable[..., Context]:
        """The factory for the contexts of the app's requests and commands."""
        return self.rules.context_factory(self.data_manager)

    @classmethod
    def read(cls, arguments: Mapping[str, Any], config: Mapping[str, Any]) -> Configuration:
        """Read the arguments, and the keys ``POLYDATUM_...`` of a config for arguments that are None.

        Raises:
            ManagerNotFoundError: if neither names a DataManager.
            InvalidManagerError: if what they name is not a DataManager.
            InvalidRuleError: if another value is invalid, or a dotted path cannot be imported.
        """

        def places(name: str) -> list[tuple[str, Any]]:
            """The places of a setting, as the user would write them, and their values; the first one wins."""
            key = f"POLYDATUM_{name.upper()}"
            return [(f"FlaskPolydatum({name})", arguments[name]), (f"app.config[{key!r}]", config.get(key))]

        return cls(find_manager(*places("data_manager")), RequestRules.find(places))
