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

from polydatum import ConfigurationError, DataManager
from polydatum.adapting import RULES, ManagerNotFoundError, RequestRules, find_manager, find_rule

KEYS = ("DATA_MANAGER", *(name.upper() for name in RULES))


class UnknownKeysError(ConfigurationError):
    """The setting has unknown keys, which may be misspelt.

    Attributes:
        keys: the unknown keys.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = tuple(keys)
        super().__init__(self.keys)

    def __str__(self) -> str:
        return f"settings.POLYDATUM has unknown keys: {', '.join(self.keys)}; the keys are {', '.join(KEYS)}"


class Configuration:
    """The validated setting.

    Attributes:
        manager: the DataManager.
        on_commit_error: the function that answers failed commits, or None.
        new_context: ``manager.context``, with the setting's rules if it has any.

    Raises:
        ConfigurationError: the first of its `problems`.
    """

    def __init__(self) -> None:
        for problem in problems():
            raise problem
        self.manager: DataManager[Any, Any] = configured_manager()
        rules = RequestRules.find(_places)
        self.on_commit_error = rules.on_commit_error
        self.new_context = rules.context_factory(self.manager)


def configured_manager() -> DataManager[Any, Any]:
    """The DataManager that the setting names.

    Raises:
        ManagerNotFoundError: if the setting names none, or it cannot be imported.
        InvalidManagerError: if the setting names something else.
    """
    return find_manager(*_places("data_manager"))


def problems() -> Iterator[ConfigurationError]:
    """All problems of the setting."""
    setting = getattr(settings, "POLYDATUM", None)
    if setting is not None and not isinstance(setting, Mapping):
        kind = type(setting).__name__
        yield ManagerNotFoundError(["settings.POLYDATUM"], f"has to be a dict, not an object of type {kind}")
        return
    unknown = [str(key) for key in _options() if key not in KEYS]
    if unknown:
        yield UnknownKeysError(unknown)
    finds: list[Callable[[], Any]] = [configured_manager]
    finds += [partial(find_rule, name, *_places(name)) for name in RULES]
    for find in finds:
        try:
            find()
        except ConfigurationError as error:
            yield error


def _options() -> Mapping[str, Any]:
    options = getattr(settings, "POLYDATUM", None)
    return options if isinstance(options, Mapping) else {}


def _places(name: str) -> list[tuple[str, Any]]:
    """The place of the DataManager or of a rule, as the user would write it, and its value."""
    key = name.upper()
    return [(f"settings.POLYDATUM[{key!r}]", _options().get(key))]
