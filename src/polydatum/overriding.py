"""Blocks in which other services and resources stand in the place of those that are registered."""

from __future__ import annotations

from contextlib import ContextDecorator
from types import TracebackType
from typing import Any

from .clients import BackedResource
from .resources import RegisteredResource
from .services import Service


class Override(ContextDecorator):
    """One block of `DataManager.override`, for ``with`` or ``async with``.

    Attributes:
        services: what stands in the place of others, by path.
        resources: likewise, by name.
    """

    def __init__(
        self, data_manager: Any, services: dict[str, Service[Any]], resources: dict[str, RegisteredResource]
    ) -> None:
        self._data_manager = data_manager
        self.services = services
        self.resources = resources

    def __enter__(self) -> None:
        with self._data_manager._mutex:
            self._data_manager._overrides.append(self)
            self._data_manager._apply_overrides()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._take_back()
        self._data_manager._app.close_only(self._of_the_application(), exc)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._take_back()
        await self._data_manager._app.aclose(self._of_the_application(), exc)

    def _take_back(self) -> None:
        with self._data_manager._mutex:  # blocks of several threads may end in any order
            self._data_manager._overrides.remove(self)
            self._data_manager._apply_overrides()

    def _of_the_application(self) -> list[RegisteredResource]:
        """What lives longer than contexts, if it was opened at all."""
        found: list[RegisteredResource] = []
        for one in self.resources.values():
            found += one.of_the_application if isinstance(one, BackedResource) else [one]
        return found
