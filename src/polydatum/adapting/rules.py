"""The rules that an adapter may be given, in place of the DataManager's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from polydatum.context import Context, check_timeout
from polydatum.errors import ConfigurationError
from polydatum.manager import DataManager
from polydatum.unwinding import RollbackRule


def context_factory(
    manager: DataManager[Any, Any],
    *,
    rollback_on: RollbackRule | None = None,
    teardown_timeout: float | None = None,
) -> Callable[..., Context]:
    """What makes the contexts of an adapter: ``manager.context``, with those of its rules that are not None.

    Raises:
        ConfigurationError: if ``rollback_on`` is not callable, or ``teardown_timeout`` not above 0.

    Example:
        >>> context_factory(DataManager(), teardown_timeout=1.5)({"user": "ann"}).meta.user
        'ann'
    """
    check_callable("rollback_on", rollback_on)
    if teardown_timeout is not None:
        check_timeout(teardown_timeout)
    rules: dict[str, Any] = {"rollback_on": rollback_on, "teardown_timeout": teardown_timeout}
    given = {name: rule for name, rule in rules.items() if rule is not None}
    return partial(manager.context, **given) if given else manager.context


def check_callable(name: str, value: object) -> None:
    """Refuse what cannot be called; None is no value.

    Args:
        name: of the argument, in the words of the user's code.
        value: what was given for it.

    Raises:
        ConfigurationError: if it is not callable.
    """
    if value is not None and not callable(value):
        raise ConfigurationError(f"{name} has to be a function, not an object of {type(value).__name__}")
