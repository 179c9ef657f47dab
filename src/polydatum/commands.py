"""Commands: calls of service methods that can be stored, sent to another process, and run there or here.

Only a method marked with `command` can be run as one. Paths are looked up in a registry that is built when the services
are composed; nothing of a message ever reaches ``getattr``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NoReturn, ParamSpec, Self, TypeVar, overload

from .callables import is_coroutine_function
from .errors import (
    AsyncResourceError,
    CommandError,
    CommandNotAllowed,
    ConfigurationError,
    InvalidCommandArguments,
    UnknownCommand,
)
from .messages import arguments_as_json, from_json
from .paths import split_path
from .services import Service, methods_below

if TYPE_CHECKING:
    from inspect import Signature

T = TypeVar("T")
P = ParamSpec("P")
ServiceT = TypeVar("ServiceT", bound=Service[Any])
Progress = Callable[[float, float | None], object]
"""Called with the progress of a command: ``f(done, total)``."""

_MARK = "_polydatum_command"


@overload
def command(method: Callable[Concatenate[ServiceT, P], T], /) -> Callable[Concatenate[ServiceT, P], T]: ...
@overload
def command(method: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Command[T]: ...
def command(method: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Mark a service method as one that may be run as a command; or make the command that calls it.

    As a decorator it returns the method unchanged. With a method of a DAL, as in ``command(dal.reports.rebuild, 5)``,
    it is the typed spelling of `DataManager.command`. A subclass that overrides the method has to mark it again: what
    may be run from outside is declared where it is written.

    Raises:
        ConfigurationError: if the decorated object is not a plain method, or the called method does not belong to a
            registered service.
        CommandNotAllowed: if the method is not marked.
        InvalidCommandArguments: if the arguments do not fit the method, or cannot be sent as JSON.

    Example:
        >>> from polydatum import DataAccessLayer, DataManager
        >>> class Reports(Service):
        ...     @command
        ...     def rebuild(self, year: int) -> str:
        ...         return f"report of {year}"
        >>> class AppDAL(DataAccessLayer):
        ...     reports = Reports()
        >>> dm = DataManager(AppDAL)
        >>> command(dm.get_dal().reports.rebuild, 2026).run()
        'report of 2026'
        >>> dm.command("reports.rebuild", year=2027)
        <Command reports.rebuild>
    """
    bound = method if isinstance(method, MethodType) else getattr(method, "__wrapped__", None)
    if isinstance(bound, MethodType) and isinstance(bound.__self__, Service):
        manager = bound.__self__._data_manager
        if manager is None:
            raise ConfigurationError(f"{bound.__qualname__} is a method of a service that is not registered yet")
        return manager._commands().at(bound).called(manager, args, kwargs)
    if _is_of_a_class(method if bound is None else bound, Service):
        raise ConfigurationError(
            f"{method.__qualname__} is a function of a class, and belongs to no DataManager: name the method by the DAL, "
            "command(dal.reports.rebuild, ...), or by its path, dm.command('reports.rebuild', ...); to allow it as a command, "
            "decorate it where it is written"
        )
    if args or kwargs or not isinstance(method, FunctionType):
        raise ConfigurationError(
            "command() marks a plain method of a service, or takes one of a registered service with its arguments"
        )
    setattr(method, _MARK, True)
    return method


def _is_of_a_class(function: Any, cls: type) -> bool:
    """Whether a function was defined in the body of a complete subclass: then it is not about to be decorated."""
    name = getattr(function, "__name__", "")
    subclasses: list[type] = cls.__subclasses__()
    for sub in subclasses:
        own = vars(sub).get(name)
        is_own = getattr(own, "__func__", own) is function  # a staticmethod holds its function
        if (is_own and function.__qualname__ == f"{sub.__qualname__}.{name}") or _is_of_a_class(function, sub):
            return True
    return False


def is_command(method: Any) -> bool:
    """Whether a method, as its class holds it, is marked."""
    return getattr(getattr(method, "__func__", method), _MARK, False) is True  # of a staticmethod, its function is


class Command(Generic[T]):
    """A call of a service method that has not happened yet: a path and arguments that are JSON.

    Made by `command` or `DataManager.command`. It never changes, and can be run or sent any number of times.

    Attributes:
        path: the path of the method, such as ``"reports.rebuild"``.
    """

    __slots__ = ("_arguments", "_data_manager", "path")

    def __init__(self, data_manager: Any, path: str, arguments: str) -> None:
        self._data_manager = data_manager
        self.path = path
        self._arguments = arguments

    @property
    def args(self) -> list[Any]:
        """The positional arguments, as they will arrive: tuples have become lists."""
        args: list[Any] = from_json(self._arguments)[0]
        return args

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments."""
        kwargs: dict[str, Any] = from_json(self._arguments)[1]
        return kwargs

    @property
    def is_async(self) -> bool:
        """Whether its method is a coroutine function."""
        return self._registered.is_async

    @property
    def _registered(self) -> RegisteredCommand:
        found: RegisteredCommand = self._data_manager._commands().find(self.path)
        return found

    def call(self) -> T:
        """Call the method in the current context, middleware included; an async method returns its coroutine.

        Raises:
            NoActiveContextError: if the method uses its context, and there is none.
        """
        args, kwargs = from_json(self._arguments)
        return self._registered.method(*args, **kwargs)  # type: ignore[no-any-return]

    def run(self, *, meta: Mapping[str, Any] | None = None, attempts: int = 3, progress: Progress | None = None) -> T:
        """Call the method here and now, in a fresh context that commits; retried like `DataManager.run`.

        Args:
            meta: as for `DataManager.context`.
            attempts: as for `DataManager.run`.
            progress: ``f(done, total)``, called with what the method reports by ``ctx.progress(...)``.

        Raises:
            AsyncResourceError: if the method is async; await `arun`.
            BaseException: whatever the method, or the end of the context, raises.
        """
        if self.is_async:
            raise AsyncResourceError(self.path, "is an async method; await its arun()", f"command {self.path!r}")
        return self._data_manager.run(partial(self._call, progress), attempts=attempts, meta=meta)  # type: ignore[no-any-return]

    async def arun(
        self, *, meta: Mapping[str, Any] | None = None, attempts: int = 3, progress: Progress | None = None
    ) -> Any:
        """The async twin of `run`; an async method is awaited. A sync method blocks the loop."""

        async def called(dal: Any) -> Any:
            result = self._call(progress, dal)
            return await result if self.is_async else result  # type: ignore[misc]

        return await self._data_manager.arun(called, attempts=attempts, meta=meta)

    def _call(self, progress: Progress | None, dal: Any) -> T:
        if progress is not None:
            self._data_manager.require_active_context().on_progress(progress)
        return self.call()

    def send(self, *, id: str | None = None, **options: Any) -> Any:
        """Send the command to a worker at once, whatever becomes of the current context.

        Args:
            id: the id of the message, by which an inbox detects duplicates; by default a new one.
            options: passed to the queue.

        Returns:
            What the queue returns: with Celery an ``AsyncResult``, whose id is the message's.

        Raises:
            ConfigurationError: if no queue is registered, or it cannot take this command.
            Exception: what the queue raises if it cannot be reached.
        """
        return self._data_manager.dispatch.send(self, id, options)

    def send_on_commit(self, *, id: str | None = None, **options: Any) -> str:
        """Send it once the current context has committed, and not at all if it rolls back; without a context, at once.

        The message is lost if the process dies right after the commit, or if the queue cannot be reached then: that is
        logged, and changes neither the outcome nor the answer. ``ctx.enqueue(command, reliable=True)`` does not lose
        it.

        Args:
            id: as in `send`.
            options: as in `send`.

        Returns:
            The id of the message.

        Raises:
            ConfigurationError: if no queue is registered, or it cannot take this command.
            ContextClosedError: if the current context has closed.
        """
        return self._data_manager.dispatch.send_on_commit(self, id, options)  # type: ignore[no-any-return]

    def __reduce__(self) -> NoReturn:
        raise CommandError(
            f"{self!r} cannot be pickled, as it belongs to the DataManager of this process: send() it to a worker, or hand on "
            "its path, args and kwargs, and make it anew there, dm.command(path, *args, **kwargs)"
        )

    def __copy__(self) -> Self:
        return self  # it never changes

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Command) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[Any, ...]:
        return self._data_manager, self.path, self._arguments

    def __repr__(self) -> str:
        return f"<Command {self.path}>"  # arguments may be secret


class RegisteredCommand:
    """A marked method at its path, on the service as shown with its middleware."""

    def __init__(self, path: str, shown: Any, signature: Signature, is_async: bool) -> None:
        self.path = path
        self._shown = shown
        self._name = path.rpartition(".")[2]
        self.signature = signature
        self.is_async = is_async

    @property
    def method(self) -> Callable[..., Any]:
        """The method to run, looked up when it runs: a test may have patched it."""
        method: Callable[..., Any] = getattr(self._shown, self._name)
        return method

    def called(self, data_manager: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Command[Any]:
        """The command with these arguments.

        Raises:
            InvalidCommandArguments: if they do not fit the method, or cannot be sent as JSON.
        """
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError:
            raise InvalidCommandArguments(self.path, f"its arguments have to fit {self.signature}") from None
        return Command(data_manager, self.path, arguments_as_json(self.path, args, kwargs))


class CommandRegistry:
    """The commands of a DAL, built once, when its services are composed."""

    def __init__(self, dal: Any) -> None:
        import inspect  # here: it costs more than all of polydatum, and many have no commands

        self._by_path: dict[str, RegisteredCommand] = {}
        self._by_method: dict[Any, RegisteredCommand] = {}
        self._others: set[str] = set()
        for path, service, function in methods_below(dal):
            if not is_command(function):
                self._others.add(path)
                continue
            where, _, method = path.rpartition(".")
            bound = getattr(service, method)
            shown = attrgetter(where)(dal)  # with its middleware
            registered = RegisteredCommand(path, shown, inspect.signature(bound), is_coroutine_function(bound))
            self._by_path[path] = self._by_method[bound] = registered

    def at(self, method: Any) -> RegisteredCommand:
        """The command of a bound service method.

        Raises:
            CommandNotAllowed: if the method is not a command.
        """
        found = self._by_method.get(method)
        if found is None:
            raise CommandNotAllowed(method.__qualname__)
        return found

    def find(self, path: str, *, hints: bool = True) -> RegisteredCommand:
        """The command at a path; with ``hints`` an error may suggest another one, which strangers should not see.

        Raises:
            InvalidCommandPath: if the path is malformed.
            UnknownCommand: if there is no such method.
            CommandNotAllowed: if the method is not a command.
        """
        found = self._by_path.get(path) if type(path) is str else None
        if found is None:
            path = ".".join(split_path(path))
            found = self._by_path.get(path)
        if found is not None:
            return found
        if path in self._others:
            raise CommandNotAllowed(path)
        import difflib

        near = difflib.get_close_matches(path, self._by_path, 1) if hints else ()
        raise UnknownCommand(path, f"did you mean {near[0]!r}?" if near else "there is no such method of a service")
