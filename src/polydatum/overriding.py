"""Blocks in which other services and resources replace those that are registered."""

from __future__ import annotations

from contextlib import ContextDecorator
from types import TracebackType
from typing import Any

from .app_scope import AppScopes
from .clients import BackedResource
from .registry import Registry
from .resources import RegisteredResource
from .services import Service


class Override(ContextDecorator):
    """One block of `DataManager.override`, for ``with`` or ``async with``.

    Attributes:
        services: the replacements of services, by path.
        resources: the replacements of resources, by name.
    """

    def __init__(
        self,
        registry: Registry,
        app: AppScopes,
        services: dict[str, Service[Any]],
        resources: dict[str, RegisteredResource],
    ) -> None:
        self._registry = registry
        self._app = app
        self.services = services
        self.resources = resources

    def __enter__(self) -> None:
        self._registry.apply(self)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._registry.undo(self)
        self._app.close_only(self._of_the_application(), exc)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._registry.undo(self)
        await self._app.aclose(self._of_the_application(), exc)

    def _of_the_application(self) -> list[RegisteredResource]:
        """The replacements that may be open in the app scope."""
        found: list[RegisteredResource] = []
        for one in self.resources.values():
            found += one.of_the_application if isinstance(one, BackedResource) else [one]
        return found
