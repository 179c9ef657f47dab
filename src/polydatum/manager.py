"""DataManager: services, resources and middleware are registered with it, and it creates Contexts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, overload

from . import retrying
from .app_scope import AppResource, AppScopes
from .clients import BackedResource, Ping
from .commands import Command, CommandRegistry
from .context import Context, check_timeout
from .dispatch import CommandQueue, Dispatch, Inbox, Outbox
from .errors import ConfigurationError, InvalidResourceError, NoActiveContextError, UnknownResourceError
from .inspection import Problem, describe, dispatch_problems, problems
from .layer import DataAccessLayer, DynamicDAL
from .messages import Signer
from .meta import Meta
from .middleware import ContextMiddleware
from .opening import CLOSED, Placeholder, UnderWay
from .overriding import Override
from .pinging import PING_TIMEOUT, aping_all, ping_all
from .process import managers
from .registry import Registry
from .resources import RegisteredResource
from .services import Service, owned
from .unwinding import RollbackRule


class DynamicContext(Context):
    """The context of a manager without a ``context_class``, for type checkers: its resources are untyped."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


if TYPE_CHECKING:  # see polydatum.services
    from typing_extensions import TypeVar

    DalT = TypeVar("DalT", bound=DataAccessLayer, default=DynamicDAL)
    ContextT = TypeVar("ContextT", bound=Context, default=DynamicContext)
else:
    from typing import TypeVar

    DalT = TypeVar("DalT", bound=DataAccessLayer)
    ContextT = TypeVar("ContextT", bound=Context)
T = TypeVar("T")
DalT_co = TypeVar("DalT_co", covariant=True)
FactoryT = TypeVar("FactoryT", bound=Callable[..., Any])


class DalBlock(Protocol[DalT_co]):
    """The return type of `DataManager.dal`: a context whose ``with`` (or ``async with``) yields the DAL."""

    def __enter__(self) -> DalT_co: ...
    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None, /
    ) -> bool: ...
    async def __aenter__(self) -> DalT_co: ...
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None, /
    ) -> bool: ...


class DataManager(Generic[DalT, ContextT]):
    """Holds services, resources and middleware, and opens Contexts over them. One per application, made at import time.

    Args:
        dal_class: the class of the DAL; without one, services are registered by name.
        context_class: a Context subclass that declares the types of resources.
        resource_manager: resources to register at once, by name; for code written for polydatum 0.9.1, which may also
            pass them as the first argument.
        rollback_on: ``f(exc, status) -> bool``, called once when a context closes, in place of the default rule "an
            exception or a status of 400 or more rolls back". Interrupts and cancellations always roll back, without
            asking it.
        teardown_timeout: how many seconds all async steps of one close may take in total.
        commit_order: names of resources that may commit in the same context although no single commit covers them, in
            the order in which they commit. A failure between two commits makes the outcome ``"partial"``.

    Example:
        >>> class Clock(Service):
        ...     def now(self):
        ...         return self._ctx.time
        >>> class AppDAL(DataAccessLayer):
        ...     clock = Clock()
        >>> def time(context):
        ...     yield "12:00"
        >>> dm = DataManager(AppDAL)
        >>> dm.register_resources(time=time)
        >>> with dm.dal() as dal:
        ...     dal.clock.now()
        '12:00'
    """

    DataAccessLayer: ClassVar[type[DataAccessLayer]] = DynamicDAL
    """The class of the DAL if none is passed; a subclass may set another one."""

    @overload
    def __init__(
        self,
        dal_class: type[DalT],
        *,
        context_class: type[ContextT] = ...,
        rollback_on: RollbackRule | None = None,
        teardown_timeout: float = 5.0,
        commit_order: Sequence[str] = (),
    ) -> None: ...
    @overload
    def __init__(
        self,
        dal_class: Mapping[str, Any] | None = None,
        *,
        resource_manager: Mapping[str, Any] | None = None,
        context_class: type[ContextT] = ...,
        rollback_on: RollbackRule | None = None,
        teardown_timeout: float = 5.0,
        commit_order: Sequence[str] = (),
    ) -> None: ...
    def __init__(
        self,
        dal_class: Any = None,
        *,
        resource_manager: Mapping[str, Any] | None = None,
        context_class: type[Context] = Context,
        rollback_on: RollbackRule | None = None,
        teardown_timeout: float = 5.0,
        commit_order: Sequence[str] = (),
    ) -> None:
        if isinstance(dal_class, DataAccessLayer):
            name = type(dal_class).__name__
            raise ConfigurationError(f"DataManager takes the class of the DAL, not an instance: DataManager({name})")
        if dal_class is not None and not isinstance(dal_class, type):
            dal_class, resource_manager = None, dal_class  # its position in polydatum 0.9.1
        dal_class = dal_class or self.DataAccessLayer
        if not issubclass(dal_class, DataAccessLayer):
            raise ConfigurationError(f"DataManager takes a subclass of DataAccessLayer, not {dal_class.__name__}")
        if not issubclass(context_class, Context):
            raise ConfigurationError(f"context_class has to be a subclass of Context, not {context_class.__name__}")
        check_timeout(teardown_timeout)
        if isinstance(commit_order, str):
            raise ConfigurationError(
                f"commit_order has to be a sequence of names, such as [{commit_order!r}], not a string"
            )
        self._var: ContextVar[Any] = ContextVar("polydatum_context", default=None)
        self._current: Callable[[], Any] = self._var.get
        self._under_way = UnderWay()
        self._app = AppScopes(self._under_way)
        self._commit_order = tuple(commit_order)
        self._dispatch: Dispatch | None = None
        self._asks_for_resources = type(self).get_resource is not DataManager.get_resource
        self._asks_for_middleware = type(self).get_middleware is not DataManager.get_middleware
        of_contexts = {
            "_data_manager": self,
            "_under_way": self._under_way,
            "_set_up_placeholder": Placeholder("context middleware", self._under_way),
            "_var": self._var,
            "_limit": teardown_timeout,
            "_commit_order": self._commit_order,
            "_rollback_on": None if rollback_on is None else staticmethod(rollback_on),
        }
        self._registry = Registry(
            owned(dal_class)(),
            context_class,
            type(self),
            of_contexts,
            asks_for_resources=self._asks_for_resources,
            asks_for_middleware=self._asks_for_middleware,
            settles=rollback_on is not None,
        )
        self._registry.own_dal._bind(self)
        managers.add(self)
        self.register_resources(**dict(resource_manager or {}))

    # --- Contexts -----------------------------------------------------------------------------------------------------

    def context(
        self,
        meta: Mapping[str, Any] | Meta | None = None,
        *,
        rollback_on: RollbackRule | None = None,
        teardown_timeout: float | None = None,
        read_only: bool = False,
    ) -> ContextT:
        """A new Context, not open yet; use it with ``with`` or ``async with``. It is independent of an outer context.

        Args:
            meta: the read-only facts of the context, such as ``{"user": ..., "request": ...}``.
            rollback_on: the rule for this context, in place of the manager's.
            teardown_timeout: the limit for this context in seconds, in place of the manager's.
            read_only: ready-made backends have the server refuse writes; other resources may check ``ctx.read_only``.

        Raises:
            ConfigurationError: at the first context after a registration, if method middleware does not fit a method.
        """
        types = self._registry.composed or self._registry.compose()
        context = types.context(self, meta)
        if rollback_on is not None or teardown_timeout is not None or read_only:
            context._set_rules(rollback_on, teardown_timeout, read_only)
        return context  # type: ignore[no-any-return]

    def dal(
        self,
        meta: Mapping[str, Any] | Meta | None = None,
        *,
        rollback_on: RollbackRule | None = None,
        teardown_timeout: float | None = None,
        read_only: bool = False,
    ) -> DalBlock[DalT]:
        """Like `context`, but ``with dm.dal() as dal`` yields the DAL."""
        types = self._registry.composed or self._registry.compose()
        context = types.dal_context(self, meta)
        if rollback_on is not None or teardown_timeout is not None or read_only:
            context._set_rules(rollback_on, teardown_timeout, read_only)
        return context  # type: ignore[no-any-return]

    def run(
        self,
        fn: Callable[[DalT], T],
        *,
        attempts: int = 3,
        meta: Mapping[str, Any] | Meta | None = None,
        rollback_on: RollbackRule | None = None,
        teardown_timeout: float | None = None,
        read_only: bool = False,
    ) -> T:
        """Call ``fn(dal)`` in a context of its own and commit; retry if the database says that a retry may help.

        It is retried in a fresh context, after a growing random pause, on a serialization failure or deadlock (SQLSTATE
        40001 and 40P01, MariaDB 1213 and 1020, SQLite busy, MongoDB's transient transactions). Every other error,
        `CommitOutcomeUnknown` included, is raised at once, and so is an `ExceptionGroup` that contains another error.
        Work outside of transactions is repeated with each attempt.

        An attempt of which something may have been kept is never retried.

        Args:
            fn: the unit of work; its result is returned once it has committed.
            attempts: the maximum number of attempts, the first one included.
            meta: as in `context`; read again by each attempt.
            rollback_on: as in `context`.
            teardown_timeout: as in `context`.
            read_only: as in `context`.

        Raises:
            ConfigurationError: if ``attempts`` is less than 1, or ``fn`` is async.
            BaseException: whatever the last attempt raised.

        Example:
            >>> dm = DataManager()
            >>> dm.run(lambda dal: "done")
            'done'
        """
        block = partial(self.dal, meta, rollback_on=rollback_on, teardown_timeout=teardown_timeout, read_only=read_only)
        return retrying.run(block, fn, attempts)  # type: ignore[no-any-return]

    async def arun(
        self,
        fn: Callable[[DalT], Awaitable[T]],
        *,
        attempts: int = 3,
        meta: Mapping[str, Any] | Meta | None = None,
        rollback_on: RollbackRule | None = None,
        teardown_timeout: float | None = None,
        read_only: bool = False,
    ) -> T:
        """The async twin of `run`: ``fn(dal)`` is awaited in an async context, and refused if it is not awaitable."""
        block = partial(self.dal, meta, rollback_on=rollback_on, teardown_timeout=teardown_timeout, read_only=read_only)
        return await retrying.arun(block, fn, attempts)  # type: ignore[no-any-return]

    def get_dal(self) -> DalT:
        """The DAL. It is shared by all contexts: each call runs in the current context."""
        if self._registry.composed is None:
            self._registry.compose()
        return self._registry.dal  # type: ignore[no-any-return]

    def get_active_context(self) -> ContextT | None:
        """The current context of this thread or task; None if there is none or it has closed."""
        context = self._current()
        return None if context is None or context._state is CLOSED else context

    def require_active_context(self) -> ContextT:
        """The current context of this thread or task.

        Raises:
            NoActiveContextError: if there is none.
            ContextClosedError: if it has closed.
        """
        context = self._current()
        if context is None:
            raise NoActiveContextError("the DataManager")
        if context._state is CLOSED:
            raise context._closed_error("the DataManager")
        return context  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        registry = self.__dict__.get("_registry")  # None: a subclass has not called super().__init__() yet
        resources = {} if registry is None else registry.resources
        resource = resources.get(name)
        if isinstance(resource, AppResource) and self.get_active_context() is None:
            return self._app.touch(resource, self)
        if resource is None and (name.startswith("_") or not self._asks_for_resources):
            raise UnknownResourceError(name, resources)
        return getattr(self.require_active_context(), name)

    # --- Services -----------------------------------------------------------------------------------------------------

    def register_services(self, **services: Service[Any]) -> None:
        """Register services on the DAL: ``dm.register_services(items=ItemService())``. The instances are not copied.

        Raises:
            AlreadyRegisteredError: if a name is taken.
            InvalidServiceError: if it is not a Service, or is bound to another live DataManager.
        """
        self._registry.own_dal.register_services(**services)

    def replace_service(self, name: str, service: Service[Any]) -> Service[Any]:
        """Replace a service permanently; returns the former one. For tests see `override`."""
        return self._registry.own_dal.replace_service(name, service)  # type: ignore[no-any-return]

    # --- Resources ----------------------------------------------------------------------------------------------------

    def register_resources(self, **resources: Any) -> None:
        """Register resources by name: generator functions, context-manager factories, ... (see the guide on resources).

        Each is opened at most once per context, on first touch, with the context as argument.

        Raises:
            AlreadyRegisteredError: if a name is taken.
            InvalidResourceError: if the name is reserved, or the object is of an unsupported kind.
        """
        self._registry.add_resources(resources)

    def register_app_resources(self, **resources: Any) -> None:
        """Register resources of the app scope: one instance per process, of async ones one per event loop.

        Each is opened on first touch, with this manager as argument, and closed by `close` or `aclose`. A forked child
        opens its own.

        Raises:
            AlreadyRegisteredError: if a name is taken.
            InvalidResourceError: if the name is reserved, or the object is of an unsupported kind.
        """
        self._registry.add_app_resources(resources)

    def replace_resource(self, name: str, resource: Any) -> None:
        """Replace a resource permanently, for contexts opened later. For tests see `override`.

        Contexts that are open keep the former one, so what it has opened in the app scope stays open until `close`.

        Raises:
            UnknownResourceError: if there is no resource of that name.
            InvalidResourceError: if the object is of an unsupported kind.
        """
        self._registry.replace_resource(name, resource)

    def get_resource(self, name: str) -> Any:
        """The resource registered under a name, as it was registered.

        A subclass may override it to supply resources that are not registered; unknown attributes of a context are then
        looked up here.

        Raises:
            UnknownResourceError: if there is no resource of that name.
        """
        return self._registry.resource(name).registered

    def resource(self, factory: FactoryT) -> FactoryT:
        """Decorator: register a function as a resource, under the function's name."""
        self.register_resources(**{factory.__name__: factory})
        return factory

    # --- Middleware ---------------------------------------------------------------------------------------------------

    def register_context_middleware(self, *middleware: Any) -> None:
        """Register middleware that surrounds every context: generator functions of the context, the first outermost.

        Raises:
            InvalidMiddlewareError: if it is of an unsupported kind.
        """
        self._registry.add_context_middleware(middleware)

    def context_middleware(self, factory: FactoryT) -> FactoryT:
        """Decorator: register a context middleware."""
        self.register_context_middleware(factory)
        return factory

    def get_middleware(self, context: Any) -> Iterable[Any]:
        """The context middleware to set up for a context, outermost first. A subclass may override it to choose."""
        return [one.factory for one in self._registry.context_middleware]

    def register_method_middleware(self, *middleware: Any) -> None:
        """Register middleware that surrounds every DAL call, the first outermost.

        Raises:
            InvalidMiddlewareError: if it is of an unsupported kind. Whether it fits every method is checked at the
                first context.
        """
        self._registry.add_method_middleware(middleware)

    def method_middleware(self, fn: FactoryT) -> FactoryT:
        """Decorator: register a method middleware."""
        self.register_method_middleware(fn)
        return fn

    # --- Commands -----------------------------------------------------------------------------------------------------

    def command(self, path: str, /, *args: Any, **kwargs: Any) -> Command[Any]:
        """A call of a service method as a value, to be run elsewhere or later: ``dm.command("reports.rebuild", 5)``.

        The typed spelling is ``command(dal.reports.rebuild, 5)``.

        Args:
            path: the path of a method marked with `polydatum.command`.
            args: its positional arguments, which have to be JSON: strings, numbers, booleans, None, lists and dicts.
            kwargs: its keyword arguments, likewise.

        Raises:
            InvalidCommandPath: if the path is malformed.
            UnknownCommand: if there is no such method.
            CommandNotAllowed: if the method is not marked.
            InvalidCommandArguments: if the arguments do not fit the method, are not JSON, or are larger than 64 KiB.
        """
        return self._commands().find(path).called(self, args, kwargs)

    def register_command_queue(
        self,
        queue: CommandQueue,
        *,
        outbox: Outbox | None = None,
        inbox: Inbox | None = None,
        signer: Signer | None = None,
    ) -> None:
        """Set where commands are sent; the same in sending processes and in workers. Replaces an earlier registration.

        Args:
            queue: sends commands to workers, such as ``celery_polydatum.CeleryQueue(app)``.
            outbox: stores commands enqueued by ``ctx.enqueue(command, reliable=True)`` until they have been sent.
            inbox: lets workers drop messages that they have already handled.
            signer: signs messages, and lets workers refuse messages that are not validly signed.

        Raises:
            ConfigurationError: if one of them is of the wrong type, or the retention of the inbox is shorter than the
                signer's ``max_age`` plus 60 seconds for clocks that differ.
        """
        self._dispatch = Dispatch(self, queue, outbox, inbox, signer)

    @property
    def dispatch(self) -> Dispatch:
        """What `register_command_queue` was given, for code that carries messages: workers and relays.

        Raises:
            ConfigurationError: if it was not called.
        """
        if self._dispatch is None:
            raise ConfigurationError("no queue for commands; register one with dm.register_command_queue(...)")
        return self._dispatch

    # --- Tests, start-up, shutdown ------------------------------------------------------------------------------------

    def override(
        self, *, services: Mapping[str, Service[Any]] | None = None, resources: Mapping[str, Any] | None = None
    ) -> Override:
        """Use other services (by path) or resources (by name) inside the block.

        It applies to the whole process, for contexts opened in the block; contexts that are already open keep what they
        have. Blocks may nest. At the end of a block, its app resources and the clients of its backends are closed if
        they were opened. ``async with`` also closes those of its event loop, which otherwise stay open until `aclose`.
        An error while closing them is raised, or noted on the exception that the block raised.

        Raises:
            UnknownCommand: if there is no service at a path.
            UnknownResourceError: if there is no resource of a name.

        Example:
            >>> from polydatum import ValueResource
            >>> dm = DataManager()
            >>> dm.register_resources(rate=ValueResource(1))
            >>> with dm.override(resources={"rate": ValueResource(2)}), dm.context() as ctx:
            ...     ctx.rate
            2
        """
        replaced = {name: self._registry.replacement_for(name, factory) for name, factory in (resources or {}).items()}
        override = Override(self._registry, self._app, dict(services or {}), replaced)
        self._registry.dal._with_services(override.services)  # raises if a service cannot be overridden
        return override

    def check(self) -> list[Problem]:
        """Find configuration problems without opening anything. Run it in a test or at start-up.

        It reports name clashes, unknown names in ``commit_order``, middleware that does not fit a method, generators
        whose code after the yield does not run when a request fails, and an outbox or inbox whose resource is missing
        or of the wrong kind.
        """
        registry = self._registry
        found = problems(
            registry.dal,
            registry.resources.values(),
            registry.context_middleware,
            registry.method_middleware,
            () if self._asks_for_resources else self._commit_order,
        )
        if self._dispatch is not None and not self._asks_for_resources:
            found += dispatch_problems(self, {"outbox": self._dispatch.outbox, "inbox": self._dispatch.inbox})
        return found

    def describe(self) -> dict[str, Any]:
        """Services, methods, resources and middleware as plain data, for tools."""
        registry = self._registry
        return describe(
            registry.dal, registry.resources.values(), registry.context_middleware, registry.method_middleware
        )

    def get_client(self, name: str) -> Any:
        """The client of a `Backend`, such as an engine or a pool, created now if there is none; awaitable if async.

        For start-up work such as creating tables. The client belongs to the manager, which closes it. If the backend
        was given a client of your own, it is that one.

        Raises:
            UnknownResourceError: if there is no resource of that name.
            InvalidResourceError: if the resource is not a backend.
        """
        resource = self._registry.resource(name)
        if not isinstance(resource, BackedResource):
            raise InvalidResourceError(
                name, "it is not a backend, so it has no client; open a context and use the resource itself"
            )
        return resource.client_for(self)

    def ping(self, *, timeout: float = PING_TIMEOUT) -> dict[str, Ping]:
        """Check that the servers behind all backends answer, outside of any context.

        All are asked at once, each in a thread of its own. Exceptions of clients are not raised but reported in the
        result, and exceeding the time limit as a ``TimeoutError``. A server that has not answered the last ping is not
        asked again; that ping is waited for. An async backend is asked in an event loop of its own, with a client that
        is created for the ping and then closed; if the backend was given a client, an ``AsyncResourceError`` is
        reported, as only `aping` can ask it.

        Args:
            timeout: in seconds, for all pings together.

        Raises:
            ConfigurationError: if the timeout is not above 0.

        Example:
            >>> DataManager().ping()
            {}
        """
        check_timeout(timeout, "timeout")
        return ping_all(self._registry.backed_resources(), self, timeout)

    async def aping(self, *, timeout: float = PING_TIMEOUT) -> dict[str, Ping]:  # noqa: ASYNC109 -- it raises nothing
        """The async twin of `ping`: async backends are asked with the clients of the running event loop."""
        check_timeout(timeout, "timeout")
        return await aping_all(self._registry.backed_resources(), self, timeout)

    def close(self) -> None:
        """Close the resources of the app scope. The manager can still be used: they are opened again on the next touch.

        Those still open when the interpreter exits are closed then, except async ones. If another thread or task is
        already closing them, a second caller waits until it is done.

        Raises:
            AsyncResourceError: if async ones of an event loop that has not ended are open; the others are closed first.
            ResourceCycleError: if it is called in the teardown of one of them.
            BaseException: the first error that one of them raised, once all are closed.
        """
        self._app.close()

    async def aclose(self) -> None:
        """The async twin of `close`: also closes the async resources of the running event loop."""
        await self._app.aclose()

    def __repr__(self) -> str:
        return f"<DataManager of {self._registry.dal!r}, {len(self._registry.resources)} resources>"

    # --- For other modules --------------------------------------------------------------------------------------------

    def _services_changed(self) -> None:
        self._registry.services_changed()

    def _commands(self) -> CommandRegistry:
        return self._registry.commands()

    def _generated(self, context_class: type[Context]) -> type[Context]:
        """For a Context class that is instantiated directly, as code for polydatum 0.9.1 does."""
        return self._registry.types.of(context_class)

    def _middleware_for(self, context: Any) -> Iterable[ContextMiddleware]:
        if not self._asks_for_middleware:
            return self._registry.context_middleware
        known = {id(one.factory): one for one in self._registry.context_middleware}
        return [known.get(id(one)) or ContextMiddleware(one) for one in self.get_middleware(context)]

    def _supplied(self, name: str) -> RegisteredResource:
        return self._registry.resources.get(name) or self._registry.supplied(name, self.get_resource(name))

    def _after_fork(self) -> None:
        """In a forked child, what was open belongs to the parent: contexts are unusable, app resources open again."""
        self._registry.forget_after_fork()
        self._under_way.clear()  # their threads did not survive the fork
        self._app.forget_after_fork()
