"""How Polydatum is installed in one app: from the arguments of `FlaskPolydatum` and from ``app.config``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import flask
from flask.typing import ResponseReturnValue
from werkzeug.utils import import_string

from polydatum import ConfigurationError, Context, DataManager
from polydatum.adapting import RollbackRule, context_factory, find_manager

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
        rollback_on: for the contexts of its requests and commands, in place of the DataManager's; None: the DataManager's.
        teardown_timeout: likewise, in seconds.
        on_commit_error: answers requests whose commit failed; None: Flask does.
    """

    data_manager: DataManager[Any, Any]
    rollback_on: RollbackRule | None = None
    teardown_timeout: float | None = None
    on_commit_error: CommitErrorHandler | None = None

    @cached_property
    def new_context(self) -> Callable[..., Context]:
        """What makes the contexts of the app's requests and commands."""
        return context_factory(self.data_manager, rollback_on=self.rollback_on, teardown_timeout=self.teardown_timeout)

    @classmethod
    def read(cls, arguments: Mapping[str, Any], config: Mapping[str, Any]) -> Configuration:
        """Make it of arguments, and of the keys ``POLYDATUM_...`` of a config for those that are None.

        Raises:
            ManagerNotFoundError: if neither names a DataManager.
            InvalidManagerError: if what they name is something else.
            ConfigurationError: if another value is none of its kind, or a dotted path leads nowhere.
        """

        def found(name: str, check: Callable[[str, Any], Any]) -> Any:
            for place, value in _places(name, arguments, config):
                if value is not None:
                    return check(place, value)
            return None

        return cls(
            find_manager(*_places("data_manager", arguments, config)),
            rollback_on=found("rollback_on", _callable),
            teardown_timeout=found("teardown_timeout", _seconds),
            on_commit_error=found("on_commit_error", _callable),
        )


def _places(name: str, arguments: Mapping[str, Any], config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Where a setting may be, in the words of the user's code, and what is there; the first one wins."""
    key = f"POLYDATUM_{name.upper()}"
    return [(f"FlaskPolydatum({name})", arguments[name]), (f"app.config[{key!r}]", config.get(key))]


def _callable(place: str, value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = import_string(value)
        except ImportError as error:
            raise ConfigurationError(f"{place}: the dotted path cannot be imported") from error
    if not callable(value):
        raise ConfigurationError(f"{place}: a callable, or a dotted path to one, is needed, not {_kind(value)}")
    return value


def _seconds(place: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"{place}: a number of seconds is needed, not {_kind(value)}")
    if not value > 0:
        raise ConfigurationError(f"{place}: a number of seconds above 0 is needed")
    return value


def _kind(value: object) -> str:
    return f"an object of {type(value).__name__}"
