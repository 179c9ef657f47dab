"""Dispatch: how the commands of a DataManager get to workers, and from messages to the services there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from time import time
from typing import Any, NamedTuple

from .commands import Command
from .errors import ConfigurationError, InvalidCommandArguments, NoActiveContextError, ReadOnlyError
from .messages import Message, Signer, UserId, fault_of, is_id


class CommandQueue:
    """Where commands are sent: base class of queues. ``celery_polydatum.CeleryQueue`` is one."""

    def send(self, message: dict[str, Any], **options: Any) -> Any:
        """Send a message, a dict that is JSON, at once; returns what may be of use to the sender.

        Args:
            message: with the keys ``id``, ``path`` and others; pass it on as it is.
            options: those that were passed to `Command.send`.
        """
        raise NotImplementedError

    def check(self, command: Command[Any], options: Mapping[str, Any]) -> None:
        """Refuse a command that the workers could not run, before it is sent or kept.

        Raises:
            ConfigurationError: if they could not.
        """

    def sender(self) -> UserId | None:
        """The id of the user who asks, here and now; None if nobody does."""
        return None


class Outbox:
    """Where commands are kept that must not be lost: base class of outboxes, such as `polydatum.backends.outbox.Outbox`."""

    def writing(self, context: Any, message: Message, options: Mapping[str, Any]) -> Callable[[], Any]:
        """A ``before_commit`` hook that writes a command and its options into the context's own transaction."""
        raise NotImplementedError


class Inbox:
    """What knows the messages that were handled: base class of inboxes, such as `polydatum.backends.outbox.Inbox`."""

    def claim(self, context: Any, message_id: str) -> bool:
        """Whether a message is new; note it then, in the context's own transaction.

        It is forgotten if that rolls back. Another context that claims the same one meanwhile waits for that.
        """
        raise NotImplementedError


class Received(NamedTuple):
    """A message that has passed all checks, and the command in it."""

    message: Message
    command: Command[Any]


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
                raise ConfigurationError(f"{name}: {type(part).__name__} is no subclass of {expected.__name__}")
        self._data_manager = data_manager
        self.queue = queue
        self.outbox = outbox
        self.inbox = inbox
        self._signer = signer

    # --- Here ---------------------------------------------------------------------------------------------------------

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
            context.on_commit(partial(self.deliver, message, options))
            return message.id
        if self.outbox is None:
            raise ConfigurationError("no outbox: pass one to dm.register_command_queue(..., outbox=...)")
        if context.read_only:
            raise ReadOnlyError("outbox", "a command to keep")
        fault = fault_of(dict(options))
        if fault is not None:
            raise InvalidCommandArguments(command.path, f"an option for the queue {fault}")
        context.before_commit(self.outbox.writing(context, message, options))
        return message.id

    def _message(self, command: Command[Any], message_id: str | None, options: Mapping[str, Any]) -> Message:
        if message_id is not None and not is_id(message_id):
            raise ConfigurationError("the id of a message has to be 1 to 200 letters, digits and . _ : -")
        self.queue.check(command, options)
        return Message(
            message_id or os.urandom(16).hex(), command.path, command.args, command.kwargs, self.queue.sender(), time()
        )

    def deliver(self, message: Message, options: Mapping[str, Any]) -> Any:
        """Send a message, signed now: it may have waited for a commit, or in an outbox.

        Raises:
            Exception: what the queue raises if it cannot be reached.
        """
        return self.queue.send(message._replace(sent=time()).as_data(self._signer), **options)

    # --- There --------------------------------------------------------------------------------------------------------

    def receive(self, data: Any) -> Received:
        """Check a message that arrived; nothing is run, and no context needed.

        Raises:
            CommandRejected: if it is no message of ours; see `Message.read`.
            CommandError: if there is no such command, or the arguments do not fit it.
        """
        message = Message.read(data, self._signer)
        registered = self._data_manager._commands().find(message.path, hints=False)
        return Received(message, registered.called(self._data_manager, message.args, message.kwargs))
