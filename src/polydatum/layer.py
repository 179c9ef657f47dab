"""The data access layer: access to the services, by attribute or by path."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self

from .errors import UnknownCommand
from .middleware import MethodMiddleware, compose
from .paths import split_path
from .services import (
    Service,
    bind,
    check_kind,
    check_name,
    clone_class_services,
    copy_of,
    nested_services,
    public_methods,
)


class DataAccessLayer:
    """Base class of your DAL. Class attributes that are Services are reached as ``dal.items``.

    One DAL serves every context of its DataManager: it is shared, and each call runs in the current context. Without
    method middleware ``dal.items`` is the service itself, at no cost.

    Example:
        >>> class ItemService(Service):
        ...     def double(self, n):
        ...         return 2 * n
        >>> class ShopDAL(DataAccessLayer):
        ...     items = ItemService()
        >>> from polydatum import DataManager
        >>> with DataManager(ShopDAL).dal() as dal:
        ...     dal.items.double(4), dal["items.double"](5)
        (8, 10)
    """

    _data_manager: Any = None
    _subservices: dict[str, Service[Any]] | None = None  # as on services: registered on the instance
    _bare: dict[str, Service[Any]] | None = None  # all services, not the proxies that the attributes may hold
    _resolved: dict[str, tuple[Any, str]]

    def register_services(self, **services: Service[Any]) -> Self:
        """Register services by name; returns self. The instances are not copied.

        Raises:
            AlreadyRegisteredError: if a name is taken by another service.
            InvalidServiceError: if it is not a Service, is bound to another live DataManager, or the name is not
                allowed.
        """
        for name, service in services.items():
            check_name(self, name, service)
            bind(service, name, self._data_manager)
            self._add(name, service)
        return self

    def replace_service(self, name: str, service: Service[Any]) -> Service[Any]:
        """Replace a service permanently (in tests use ``dm.override``); returns the former one.

        Raises:
            UnknownCommand: if there is no service of that name.
            InvalidServiceError: if it is not a Service, or bound to another live DataManager.
        """
        services = dict(nested_services(self))
        former = services.get(name)
        if former is None:
            raise UnknownCommand(name, f"there is no such service (registered: {', '.join(services) or 'none'})")
        check_kind(name, service)
        bind(service, name, self._data_manager)
        self._add(name, service)
        return former

    def __getitem__(self, path: str) -> Callable[..., Any]:
        """The service method at a path, such as ``dal["items.get_item"]``; middleware included.

        A path goes through registered services only and ends in a public method that the service's class defines.

        Raises:
            InvalidCommandPath: if the path is malformed.
            UnknownCommand: if there is no such service or method.
        """
        resolved = self._resolved.get(path) if type(path) is str else None
        if resolved is None:
            resolved = self._resolved[path] = self._resolve(path)
        service, method = resolved
        return getattr(service, method)  # type: ignore[no-any-return]

    def _resolve(self, path: str) -> tuple[Any, str]:
        *names, method = split_path(path)
        service: Any = self
        shown: Any = self
        for name in names:
            service = dict(nested_services(service)).get(name)
            if service is None:
                raise UnknownCommand(path, f"there is no service {name!r} on this path")
            shown = getattr(shown, name)
        if method not in public_methods(service):
            raise UnknownCommand(path, f"{type(service).__name__} has no public method {method!r}")
        return shown, method

    def _add(self, name: str, service: Service[Any]) -> None:
        assert self._bare is not None
        self._resolved.clear()
        self._bare[name] = service
        setattr(self, name, service)
        self._data_manager._services_changed()

    def _bind(self, data_manager: Any) -> None:
        """Bind the services of the class to a manager; called once, by the manager."""
        self._data_manager = data_manager
        self._resolved = {}
        clone_class_services(self)
        self._bare = dict(nested_services(self))
        for name, service in self._bare.items():
            bind(service, name, data_manager)

    def _with_services(self, services: dict[str, Service[Any]]) -> Self:
        """A copy of this DAL with other services at some paths; those not replaced stay the same objects."""
        other: Self = copy_of(self)
        other._bare = dict(nested_services(self))
        other._resolved = {}
        for path, service in services.items():
            *parents, last = path.split(".")
            if last not in dict(nested_services(_at(self, parents, path))):
                raise UnknownCommand(path, "there is no such service to override")
            check_kind(path, service)
        for path, service in services.items():
            *parents, last = path.split(".")
            bind(service, path, self._data_manager)
            holder: Any = other
            for name in parents:
                clone = copy_of(dict(nested_services(holder))[name])
                _put(holder, name, clone)
                holder = clone
            _put(holder, last, service)
        return other

    def _compose(self, middleware: Iterable[MethodMiddleware], current: Callable[[], Any]) -> None:
        """Wrap every public method in the method middleware, or unwrap it if there is none."""
        middleware = tuple(middleware)
        self._resolved.clear()
        for name, service in nested_services(self):
            setattr(self, name, _proxied(service, name, middleware, current) if middleware else service)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(name for name, _ in nested_services(self))}>"


class DynamicDAL(DataAccessLayer):
    """The DAL of ``DataManager()``: its services are registered by name, so type checkers see none of them."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def _at(dal: DataAccessLayer, names: Iterable[str], path: str) -> Any:
    holder: Any = dal
    for name in names:
        holder = dict(nested_services(holder)).get(name)
        if holder is None:
            raise UnknownCommand(path, f"there is no service {name!r} on this path")
    return holder


def _put(holder: Any, name: str, service: Service[Any]) -> None:
    setattr(holder, name, service)
    for registry in ("_bare", "_subservices"):
        services = getattr(holder, registry)
        if services is not None and name in services:
            setattr(holder, registry, {**services, name: service})


# --- Method middleware around services --------------------------------------------------------------------------------

# What the proxy answers itself, and what concerns the class rather than its instances.
_NOT_FORWARDED = {
    *("__class__", "__new__", "__init__", "__init_subclass__", "__del__", "__doc__", "__repr__", "__dir__"),
    *("__getattribute__", "__getattr__", "__setattr__", "__delattr__", "__class_getitem__"),
}


class ServiceProxy:
    """A service as callers of the DAL see it: public methods go through the middleware, all else to the service."""

    _service: Any
    _composed: dict[str, Callable[..., Any]]

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return type(self._service)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    def __setattr__(self, name: str, value: Any) -> None:
        composed = self._composed.get(name)
        if composed is None:
            setattr(self._service, name, value)
            return
        # A method is patched, as by mock.patch.object, or restored.
        object.__setattr__(self, name, value)
        if value is not composed:
            setattr(self._service, name, value)
        elif name in vars(self._service):
            delattr(self._service, name)

    def __delattr__(self, name: str) -> None:
        delattr(self._service, name)
        if name in self._composed:
            object.__setattr__(self, name, self._composed[name])

    def __dir__(self) -> Iterable[str]:
        return dir(self._service)

    def __repr__(self) -> str:
        return repr(self._service)


def _proxied(
    service: Service[Any], path: str, middleware: tuple[MethodMiddleware, ...], current: Callable[[], Any]
) -> Any:
    proxy = _proxy_type(type(service))()
    put = object.__setattr__
    composed = {
        name: compose(middleware, getattr(service, name), f"{path}.{name}", current) for name in public_methods(service)
    }
    put(proxy, "_service", service)
    put(proxy, "_composed", composed)
    for name, method in composed.items():
        put(proxy, name, method)
    for name, nested in nested_services(service):
        put(proxy, name, _proxied(nested, f"{path}.{name}", middleware, current))
    return proxy


def _proxy_type(service_class: type) -> type[ServiceProxy]:
    """A proxy class that forwards the special methods of the service's class: Python looks those up on the type."""
    special = {
        name: _forward(name)
        for cls in service_class.__mro__
        if cls is not object and not issubclass(Service, cls)
        for name, value in vars(cls).items()
        if name.startswith("__") and name.endswith("__") and name not in _NOT_FORWARDED and callable(value)
    }
    return type("ServiceProxy", (ServiceProxy,), special)


def _forward(name: str) -> Callable[..., Any]:
    def forward(self: ServiceProxy, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._service, name)(*args, **kwargs)

    return forward
