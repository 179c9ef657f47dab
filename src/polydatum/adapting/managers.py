"""Finding the DataManager when an application starts."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from polydatum.errors import ConfigurationError, shown
from polydatum.manager import DataManager


class ManagerNotFoundError(ConfigurationError):
    """An adapter found no DataManager, or could not import it.

    Attributes:
        places: where it looked, as the user's code spells it.
    """

    def __init__(self, places: Iterable[str], problem: str = "") -> None:
        self.places = tuple(places)
        self.problem = problem
        super().__init__(self.places, problem)

    def __str__(self) -> str:
        if self.problem:
            return f"{self.places[0]}: {self.problem}"
        return f"no DataManager found; set one of these: {', '.join(self.places)}"


class InvalidManagerError(ConfigurationError):
    """An adapter found something else where the DataManager should be."""

    def __init__(self, place: str, found: str) -> None:
        super().__init__(place, found)
        self.place = place
        self.found = found

    def __str__(self) -> str:
        return f"{self.place}: expected a DataManager or a dotted path to one, got {self.found}"


def find_manager(*places: tuple[str, object]) -> DataManager[Any, Any]:
    """The DataManager in the first place that is not empty: given itself, or as a dotted path like ``"shop.data.dm"``.

    Call it when the application starts, so that a mistake shows then and not at the first request.

    Args:
        places: pairs of a place, as the user's code spells it, and what was found there; None for nothing.

    Raises:
        ManagerNotFoundError: if all places are empty, or the path leads nowhere.
        InvalidManagerError: if it is not a DataManager.

    Example:
        >>> find_manager(("MyAdapter(data_manager=...)", None), ("config['DATA_MANAGER']", DataManager()))
        <DataManager of <DynamicDAL >, 0 resources>
    """
    for place, found in places:
        if found is None:
            continue
        manager: Any = import_path(found, partial(ManagerNotFoundError, [place])) if isinstance(found, str) else found
        if not isinstance(manager, DataManager):
            is_class = isinstance(manager, type)
            kind = f"the class {manager.__name__}" if is_class else f"an object of type {type(manager).__name__}"
            raise InvalidManagerError(place, kind)
        return manager
    raise ManagerNotFoundError([place for place, _ in places])


def import_path(path: str, refusal: Callable[[str], Exception]) -> object:
    """The object at a dotted path such as ``"shop.data.dm"``.

    Args:
        path: the path; a colon may precede the attribute.
        refusal: makes the error to raise, from a description of the problem.

    Raises:
        Exception: what ``refusal`` made, if the path leads nowhere.
    """
    module_name, _, attribute = path.replace(":", ".").rpartition(".")
    if not module_name:
        raise refusal(f"{shown(path)} is not a dotted path such as 'shop.data.dm'")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise refusal(f"cannot import {shown(path)}: {error}") from error
    except AttributeError as error:
        raise refusal(f"module {shown(module_name)} has no {shown(attribute)}") from error
