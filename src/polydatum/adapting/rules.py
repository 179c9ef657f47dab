"""The rules that an adapter may be given, in place of the DataManager's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from polydatum.context import Context
from polydatum.errors import ConfigurationError
from polydatum.manager import DataManager
from polydatum.unwinding import RollbackRule

from .managers import import_path


class InvalidRuleError(ConfigurationError):
    """A rule given to an adapter is of the wrong kind, or a dotted path to it leads nowhere.

    Attributes:
        place: where it was given, as the user's code spells it.
    """

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(place, problem)
        self.place = place
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


@dataclass(frozen=True)
class RequestRules:
    """The rules of an adapter for its requests; None: as the DataManager has it.

    Attributes:
        rollback_on: ``f(exc, status) -> bool``, for requests and everything else that the adapter makes contexts for.
        teardown_timeout: seconds that the close of one of these contexts may take.
        on_commit_error: answers a request whose commit failed; the adapter defines its arguments.
    """

    rollback_on: RollbackRule | None = None
    teardown_timeout: float | None = None
    on_commit_error: Callable[..., Any] | None = None

    @classmethod
    def find(cls, places: Callable[[str], Iterable[tuple[str, object]]]) -> Self:
        """The rules that an adapter was given. Call it when the application starts, like `find_manager`.

        Args:
            places: returns the places for the name of a rule, as `find_rule` takes them.

        Raises:
            InvalidRuleError: if a rule cannot be used; for the first one.

        Example:
            >>> given = {"teardown_timeout": 1.5}
            >>> RequestRules.find(lambda name: [(f"MyAdapter({name}=...)", given.get(name))])
            RequestRules(rollback_on=None, teardown_timeout=1.5, on_commit_error=None)
        """
        return cls(**{name: find_rule(name, *places(name)) for name in RULES})

    def context_factory(self, manager: DataManager[Any, Any]) -> Callable[..., Context]:
        """The factory of an adapter's contexts: ``manager.context``, with those of its rules that are not None."""
        rules: dict[str, Any] = {"rollback_on": self.rollback_on, "teardown_timeout": self.teardown_timeout}
        given = {name: rule for name, rule in rules.items() if rule is not None}
        return partial(manager.context, **given) if given else manager.context


RULES = tuple(RequestRules.__dataclass_fields__)
"""The names of the rules."""


def find_rule(name: str, *places: tuple[str, object]) -> Any:
    """The rule in the first place that is not empty: a number of seconds, or a function or a dotted path to one.

    Args:
        name: one of `RULES`.
        places: pairs of a place, as the user's code spells it, and what was found there; None for nothing.

    Raises:
        InvalidRuleError: if the rule cannot be used.
    """
    for place, found in places:
        if found is not None:
            return _seconds(place, found) if name == "teardown_timeout" else _function(place, found)
    return None


def _function(place: str, value: object) -> Any:
    if isinstance(value, str):
        value = import_path(value, partial(InvalidRuleError, place))
    if not callable(value):
        raise InvalidRuleError(place, f"expected a function or a dotted path to one, got {_kind(value)}")
    return value


def _seconds(place: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRuleError(place, f"expected a number of seconds, got {_kind(value)}")
    if not value > 0:
        raise InvalidRuleError(place, "expected a number of seconds above 0")
    return value


def _kind(value: object) -> str:
    return f"an object of type {type(value).__name__}"
