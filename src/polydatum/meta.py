"""Meta: the read-only facts of one Context (the user, the request, its parameters)."""

from __future__ import annotations

import threading
from collections.abc import Callable, ItemsView, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Generic, NoReturn, TypeVar

from .errors import MetaKeyError, MetaReadOnlyError

T = TypeVar("T")

_ALWAYS: Mapping[str, Any] = MappingProxyType({"user": None, "request": None, "params": MappingProxyType({})})
_MISSING: Any = object()


class lazy(Generic[T]):
    """A Meta value that is evaluated on first access, and only once.

    The function runs in the thread or task that reads the value first. If it raises, the error reaches that reader and
    the next access tries again. If it returns another ``lazy``, that one is evaluated, too: an authentication may put
    one where an adapter looks for the user. Every other callable in Meta is an ordinary value.

    Example:
        >>> meta = Meta({"user": lazy(lambda: "ann")})
        >>> meta.user
        'ann'
    """

    __slots__ = ("_fn", "_lock", "_value")

    def __init__(self, fn: Callable[[], T]) -> None:
        self._fn: Callable[[], T] | None = fn
        self._lock = threading.RLock()
        self._value: T = _MISSING

    def evaluate(self) -> T:
        """The value, evaluated now if it has not been yet."""
        if self._value is _MISSING:
            with self._lock:
                if self._fn is not None:
                    value: Any = self._fn()
                    self._value = value.evaluate() if type(value) is lazy else _frozen(value)
                    self._fn = None  # drop what the function closes over: requests are large
        return self._value


def own_facts(meta: Any) -> Any:
    """What a context keeps of the ``meta`` it is given: a dict is copied, so that the caller may change theirs."""
    if type(meta) is dict:
        return meta.copy()
    if type(meta) not in _mapping_types:
        if not isinstance(meta, Meta | Mapping):
            raise TypeError(f"meta is a mapping of facts by name, not {type(meta).__name__}")
        if len(_mapping_types) < 100:  # pragma: no branch - nobody has as many
            _mapping_types.add(type(meta))
    return meta


_mapping_types: set[type] = set()  # seen so far: `isinstance` with an abstract class costs more than a whole context


def _frozen(value: Any) -> Any:
    """Dicts, lists and sets become read-only copies, at every level; other values stay as they are."""
    kind = type(value)  # not ``isinstance``, which asks a proxy for its class, and so loads the user behind it
    if issubclass(kind, dict):
        return MappingProxyType({key: _frozen(item) for key, item in value.items()})
    if issubclass(kind, list) or kind is tuple:
        return tuple([_frozen(item) for item in value])
    if issubclass(kind, set):
        return frozenset(value)
    return value


class LazyFacts:
    """Mixin for a mapping whose facts a Meta looks up one by one, when they are read; others are copied at once.

    The first value that was looked up is kept. Use a `lazy` for a value that takes long, or must not be computed twice.
    """

    __slots__ = ()


class _LazyValues(dict[str, Any]):
    """The facts read so far from a `LazyFacts`; others are looked up on access. All names are known from the start."""

    __slots__ = ("facts",)

    facts: Any

    def __missing__(self, key: str) -> Any:
        try:
            value = self.facts[key]
        except KeyError:
            if key not in _ALWAYS:
                raise
            value = _ALWAYS[key]
        return self.setdefault(key, value if type(value) is lazy else _frozen(value))

    def _names(self) -> dict[str, None]:
        return dict.fromkeys((*_ALWAYS, *self.facts, *self.keys()))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __contains__(self, key: object) -> bool:
        return key in self._names()


class Meta:
    """Read-only facts of one Context, by attribute or key.

    ``user``, ``request`` and ``params`` always exist (None, None and an empty mapping). Dicts, lists and sets inside
    are frozen when the Meta is created. `lazy` values are evaluated on first access and stay readable after the Context
    has closed. A key that is also the name of a method is read as ``meta["items"]``.

    Example:
        >>> meta = Meta({"user": "ann", "tenant": 7})
        >>> meta.user, meta["tenant"], meta.get("missing", 0), meta.request
        ('ann', 7, 0, None)
    """

    __slots__ = ("_values",)

    _values: dict[str, Any]

    def __init__(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        if hasattr(self, "_values"):
            raise MetaReadOnlyError
        facts: dict[str, Any]
        if isinstance(values, LazyFacts):
            facts = late = _LazyValues()
            late.facts = values
            values = None
        else:
            facts = {**_ALWAYS}
        for source in (values, more):
            if source:
                facts.update({key: _frozen(value) for key, value in source.items()})
        object.__setattr__(self, "_values", facts)

    def _read(self, key: str) -> Any:
        values = self._values
        value = values[key]
        if type(value) is lazy:
            value = values[key] = value.evaluate()
        return value

    def __getattr__(self, name: str) -> Any:
        if name == "_values" or name.startswith("__"):
            raise AttributeError(name)  # protocols that probe for dunders expect a plain AttributeError
        values = self._values
        try:
            value = values[name]  # `_read`, inlined
            if type(value) is lazy:
                value = values[name] = value.evaluate()
            return value
        except KeyError:
            if name in values:
                raise  # a lazy value failed with a KeyError of its own
        raise MetaKeyError(name, values)

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            raise MetaKeyError(key, self._values)
        return self._read(key)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or ``default`` if it was never set."""
        return self._read(key) if key in self._values else default

    def require(self, key: str) -> Any:
        """The value of a key that has to exist and not be None; falsy values such as 0 are accepted.

        Raises:
            MetaKeyError: if the key was never set, or is None.
        """
        value = self.get(key)
        if value is None:
            raise MetaKeyError(key, self._values)
        return value

    def keys(self) -> tuple[str, ...]:
        """The names of all facts, ``user``, ``request`` and ``params`` included."""
        return tuple(self._values)

    def items(self) -> ItemsView[str, Any]:
        """All facts as pairs; lazy ones are evaluated."""
        return {key: self._read(key) for key in self._values}.items()

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Meta {', '.join(self._values)}>"  # keys only: values may be secret

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise MetaReadOnlyError

    def __delattr__(self, name: str) -> NoReturn:
        raise MetaReadOnlyError

    def __setitem__(self, key: str, value: Any) -> NoReturn:
        raise MetaReadOnlyError

    def __delitem__(self, key: str) -> NoReturn:
        raise MetaReadOnlyError

    def __copy__(self) -> NoReturn:
        raise TypeError("meta belongs to one context and is not copied; read the values you need")

    def __deepcopy__(self, memo: Any) -> NoReturn:
        self.__copy__()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("meta is not pickled; send the values you need, such as a user id")
