"""The setting ``POLYDATUM``, a dict.

::

    POLYDATUM = {
        "DATA_MANAGER": "shop.data.dm",                # or the DataManager itself; the rest may be left out
        "ROLLBACK_ON": "shop.data.rolls_back",         # f(error, status) -> bool
        "TEARDOWN_TIMEOUT": 2.0,                       # seconds
        "ON_COMMIT_ERROR": "shop.views.commit_failed", # f(request, error) -> HttpResponse | None
    }
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from polydatum import ConfigurationError, Context, DataManager
from polydatum.adapting import context_factory, find_manager

KEYS = ("DATA_MANAGER", "ROLLBACK_ON", "TEARDOWN_TIMEOUT", "ON_COMMIT_ERROR")


class UnknownKeysError(ConfigurationError):
    """The setting has keys that mean nothing, such as misspelt ones.

    Attributes:
        keys: those keys.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = tuple(keys)
        super().__init__(f"settings.POLYDATUM has unknown keys: {', '.join(self.keys)}; the keys are {', '.join(KEYS)}")


class InvalidValueError(ConfigurationError):
    """A key of the setting has a value that cannot be used.

    Attributes:
        key: the key.
    """

    def __init__(self, key: str, problem: str) -> None:
        self.key = key
        super().__init__(f"settings.POLYDATUM[{key!r}] {problem}")


class Configuration:
    """What the setting says, checked.

    Attributes:
        manager: the DataManager.
        on_commit_error: what is asked for an answer when a commit fails, or None.
        new_context: ``manager.context``, with the rules of the setting if it has any.

    Raises:
        ConfigurationError: the first of its `problems`.
    """

    def __init__(self) -> None:
        options = _options()
        for problem in problems():
            raise problem
        self.manager: DataManager[Any, Any] = _find_manager(options)
        self.on_commit_error: Callable[..., Any] | None = _find_callable(options, "ON_COMMIT_ERROR")
        self.new_context: Callable[..., Context] = context_factory(
            self.manager,
            rollback_on=_find_callable(options, "ROLLBACK_ON"),
            teardown_timeout=_find_seconds(options, "TEARDOWN_TIMEOUT"),
        )


def configured_manager() -> DataManager[Any, Any]:
    """The DataManager that the setting names.

    Raises:
        ManagerNotFoundError: if it names none, or cannot be imported.
        InvalidManagerError: if it names something else.
    """
    return _find_manager(_options())


def problems() -> Iterator[ConfigurationError]:
    """Everything that is wrong with the setting."""
    options = _options()
    unknown = [str(key) for key in options if key not in KEYS]
    if unknown:
        yield UnknownKeysError(unknown)
    for find in (
        _find_manager,
        partial(_find_callable, key="ROLLBACK_ON"),
        partial(_find_seconds, key="TEARDOWN_TIMEOUT"),
        partial(_find_callable, key="ON_COMMIT_ERROR"),
    ):
        try:
            find(options)
        except ConfigurationError as error:
            yield error


def _options() -> Mapping[str, Any]:
    options = getattr(settings, "POLYDATUM", None)
    return options if isinstance(options, Mapping) else {}


def _find_manager(options: Mapping[str, Any]) -> DataManager[Any, Any]:
    return find_manager(("settings.POLYDATUM['DATA_MANAGER']", options.get("DATA_MANAGER")))


def _find_callable(options: Mapping[str, Any], key: str) -> Callable[..., Any] | None:
    found = options.get(key)
    if isinstance(found, str):
        try:
            found = import_string(found)
        except ImportError as error:
            raise InvalidValueError(key, f"cannot be imported: {error}") from error
    if found is not None and not callable(found):
        raise InvalidValueError(key, f"has to be a function or a dotted path to one, not {type(found).__name__}")
    return found


def _find_seconds(options: Mapping[str, Any], key: str) -> float | None:
    found = options.get(key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not found > 0:
        raise InvalidValueError(key, "has to be a number of seconds above 0")
    return found
