"""What is registered with a DataManager, and what new contexts find of it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol
from weakref import WeakSet

from .app_scope import AppResource
from .clients import AsyncBackend, BackedResource, Backend
from .commands import CommandRegistry
from .context import Context
from .errors import AlreadyRegisteredError, InvalidResourceError, UnknownResourceError
from .generated import ContextTypes
from .middleware import ContextMiddleware, MethodMiddleware
from .opening import UnderWay
from .resources import RegisteredResource
from .services import Service


class Overrides(Protocol):
    """Temporary replacements of services, by path, and of resources, by name."""

    services: dict[str, Service[Any]]
    resources: dict[str, RegisteredResource]


class Registry:
    """Services, resources and middleware of one manager, and the Context classes that are generated from them.

    Attributes:
        own_dal: the DAL with the registered services.
        dal: the same with the current overrides.
        resources: the resources by name, with the current overrides.
        context_middleware: the context middleware, in order of registration.
        method_middleware: the method middleware, likewise.
        types: the Context classes generated from all of that.
        composed: the same once the services are wrapped in the method middleware; None if `compose` has to be called.
    """

    dal: Any
    resources: dict[str, RegisteredResource]
    types: ContextTypes
    composed: ContextTypes | None

    def __init__(
        self,
        own_dal: Any,
        context_class: type[Context],
        manager_class: type,
        members: Mapping[str, Any],
        *,
        asks_for_resources: bool,
        asks_for_middleware: bool,
        settles: bool,
    ) -> None:
        """An empty registry.

        ``members``: what Context classes have of their manager. ``asks_for_resources``, ``asks_for_middleware``: the
        manager's class overrides how they are chosen. ``settles``: the manager has a rollback rule of its own.
        """
        self.own_dal = own_dal
        self.context_middleware: list[ContextMiddleware] = []
        self.method_middleware: list[MethodMiddleware] = []
        self._context_class = context_class
        self._manager_class = manager_class
        self._members = members
        self._under_way: UnderWay = members["_under_way"]
        self._asks_for_resources = asks_for_resources
        self._asks_for_middleware = asks_for_middleware
        self._settles = settles
        self._mutex = threading.RLock()
        self._registered: dict[str, RegisteredResource] = {}
        self._overrides: list[Overrides] = []
        self._all_types: WeakSet[ContextTypes] = WeakSet()
        self._commands: CommandRegistry | None = None
        self._regenerate()

    # --- Resources ----------------------------------------------------------------------------------------------------

    def resource(self, name: str) -> RegisteredResource:
        """The resource that contexts find under a name.

        Raises:
            UnknownResourceError: if there is none.
        """
        resource = self.resources.get(name)
        if resource is None:
            raise UnknownResourceError(name, self.resources)
        return resource

    def backed_resources(self) -> list[BackedResource]:
        """The resources that are backends."""
        return [one for one in self.resources.values() if isinstance(one, BackedResource)]

    def add_resources(self, factories: Mapping[str, Any]) -> None:
        """Register resources of contexts, all or none. See `DataManager.register_resources`."""
        self._add([self._of_contexts(name, factory) for name, factory in factories.items()])

    def add_app_resources(self, factories: Mapping[str, Any]) -> None:
        """Register resources of the application, all or none. See `DataManager.register_app_resources`."""
        self._add([AppResource(name, factory, self._under_way) for name, factory in factories.items()])

    def replace_resource(self, name: str, factory: Any) -> None:
        """See `DataManager.replace_resource`."""
        former = self._registered.get(name)
        if former is None:
            raise UnknownResourceError(name, self._registered)
        self._registered[name] = self._in_place_of(former, factory)
        self._regenerate()

    def replacement_for(self, name: str, factory: Any) -> RegisteredResource:
        """A replacement for the resource of that name: of the same scope, and not registered.

        Raises:
            UnknownResourceError: if there is none.
        """
        return self._in_place_of(self.resource(name), factory)

    def supplied(self, name: str, factory: Any) -> RegisteredResource:
        """A resource that contexts find although it is not registered: the manager supplies it."""
        resource = RegisteredResource(name, factory, self._under_way)
        self.types.give(resource)
        return resource

    def _in_place_of(self, former: RegisteredResource, factory: Any) -> RegisteredResource:
        if isinstance(former, AppResource):
            return AppResource(former.name, factory, self._under_way)
        return self._of_contexts(former.name, factory)

    def _of_contexts(self, name: str, factory: Any) -> RegisteredResource:
        if isinstance(factory, Backend | AsyncBackend):
            return BackedResource(name, factory, self._under_way)
        return RegisteredResource(name, factory, self._under_way)

    def _add(self, resources: Sequence[RegisteredResource]) -> None:
        for resource in resources:
            name = resource.name
            if name in self._registered:
                raise AlreadyRegisteredError("resource", name)
            if not name.isidentifier() or name.startswith("_"):
                raise InvalidResourceError(name, "the name has to be a public identifier")
            if hasattr(self._context_class, name) or hasattr(self._manager_class, name):
                raise InvalidResourceError(name, "Context or DataManager has an attribute of that name; choose another")
        for resource in resources:
            self._registered[resource.name] = self.resources[resource.name] = resource
            self.types.give(resource)

    # --- Middleware ---------------------------------------------------------------------------------------------------

    def add_context_middleware(self, middleware: Iterable[Any]) -> None:
        """See `DataManager.register_context_middleware`."""
        self.context_middleware += [ContextMiddleware(one) for one in middleware]
        self._flag()

    def add_method_middleware(self, middleware: Iterable[Any]) -> None:
        """See `DataManager.register_method_middleware`."""
        self.method_middleware += [MethodMiddleware(one) for one in middleware]
        self.composed = None

    # --- What contexts find -------------------------------------------------------------------------------------------

    def apply(self, overrides: Overrides) -> None:
        """Apply overrides to contexts that are made from now on."""
        with self._mutex:
            self._overrides.append(overrides)
            self._regenerate()

    def undo(self, overrides: Overrides) -> None:
        """Undo `apply`."""
        with self._mutex:  # blocks of several threads may end in any order
            self._overrides.remove(overrides)
            self._regenerate()

    def services_changed(self) -> None:
        """Called by the DAL when a service was added or replaced."""
        if self._overrides:
            self._regenerate()
        if self.composed is None or not self.method_middleware:
            self.composed = None
        else:
            self.compose()  # contexts may be open already: the new service must not run without its middleware

    def compose(self) -> ContextTypes:
        """Wrap the services in the method middleware.

        Raises:
            InvalidMiddlewareError: if it does not fit a method.
        """
        with self._mutex:
            self.dal._compose(self.method_middleware, self._members["_var"].get)
            self._commands = None
            self.composed = types = self.types
        return types

    def commands(self) -> CommandRegistry:
        """The methods that may be run as commands."""
        if self.composed is None:
            self.compose()
        commands = self._commands
        if commands is None:
            commands = self._commands = CommandRegistry(self.dal)
        return commands

    def _regenerate(self) -> None:
        """Apply all overrides to what is registered, and generate Context classes; existing contexts keep theirs."""
        self.dal, self.resources = self.own_dal, dict(self._registered)
        for overrides in self._overrides:
            if overrides.services:
                self.dal = self.dal._with_services(overrides.services)
            self.resources.update(overrides.resources)
        members = {**self._members, "dal": self.dal, "_mutex": self._mutex}
        self.types = ContextTypes(self._context_class, members, asks_manager=self._asks_for_resources)
        self._all_types.add(self.types)
        for resource in self.resources.values():
            self.types.give(resource)
        self._flag()
        self.composed = None

    def _flag(self) -> None:
        self.types.flag(sets_up=bool(self.context_middleware) or self._asks_for_middleware, settles=self._settles)

    def forget_after_fork(self) -> None:
        """In a forked child, contexts made before the fork belong to the parent."""
        self._mutex = threading.RLock()  # another thread of the parent may have held the former one
        for types in list(self._all_types):
            types.refuse_after_fork(self._mutex)
        self._regenerate()
