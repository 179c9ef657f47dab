"""Dispatch: how the commands of a DataManager get to workers, and there from messages to services."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from time import time
from typing import Any, NamedTuple

from .commands import Command
from .errors import ConfigurationError, InvalidCommandArguments, NoActiveContextError, ReadOnlyError
from .messages import CLOCK_SKEW, Message, Signer, UserId, fault_of, is_id
from .meta import lazy
from .workers import run_in_worker


class CommandQueue:
    """Base class of queues, to which commands are sent, such as ``celery_polydatum.CeleryQueue``."""

    def send(self, message: dict[str, Any], **options: Any) -> Any:
        """Send a message, a dict that is JSON, at once; returns what may be useful to the sender.

        Args:
            message: a dict with the keys ``id``, ``path`` and others; pass it on as it is.
            options: the options that were passed to `Command.send`.
        """
        raise NotImplementedError

    def check(self, command: Command[Any], options: Mapping[str, Any]) -> None:
        """Refuse a command that the workers could not run, before it is sent or stored.

        Raises:
            ConfigurationError: if they could not.
        """

    def delay(self, options: Mapping[str, Any]) -> float:
        """For how many seconds, at least, these options keep workers from running a message that is sent now."""
        return 0

    def sender(self, data_manager: Any) -> UserId | None:
        """The id of the user who is asking now; None if there is none.

        Args:
            data_manager: the DataManager that sends; several may share a queue.
        """
        return None


class Outbox:
    """Base class of outboxes, for commands that must not be lost, such as `polydatum.backends.outbox.Outbox`."""

    def writing(self, context: Any, message: Message, options: Mapping[str, Any]) -> Callable[[], Any]:
        """A ``before_commit`` hook that writes a command and its options in the context's own transaction."""
        raise NotImplementedError

    def deliver(self, data_manager: Any, limit: int = 100) -> int:
        """Send what is due, the oldest first, by `Dispatch.deliver`; returns the number of messages sent.

        Args:
            data_manager: the DataManager that the outbox is registered with.
            limit: the maximum number of messages.
        """
        raise NotImplementedError

    def check(self, data_manager: Any) -> None:
        """Refuse a DataManager that it cannot work with; nothing is opened. `DataManager.check` reports it.

        Raises:
            PolydatumError: if a resource is missing, or of the wrong kind.
        """


class Inbox:
    """Base class of inboxes, which remember handled messages, such as `polydatum.backends.outbox.Inbox`.

    Attributes:
        retention: the minimum number of seconds for which it remembers a message; by default forever.
    """

    retention = math.inf

    def claim(self, context: Any, message_id: str) -> bool:
        """Whether a message is new; if so, record it in the context's own transaction.

        It is forgotten if that rolls back. Another context that claims the same message waits until it has ended.
        """
        raise NotImplementedError

    def check(self, data_manager: Any) -> None:
        """As `Outbox.check`."""


class Received(NamedTuple):
    """A message that has passed all checks, and the command in it."""

    message: Message
    command: Command[Any]

    @property
    def facts(self) -> dict[str, Any]:
        """The facts about it in ``ctx.meta`` of the context in which it is run."""
        return {"command": self.command, "message_id": self.message.id, "user_id": self.message.user_id}


class Dispatch:
    """What `DataManager.register_command_queue` was given."""

    def __init__(
        self,
        data_manager: Any,
        queue: CommandQueue,
        outbox: Outbox | None,
        inbox: Inbox | None,
        signer: Signer | None,
    ) -> None:
        parts: tuple[tuple[str, object, type], ...] = (
            ("queue", queue, CommandQueue),
            ("outbox", outbox, Outbox),
            ("inbox", inbox, Inbox),
            ("signer", signer, Signer),
        )
        for name, part, expected in parts:
            if not isinstance(part, expected) and (part is not None or part is queue):
                raise ConfigurationError(
                    f"{name} has to be an instance of {expected.__name__}, not {type(part).__name__}"
                )
        if inbox is not None and signer is not None and inbox.retention < signer.max_age + CLOCK_SKEW:
            raise ConfigurationError(
                f"the inbox remembers a message for only {inbox.retention:g} seconds, but its signature is valid for "
                f"{signer.max_age:g}, plus {CLOCK_SKEW:g} of clock skew, so a forgotten message could be sent again; "
                "raise the retention"
            )
        self._data_manager = data_manager
        self.queue = queue
        self.outbox = outbox
        self.inbox = inbox
        self._signer = signer

    def require_outbox(self) -> Outbox:
        """The outbox.

        Raises:
            ConfigurationError: if there is none.
        """
        if self.outbox is None:
            raise ConfigurationError("no outbox: pass one to dm.register_command_queue(..., outbox=...)")
        return self.outbox

    # --- Sending ------------------------------------------------------------------------------------------------------

    def send(self, command: Command[Any], message_id: str | None, options: Mapping[str, Any]) -> Any:
        """See `Command.send`."""
        return self.deliver(self._message(command, message_id, options), options)

    def send_on_commit(self, command: Command[Any], message_id: str | None, options: Mapping[str, Any]) -> str:
        """See `Command.send_on_commit`."""
        try:
            context = self._data_manager.require_active_context()
        except NoActiveContextError:
            message = self._message(command, message_id, options)
            self.deliver(message, options)
            return message.id
        return self.enqueue(context, command, message_id, options)

    def enqueue(
        self,
        context: Any,
        command: Command[Any],
        message_id: str | None,
        options: Mapping[str, Any],
        *,
        reliable: bool = False,
    ) -> str:
        """See `Context.enqueue`."""
        message = self._message(command, message_id, options)
        if not reliable:
            deliver = self.adeliver if context._is_async else self.deliver
            context.on_commit(partial(deliver, message, options))
            return message.id
        outbox = self.require_outbox()
        if context.read_only:
            raise ReadOnlyError("outbox", "a reliable command")
        fault = fault_of(dict(options))
        if fault is not None:
            raise InvalidCommandArguments(command.path, f"an option for the queue {fault}")
        context.before_commit(outbox.writing(context, message, options))
        return message.id

    def _message(self, command: Command[Any], message_id: str | None, options: Mapping[str, Any]) -> Message:
        if not isinstance(command, Command):
            raise ConfigurationError(
                f"only a Command can be sent, such as dm.command(...), not {type(command).__name__}"
            )
        if command._data_manager is not self._data_manager:
            raise ConfigurationError(
                f"{command!r} belongs to another DataManager; send it with that manager's queue and context"
            )
        if message_id is not None and not is_id(message_id):
            raise ConfigurationError("the id of a message has to be 1 to 200 letters, digits and . _ : -")
        self.queue.check(command, options)
        if self._signer is not None and self.queue.delay(options) >= self._signer.max_age:
            raise ConfigurationError(
                f"{command!r} is scheduled for after its signature expires ({self._signer.max_age:g} seconds), so workers would "
                "refuse it: raise the Signer's max_age, or send it closer to its time"
            )
        user_id = self.queue.sender(self._data_manager)
        if not isinstance(user_id, str | int | None):
            raise ConfigurationError(
                f"the sender's id has to be a string, an int or None, not {type(user_id).__name__}"
            )
        return Message(message_id or os.urandom(16).hex(), command.path, command.args, command.kwargs, user_id, time())

    def deliver(self, message: Message, options: Mapping[str, Any]) -> Any:
        """Send a message, signed now: it may have waited for a commit, or in an outbox.

        Raises:
            Exception: what the queue raises if it cannot be reached.
        """
        return self.queue.send(message._replace(sent=time()).as_data(self._signer), **options)

    async def adeliver(self, message: Message, options: Mapping[str, Any]) -> Any:
        """The async twin of `deliver`: in a worker thread, as a broker that does not answer would block the loop."""
        return await run_in_worker(partial(self.deliver, message, options), "send")

    # --- Receiving ----------------------------------------------------------------------------------------------------

    def receive(self, data: Any) -> Received:
        """Check a received message; nothing is run, and no context is needed.

        Raises:
            CommandRejected: if it is not one of our messages; see `Message.read`.
            CommandError: if there is no such command, or the arguments do not fit it.
        """
        message = Message.read(data, self._signer)
        registered = self._data_manager._commands().find(message.path, hints=False)
        return Received(message, registered.called(self._data_manager, message.args, message.kwargs))

    def is_new(self, context: Any, message_id: str) -> bool:
        """Whether a message has not been handled yet; without an inbox always true. See `Inbox.claim`."""
        return self.inbox is None or self.inbox.claim(context, message_id)


class LocalQueue(CommandQueue):
    """Runs commands in the sending process, at once, each in a fresh context: for tests, scripts and small sites.

    A command sent on commit runs once the sending context has committed; if it fails then, that is logged. Options,
    which are for other queues, are ignored. ``ctx.meta`` has ``command``, ``message_id``, ``user_id`` and ``user``,
    which is loaded when it is read.

    Args:
        data_manager: the DataManager that it is registered with.
        sender: ``f()`` returns the id of the user who is asking, or None.
        load_user: ``f(user_id)`` returns the user of that id; it may use the DAL. Without it, ``ctx.meta.user`` is
            None.

    Example:
        >>> from polydatum import DataAccessLayer, DataManager, Service, command
        >>> class Mails(Service):
        ...     @command
        ...     def welcome(self, name):
        ...         print(f"welcome, {name}")
        >>> class AppDAL(DataAccessLayer):
        ...     mails = Mails()
        >>> dm = DataManager(AppDAL)
        >>> dm.register_command_queue(LocalQueue(dm))
        >>> with dm.context() as ctx:
        ...     _ = ctx.enqueue(dm.command("mails.welcome", "ann"))
        ...     print("not committed yet")
        not committed yet
        welcome, ann
    """

    def __init__(
        self,
        data_manager: Any,
        sender: Callable[[], UserId | None] | None = None,
        load_user: Callable[[Any], Any] | None = None,
    ) -> None:
        self._data_manager = data_manager
        self._sender = sender
        self._load_user = load_user

    def send(self, message: dict[str, Any], **options: Any) -> Any:
        """Run the command of a message; returns its result, or None if an inbox already knows the message.

        Raises:
            BaseException: what the command raises, or the end of its context.
        """
        dispatch: Dispatch = self._data_manager.dispatch
        received = dispatch.receive(message)
        user_id = received.message.user_id
        user = None if self._load_user is None or user_id is None else lazy(partial(self._load_user, user_id))
        with self._data_manager.context({**received.facts, "user": user}) as context:
            return received.command.call() if dispatch.is_new(context, received.message.id) else None

    def check(self, command: Command[Any], options: Mapping[str, Any]) -> None:
        """Refuse async methods.

        Raises:
            ConfigurationError: if the command's method is async.
        """
        if command.is_async:
            raise ConfigurationError(
                f"{command.path} is an async method, which LocalQueue does not await; send a sync one"
            )

    def sender(self, data_manager: Any) -> UserId | None:
        """What the given function returns."""
        return None if self._sender is None else self._sender()
