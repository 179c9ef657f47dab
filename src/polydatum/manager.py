"""DataManager: where services, resources and middleware are registered, and Contexts are made."""

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
from .inspection import Problem, describe, problems, unfit
from .layer import DataAccessLayer, DynamicDAL
from .messages import Signer
from .meta import Meta
from .middleware import ContextMiddleware
from .opening import CLOSED, Mark, UnderWay
from .overriding import Override
from .pinging import PING_TIMEOUT, aping_all, ping_all
from .process import managers
from .registry import Registry
from .resources import RegisteredResource
from .services import Service, owned
from .unwinding import RollbackRule


class DynamicContext(Context):
    """The context of a manager without a ``context_class``, for type checkers: its resources have no types."""

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
    """What `DataManager.dal` returns: a context whose ``with`` (or ``async with``) gives the DAL."""

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
        resource_manager: resources to register at once, by name; polydatum 0.9.1's, also as the first argument.
        rollback_on: ``f(exc, status) -> bool``, asked once when a context closes, in place of the plain rule "an
            exception or a status of 400 or more rolls back". Interrupts and cancellation always roll back, unasked.
        teardown_timeout: seconds that all async steps of one close may take together.
        commit_order: names of resources that may commit in one context although no commit covers them as one, in the
            order in which they shall. A failure between two commits leaves the context ``"partial"``.

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
    """The class of the DAL where none is passed; may be set on a subclass."""

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
            dal_class, resource_manager = None, dal_class  # where polydatum 0.9.1 had it
        dal_class = dal_class or self.DataAccessLayer
        if not issubclass(dal_class, DataAccessLayer):
            raise ConfigurationError(f"DataManager takes a subclass of DataAccessLayer, not {dal_class.__name__}")
        if not issubclass(context_class, Context):
            raise ConfigurationError(f"context_class has to be a subclass of Context, not {context_class.__name__}")
        check_timeout(teardown_timeout)
        if isinstance(commit_order, str):
            raise ConfigurationError(f"commit_order is a sequence of names, such as [{commit_order!r}], not a text")
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
            "_set_up_mark": Mark("context middleware", self._under_way),
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
        """A new Context, not open yet; use it with ``with`` or ``async with``. Inside another one it is independent.

        Args:
            meta: the read-only facts of the context, such as ``{"user": ..., "request": ...}``.
            rollback_on: for this context, in place of the manager's.
            teardown_timeout: likewise, in seconds.
            read_only: let ready-made backends have the server refuse writes; others may look at ``ctx.read_only``.

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
        """Like `context`, but ``with dm.dal() as dal`` gives the DAL."""
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
        """Call ``fn(dal)`` in a context of its own and commit, anew if a database says that trying again may help.

        Tried again, in a fresh context, after a serialization failure or deadlock (SQLSTATE 40001 and 40P01, MariaDB
        1213 and 1020, SQLite busy, MongoDB's transient transactions), with a growing random pause between; every other error,
        `CommitOutcomeUnknown` included, is raised at once, and so is an `ExceptionGroup` that holds another one. Work outside
        of transactions happens as often as it is tried.

        Nothing is tried again of which something may have been kept.

        Args:
            fn: the unit of work; its result is returned once it has committed.
            attempts: how often it is tried at most, the first time included.
            meta: as in `context`; read anew by each attempt.
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
        """The async twin of `run`: ``fn(dal)`` is awaited in an async context. Refused if it cannot be."""
        block = partial(self.dal, meta, rollback_on=rollback_on, teardown_timeout=teardown_timeout, read_only=read_only)
        return await retrying.arun(block, fn, attempts)  # type: ignore[no-any-return]

    def get_dal(self) -> DalT:
        """The DAL. It is shared by all contexts: a call runs in the context that is current."""
        if self._registry.composed is None:
            self._registry.compose()
        return self._registry.dal  # type: ignore[no-any-return]

    def get_active_context(self) -> ContextT | None:
        """The context that is current in this thread or task, or None if there is none or it has closed."""
        context = self._current()
        return None if context is None or context._state is CLOSED else context

    def require_active_context(self) -> ContextT:
        """The context that is current in this thread or task.

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
        registry = self.__dict__.get("_registry")  # None: a subclass has not called us yet
        resources = {} if registry is None else registry.resources
        resource = resources.get(name)
        if isinstance(resource, AppResource) and self.get_active_context() is None:
            return self._app.touch(resource, self)
        if resource is None and (name.startswith("_") or not self._asks_for_resources):
            raise UnknownResourceError(name, resources)
        return getattr(self.require_active_context(), name)

    # --- Services -----------------------------------------------------------------------------------------------------

    def register_services(self, **services: Service[Any]) -> None:
        """Register services on the DAL: ``dm.register_services(items=ItemService())``. What is registered is not copied.

        Raises:
            AlreadyRegisteredError: if a name is taken.
            InvalidServiceError: if it is not a Service, or is bound to another live DataManager.
        """
        self._registry.own_dal.register_services(**services)

    def replace_service(self, name: str, service: Service[Any]) -> Service[Any]:
        """Put another service in the place of one, for good; returns the former one. For tests see `override`."""
        return self._registry.own_dal.replace_service(name, service)  # type: ignore[no-any-return]

    # --- Resources ----------------------------------------------------------------------------------------------------

    def register_resources(self, **resources: Any) -> None:
        """Register resources by name: generator functions, context-manager factories, ... (see the guide on resources).

        Each is opened at most once per context, on first touch, with the context as argument.

        Raises:
            AlreadyRegisteredError: if a name is taken.
            InvalidResourceError: if the name is reserved, or the object is of no known shape.
        """
        self._registry.add_resources(resources)

    def register_app_resources(self, **resources: Any) -> None:
        """Register resources of the application's scope: one per process, async ones per event loop.

        Each is opened on first touch, with this manager as argument, and closed by `close` or `aclose`. A forked child
        opens its own.

        Raises:
            AlreadyRegisteredError: if a name is taken.
            InvalidResourceError: if the name is reserved, or the object is of no known shape.
        """
        self._registry.add_app_resources(resources)

    def replace_resource(self, name: str, resource: Any) -> None:
        """Put another resource in the place of one, for good and for contexts opened later. For tests see `override`.

        Contexts that are open keep the former one, so what that has opened for the application stays open until `close`.

        Raises:
            UnknownResourceError: if there is no resource of that name.
            InvalidResourceError: if the object is of no known shape.
        """
        self._registry.replace_resource(name, resource)

    def get_resource(self, name: str) -> Any:
        """The resource registered under a name, as it was registered.

        A subclass may override it to supply resources that are registered nowhere; then unknown attributes of a context
        are asked for here.

        Raises:
            UnknownResourceError: if there is none of that name.
        """
        return self._registry.resource(name).registered

    def resource(self, factory: FactoryT) -> FactoryT:
        """Decorator: register a function as the resource of its name."""
        self.register_resources(**{factory.__name__: factory})
        return factory

    # --- Middleware ---------------------------------------------------------------------------------------------------

    def register_context_middleware(self, *middleware: Any) -> None:
        """Register middleware that surrounds every context: generators of the context, the first outermost.

        Raises:
            InvalidMiddlewareError: if it is of no known shape.
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
            InvalidMiddlewareError: if it is of no known shape. Whether it fits every method is seen at the first open.
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
            path: of a method marked with `polydatum.command`.
            args: its arguments, which have to be JSON: text, numbers, booleans, None, lists and dicts.
            kwargs: likewise, by name.

        Raises:
            InvalidCommandPath: if the text is no path.
            UnknownCommand: if there is no such method.
            CommandNotAllowed: if the method is not marked.
            InvalidCommandArguments: if the arguments do not fit the method, are not JSON, or larger than 64 KiB.
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
        """Say where commands are sent; the same in the processes that send and in the workers. Replaces an earlier one.

        Args:
            queue: to workers, such as ``celery_polydatum.CeleryQueue(app)``.
            outbox: keeps what ``ctx.enqueue(command, reliable=True)`` is given, until it has been sent.
            inbox: lets workers drop what they have done already.
            signer: signs messages, and lets workers refuse others.

        Raises:
            ConfigurationError: if one of them is none of its kind.
        """
        self._dispatch = Dispatch(self, queue, outbox, inbox, signer)

    @property
    def dispatch(self) -> Dispatch:
        """What `register_command_queue` was given, for those that carry messages: workers and relays.

        Raises:
            ConfigurationError: if nothing was.
        """
        if self._dispatch is None:
            raise ConfigurationError("no queue for commands: dm.register_command_queue(...) says where they are sent")
        return self._dispatch

    # --- Tests, start-up, shutdown ------------------------------------------------------------------------------------

    def override(
        self, *, services: Mapping[str, Service[Any]] | None = None, resources: Mapping[str, Any] | None = None
    ) -> Override:
        """Use other services (by path) or resources (by name) inside the block.

        In the whole process, for contexts opened in the block; those that are open already keep what they have. Blocks
        may nest. At the end of a block the clients of its backends and its app resources are closed, if they were opened:
        of ``async with`` those of its event loop, too, which otherwise stay open until `aclose`. An error of that is raised,
        or noted on what the block raised.

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
        replaced = {name: self._registry.stand_in(name, factory) for name, factory in (resources or {}).items()}
        override = Override(self._registry, self._app, dict(services or {}), replaced)
        self._registry.dal._with_services(override.services)  # refuses what cannot be
        return override

    def check(self) -> list[Problem]:
        """What will go wrong, found without opening anything. Run it in a test or at start-up.

        Name clashes, unknown names in ``commit_order``, middleware that does not fit a method, generators whose code after
        the yield does not run when a request fails, and an outbox or inbox whose resource is missing or of the wrong kind.
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
            found += unfit(self, {"outbox": self._dispatch.outbox, "inbox": self._dispatch.inbox})
        return found

    def describe(self) -> dict[str, Any]:
        """Services, methods, resources and middleware as plain data, for tools."""
        registry = self._registry
        return describe(
            registry.dal, registry.resources.values(), registry.context_middleware, registry.method_middleware
        )

    def get_client(self, name: str) -> Any:
        """The client behind a `Backend`, such as an engine or a pool, made now if there was none; awaitable if async.

        For start-up work such as creating tables. It belongs to the manager, which closes it; where the backend was given the
        user's own client, it is that one.

        Raises:
            UnknownResourceError: if there is no resource of that name.
            InvalidResourceError: if it is no backend.
        """
        resource = self._registry.resource(name)
        if not isinstance(resource, BackedResource):
            raise InvalidResourceError(
                name, "it is no backend, so it has no client; open a context, and touch the resource itself"
            )
        return resource.client_for(self)

    def ping(self, *, timeout: float = PING_TIMEOUT) -> dict[str, Ping]:
        """Ask the servers behind all backends for a sign of life, outside of any context.

        At once, each in a thread of its own. No exception of a client gets out: what failed is told by its result, and what
        takes longer than the limit is a ``TimeoutError``; a server that has not answered the last ping is not asked again, but
        waited for. An async backend is asked in an event loop of its own, over a client that is made for this and closed; one
        that was given its client is an ``AsyncResourceError`` here, as only `aping` can ask it.

        Args:
            timeout: in seconds, for all together.

        Raises:
            ConfigurationError: if the timeout is not above 0.

        Example:
            >>> DataManager().ping()
            {}
        """
        check_timeout(timeout, "timeout")
        return ping_all(self._registry.backed_resources(), self, timeout)

    async def aping(self, *, timeout: float = PING_TIMEOUT) -> dict[str, Ping]:  # noqa: ASYNC109 -- it raises nothing
        """The async twin of `ping`: async backends are asked over the clients of the running event loop."""
        check_timeout(timeout, "timeout")
        return await aping_all(self._registry.backed_resources(), self, timeout)

    def close(self) -> None:
        """Close the resources of the application's scope. The manager can be used again: they open anew.

        What is open when the interpreter ends is closed then, async ones aside. Whoever comes while another thread or task
        closes them waits until it has.

        Raises:
            AsyncResourceError: if async ones of an event loop that has not ended are open; the others have then been closed.
            ResourceCycleError: in the teardown of one of them.
            BaseException: the first error raised by one of them, when all are closed.
        """
        self._app.close()

    async def aclose(self) -> None:
        """The async twin of `close`: also closes the async resources of the running event loop."""
        await self._app.aclose()

    def __repr__(self) -> str:
        return f"<DataManager of {self._registry.dal!r}, {len(self._registry.resources)} resources>"

    # --- What other modules ask for -----------------------------------------------------------------------------------

    def _services_changed(self) -> None:
        self._registry.services_changed()

    def _commands(self) -> CommandRegistry:
        return self._registry.commands()

    def _generated(self, context_class: type[Context]) -> type[Context]:
        """For a Context class that is called by itself, as code for polydatum 0.9.1 does."""
        return self._registry.types.of(context_class)

    def _middleware_for(self, context: Any) -> Iterable[ContextMiddleware]:
        if not self._asks_for_middleware:
            return self._registry.context_middleware
        known = {id(one.factory): one for one in self._registry.context_middleware}
        return [known.get(id(one)) or ContextMiddleware(one) for one in self.get_middleware(context)]

    def _supplied(self, name: str) -> RegisteredResource:
        return self._registry.resources.get(name) or self._registry.supplied(name, self.get_resource(name))

    def _after_fork(self) -> None:
        """In a forked child: what was open belongs to the parent. Contexts are unusable, app resources open anew."""
        self._registry.forget_after_fork()
        self._under_way.clear()  # these belong to threads that did not survive
        self._app.forget_after_fork()
