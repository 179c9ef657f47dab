"""The Context classes that a DataManager generates: one for each context class it is used with.

A generated class carries what belongs to the manager (its ContextVar, its DAL, its limits) and one descriptor per
resource, so that a context itself holds next to nothing, and a touched resource is an ordinary attribute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .blocks import block_methods
from .context import Context
from .errors import ContextClosedError
from .meta import Meta, own_facts
from .opening import CLOSED, CREATED
from .outcome import Outcome
from .resources import RegisteredResource

PREPARED_NAMES = 20


class ContextTypes:
    """The generated classes of one manager, generated again when a resource is replaced or overridden.

    Attributes:
        context: the class behind `DataManager.context`.
        dal_context: the class behind `DataManager.dal`.
    """

    def __init__(self, context_class: type[Context], members: Mapping[str, Any], asks_manager: bool) -> None:
        self._members = dict(members)
        if asks_manager:
            self._members["__getattr__"] = _ask_manager
        self._resources: dict[str, RegisteredResource] = {}
        self._sets_up = self._settles = False
        self._types: dict[type, type[Context]] = {}
        self.context: Any = self.of(context_class)
        giving_dal = self._blocks(context_class, members["dal"])
        self.dal_context: Any = self._add(
            context_class, (_GivesDal, self.context), {name: giving_dal[name] for name in giving_dal if "enter" in name}
        )

    def of(self, context_class: type[Context]) -> type[Context]:
        """The generated subclass of a context class."""
        generated = self._types.get(context_class)
        if generated is None:
            members = {**self._members, **self._blocks(context_class)}
            if context_class.__init__ is Context.__init__:
                members["__init__"] = _fast_init
            generated = self._types[context_class] = self._add(context_class, (context_class,), members)
        return generated

    def _blocks(self, context_class: type[Context], dal: Any = None) -> dict[str, Any]:
        """The fast methods, except those that the context class overrides."""
        fast = block_methods(self._members["_var"], self._members["_under_way"], dal)
        return {name: fast[name] for name in fast if getattr(context_class, name) is getattr(Context, name)}

    def _add(self, context_class: type[Context], bases: tuple[type, ...], members: Mapping[str, Any]) -> Any:
        names = {"__module__": context_class.__module__, "__qualname__": context_class.__qualname__}
        generated: Any = type(context_class.__name__, bases, {**names, "__doc__": context_class.__doc__, **members})
        self._types[generated] = generated
        for resource in self._resources.values():
            setattr(generated, resource.name, resource)
        _prepare_names(generated, self._resources)
        self._flag(generated)
        return generated

    def give(self, resource: RegisteredResource) -> None:
        """Add a resource to all classes."""
        self._resources[resource.name] = resource
        for generated in set(self._types.values()):
            setattr(generated, resource.name, resource)
            if len(self._resources) <= PREPARED_NAMES:
                _prepare_names(generated, (resource.name,))

    def flag(self, *, sets_up: bool, settles: bool) -> None:
        """Set whether something runs at every open, and whether more than the default rule runs at every close."""
        self._sets_up, self._settles = sets_up, settles
        for generated in set(self._types.values()):
            self._flag(generated)

    def _flag(self, generated: type[Context]) -> None:
        """The hooks of polydatum 0.9.1 count only if the context class overrides them."""
        hooked = {
            name: getattr(generated, name) is not getattr(Context, name)
            for name in ("_setup_hook", "_teardown_hook", "_final_hook")
        }
        generated._sets_up = self._sets_up or hooked["_setup_hook"]
        generated._settles = self._settles or hooked["_teardown_hook"] or hooked["_final_hook"]
        generated._plain = not (generated._sets_up or generated._settles)

    def refuse_after_fork(self, mutex: Any) -> None:
        """In a forked child, earlier contexts belong to the parent, and are closed without being touched."""
        for generated in set(self._types.values()):
            generated._mutex = mutex
            generated.__getattribute__ = _refuse_after_fork  # type: ignore[method-assign, assignment]


class _GivesDal:
    """Mixin for the context class of `DataManager.dal`: entering returns the DAL instead of the context."""

    dal: Any

    def __enter__(self) -> Any:
        super().__enter__()  # type: ignore[misc]
        return self.dal

    async def __aenter__(self) -> Any:
        await super().__aenter__()  # type: ignore[misc]
        return self.dal


def _fast_init(self: Context, data_manager: Any, meta: Mapping[str, Any] | Meta | None = None) -> None:
    self._meta = meta if meta is None else own_facts(meta)
    self._state = CREATED
    self._opened = self._home = None


def _ask_manager(self: Context, name: str) -> Any:
    """Attributes that only an overridden `DataManager.get_resource` knows: opened like any other resource."""
    if name.startswith("_"):
        raise AttributeError(name)
    return self._data_manager._supplied(name).__get__(self)


def _prepare_names(generated: type[Context], names: Iterable[str]) -> None:
    """Let CPython reserve instance slots for the first resources: later names make every context more expensive."""
    probe = object.__new__(generated)
    for name in ("_meta", "_state", "_token", "_opened", "_home", *list(names)[:PREPARED_NAMES]):
        object.__setattr__(probe, name, None)


_inherited: dict[int, Context] = {}  # kept forever: dropping them would run the teardown of the parent's resources

_FORKED = Outcome("unknown", reason="the context belongs to the parent process")


def _refuse_after_fork(self: Context, name: str) -> Any:
    """Replaces attribute access of contexts that were made before a fork."""
    if name == "_state":
        _inherited[id(self)] = self
        return CLOSED
    if name == "_outcome":
        return _FORKED
    if isinstance(getattr(type(self), name, None), RegisteredResource):
        raise ContextClosedError(
            name, hint="it was made before this process was forked and belongs to the parent; open a new one"
        )
    return object.__getattribute__(self, name)
