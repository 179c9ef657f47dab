"""Services: business logic and data access, nested to any depth."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Self

from .callables import is_routine
from .errors import AlreadyRegisteredError, InvalidServiceError, NoActiveContextError

if TYPE_CHECKING:  # checkers know type variables with defaults (PEP 696) on every version, Python 3.11 does not
    from typing_extensions import TypeVar

    ContextT = TypeVar("ContextT", default=Any)
else:
    from typing import TypeVar

    ContextT = TypeVar("ContextT")


def _unbound() -> Any:
    return None


class Service(Generic[ContextT]):
    """Base class of services. The DAL offers their public methods; nested services are class attributes or registered.

    A service is created once and serves every Context, so it must not keep request state: that is in ``self._ctx``.
    ``Service[ShopContext]`` gives ``self._ctx`` its type. A subclass need not call ``super().__init__()``.

    Inside a method:

    * ``self._ctx`` is the current Context; ``self._ctx.db`` opens or returns a resource.
    * ``self._dal`` is the DAL, for calls that go through method middleware; ``self.other()`` bypasses it.
    * ``self._data_manager`` is the DataManager; ``self._data_manager.db`` is another spelling of ``self._ctx.db``.

    Example:
        >>> from polydatum import DataManager
        >>> class Greeter(Service):
        ...     def greet(self):
        ...         return f"hello {self._ctx.meta.user}"
        >>> dm = DataManager()
        >>> dm.register_services(greeter=Greeter())
        >>> with dm.dal(meta={"user": "ann"}) as dal:
        ...     dal.greeter.greet()
        'hello ann'
    """

    _manager_ref: Callable[[], Any] = staticmethod(_unbound)  # weak: a service does not keep its manager alive
    _current: Callable[[], Any] = staticmethod(_unbound)
    _subservices: dict[str, Service[Any]] | None = None
    _bare: dict[str, Service[Any]] | None = None  # only on a DAL, whose attributes may hold proxies

    @property
    def _data_manager(self) -> Any:
        return self._manager_ref()

    @_data_manager.setter
    def _data_manager(self, data_manager: Any) -> None:
        self._manager_ref = weakref.ref(data_manager)

    @property
    def _ctx(self) -> ContextT:
        context = self._current()
        if context is None:
            raise NoActiveContextError(f"service {type(self).__name__}")
        return context  # type: ignore[no-any-return]

    @property
    def _dal(self) -> Any:
        context: Any = self._ctx
        return context.dal

    def register_services(self, **services: Service[Any]) -> Self:
        """Nest services under this one; returns self, so that registrations can be written nested.

        Raises:
            AlreadyRegisteredError: if the name is taken by a service.
            InvalidServiceError: if it is not a Service, is bound to another live DataManager, or the name is not
                allowed or taken by another attribute.
        """
        for name, service in services.items():
            check_name(self, name, service)
            nested = self._subservices
            if nested is None:
                nested = self._subservices = {}
            nested[name] = service
            setattr(self, name, service)
            if self._data_manager is not None:
                bind(service, name, self._data_manager)
                self._data_manager._services_changed()
        return self

    def setup(self, data_manager: Any) -> None:
        """Called once when this service is bound to its manager, after nested ones. Override to prepare; call super."""
        self._data_manager = data_manager
        self._current = data_manager._current


def check_kind(name: str, service: Any) -> None:
    """Refuse anything that is not a Service; a mock only looks like one."""
    if isinstance(service, type):
        raise InvalidServiceError(name, f"it is the class {service.__name__}; register an instance")
    if not issubclass(type(service), Service):
        raise InvalidServiceError(
            name,
            "it is not a Service; a test double has to be one, too: subclass Service, or patch methods of the real one",
        )


def check_name(holder: Any, name: str, service: Any) -> None:
    """Refuse a service that cannot be registered on a holder (a service or the DAL) under this name."""
    check_kind(name, service)
    if name == "dal":
        raise InvalidServiceError(name, "paths begin with 'dal' for the DAL itself; choose another name")
    if not name.isidentifier() or name.startswith("_"):
        raise InvalidServiceError(name, "the name has to be a public identifier")
    registered = holder._bare if holder._bare is not None else holder._subservices or ()
    if name in registered or name in class_services(type(holder)):
        raise AlreadyRegisteredError("service", name)
    if any(name in vars(cls) for cls in type(holder).__mro__):
        raise InvalidServiceError(name, f"{type(holder).__name__} has an attribute of that name; choose another")


def nested_services(service: Any) -> Iterator[tuple[str, Service[Any]]]:
    """The services directly below a service or DAL: class attributes in order of definition, then registered ones."""
    if service._bare is not None:
        yield from service._bare.items()
        return
    of_class = class_services(type(service))
    for name, value in of_class.items():
        current = getattr(service, name, value)
        if isinstance(current, Service):
            yield name, current
    yield from (service._subservices or {}).items()


def owned(cls: Any) -> Any:
    """The class for an object that holds its own copies of its class's services, with a slot for each of them.

    CPython reads an instance attribute that shadows a class attribute on a slow path, at every call; a slot avoids
    that. The object has to be created from this class, as changing its class later costs the same again.
    """
    names = tuple(class_services(cls))
    if not names or "_owned" in vars(cls):
        return cls
    members = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls,), {**members, "__slots__": names, "_owned": True})


def _is_ours(cls: type) -> bool:
    return cls in (object, Generic, Service) or "_owned" in vars(cls)


def class_services(cls: type) -> dict[str, Service[Any]]:
    """The services that are attributes of a class or its bases, in order of definition."""
    found: dict[str, Service[Any]] = {}
    for base in reversed(cls.__mro__):
        if _is_ours(base):
            continue  # no services there; the slots of an owned class shadow services of its bases
        for name, value in vars(base).items():
            if isinstance(value, Service):
                if not name.startswith("_"):
                    found[name] = value
            elif found:
                found.pop(name, None)  # a subclass removes a service
    return found


def copy_of(holder: Any) -> Any:
    """A shallow copy of a service or DAL.

    Copied attribute by attribute: ``copy.copy`` fills the instance's ``__dict__``, which makes later reads slow on
    3.11.
    """
    cls = owned(type(holder))
    if hasattr(cls, "__copy__") or any(
        "__slots__" in vars(base) for base in type(holder).__mro__ if not _is_ours(base)
    ):
        return copy.copy(holder)
    clone = cls.__new__(cls)
    for name, value in vars(holder).items():
        object.__setattr__(clone, name, value)
    for name, service in nested_services(holder):
        setattr(clone, name, service)
    return clone


def _clone(service: Service[Any]) -> Service[Any]:
    """A copy of a service, with copies of everything nested below it."""
    clone: Service[Any] = copy_of(service)
    registered = service._subservices
    if registered is not None:
        clone._subservices = dict(registered)
    for name, nested in nested_services(service):
        copied = _clone(nested)
        setattr(clone, name, copied)
        if registered is not None and name in registered:
            clone._subservices[name] = copied  # type: ignore[index]
    return clone


def clone_class_services(holder: Any) -> None:
    """Give a service or DAL its own copies of the services that it still shares with its class.

    Each manager binds its own copies, so that two managers of one DAL class never answer for each other.
    """
    for cls in type(holder).__mro__:
        for name, value in vars(cls).items():
            if isinstance(value, type) and issubclass(value, Service):
                raise InvalidServiceError(name, f"it is the class {value.__name__}; write {value.__name__}()")
    for name, service in class_services(type(holder)).items():
        if getattr(holder, name, service) is service:  # a slot of an owned class is empty at first
            setattr(holder, name, _clone(service))


def bind(service: Service[Any], name: str, data_manager: Any) -> None:
    """Bind a service to a DataManager, after all services nested below it.

    Raises:
        InvalidServiceError: if it is bound to another DataManager that is still alive.
    """
    if service._data_manager not in (None, data_manager):
        gc.collect()  # a manager and its generated classes form a cycle: a dead one may not have been collected yet
    if service._data_manager not in (None, data_manager):
        raise InvalidServiceError(
            name, "it is bound to another DataManager; make an instance for each, or put it on the DAL class"
        )
    clone_class_services(service)
    for nested_name, nested in list(nested_services(service)):
        bind(nested, nested_name, data_manager)
    service.setup(data_manager)


def public_methods(service: Any) -> dict[str, Any]:
    """The public methods that a service's class and its user-defined bases define, by name."""
    found: dict[str, Any] = {}
    for cls in reversed(type(service).__mro__):
        if cls in (object, Generic) or issubclass(Service, cls):
            continue
        for name, value in vars(cls).items():
            if name.startswith("_"):
                continue
            function = value.__func__ if isinstance(value, staticmethod | classmethod) else value
            if is_routine(function) and not hasattr(Service, name):
                found[name] = value
            else:
                found.pop(name, None)
    return found


def methods_below(holder: Any, prefix: str = "") -> Iterator[tuple[str, Service[Any], Any]]:
    """All public methods below a service or DAL: the path, the service, and the method as its class holds it."""
    for name, service in nested_services(holder):
        for method, function in public_methods(service).items():
            yield f"{prefix}{name}.{method}", service, function
        yield from methods_below(service, f"{prefix}{name}.")
