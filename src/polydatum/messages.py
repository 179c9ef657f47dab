"""Messages: commands as plain data on their way to another process, trusted only as far as they can be checked.

A message is a JSON object: ``{"version": 1, "id": "…", "path": "reports.rebuild", "args": [5], "kwargs": {}, "user_id":
7, "sent": 1790000000.0, "signature": "…"}``. Limits are checked first, so that refusing a hostile one costs less than
sending it.

Most applications send no messages, so modules of the standard library are imported where they are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import time
from typing import Any, NamedTuple, TypeAlias

from .errors import CommandRejected, ConfigurationError, InvalidCommandArguments, shown
from .paths import split_path

VERSION = 1
MAX_BYTES = 64 * 1024
"""Size limit of the arguments of one command, as JSON."""
MAX_TEXT = 2 * MAX_BYTES + 4096
"""Limit in characters of a message as text, in which the sender may put blanks between the arguments."""
MAX_DEPTH = 20
MAX_AGE = 24 * 3600.0
"""Seconds for which a signature holds: as long as an inbox remembers, so that a forgotten message is too old to be sent
again."""
CLOCK_SKEW = 60.0
"""Seconds by which the clock of a sender may be ahead."""
MIN_KEY_BYTES = 16

UserId: TypeAlias = str | int
"""What is sent about the user who asks: an identity, without permissions."""

_SCALARS = {str, int, float, bool, type(None)}
_OF_IDS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-")
_MAX_ID = 200
_FIELDS = {"version", "id", "path", "args", "kwargs", "user_id", "sent"}

_TOO_LARGE = f"is larger than {MAX_BYTES} bytes"


def as_json(value: Any) -> str:
    """The canonical JSON text of a value, which is signed and stored."""
    import json

    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def from_json(text: str) -> Any:
    """The value of a text made by `as_json`."""
    import json

    return json.loads(text)


def fault_of(value: Any, *, depth: int = 1) -> str | None:
    """Why a value cannot be sent as JSON within the limits, in words that do not reveal it; None if it can.

    Example:
        >>> fault_of({"days": {1, 2}})
        'contains a set, which is not JSON; pass it as text, numbers, lists and dicts'
    """
    room = MAX_BYTES
    waiting: list[tuple[Sequence[Any], int]] = [([value], depth)]
    while waiting:
        children, depth = waiting.pop()
        room -= 2 * len(children)  # the minimum size of the children
        if room < 0:
            return _TOO_LARGE
        kinds = set(map(type, children))  # a loop in C: there may be tens of thousands
        if str in kinds:
            room -= sum(len(child) for child in children if type(child) is str)
            if room < 0:
                return _TOO_LARGE
        if kinds <= _SCALARS:
            continue
        for child in children:
            kind = type(child)
            if kind in _SCALARS:
                continue
            if kind is dict:
                if any(type(key) is not str for key in child):
                    return "contains a dict with keys that are not strings, which is not JSON"
                room -= sum(map(len, child))
                child = list(child.values())
            elif kind not in (list, tuple):
                return f"contains a {kind.__name__}, which is not JSON; pass it as text, numbers, lists and dicts"
            if depth > MAX_DEPTH:
                return f"is nested deeper than {MAX_DEPTH} levels"
            waiting.append((child, depth + 1))
    try:
        text = as_json(value)
    except ValueError:
        return "contains a number that JSON cannot represent: not finite, or of thousands of digits"
    return _TOO_LARGE if len(text) > MAX_BYTES else None


def arguments_as_json(path: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The arguments of a command, ``[args, kwargs]``, as JSON.

    Raises:
        InvalidCommandArguments: if they are not JSON, or exceed a limit.
    """
    if fault_of([args, kwargs], depth=-1) is None:
        return as_json([args, kwargs])
    for name, value in [*enumerate(args, start=1), *kwargs.items()]:
        fault = fault_of(value)
        if fault is not None:
            raise InvalidCommandArguments(path, f"argument {shown(name)} {fault}")
    raise InvalidCommandArguments(path, f"its arguments are larger than {MAX_BYTES} bytes")


class Message(NamedTuple):
    """A command on its way.

    Attributes:
        id: the id by which an inbox detects duplicates.
        path: the path of the service method.
        args: its positional arguments.
        kwargs: its keyword arguments.
        user_id: the id of the user who asks, or None.
        sent: when it was sent, in seconds since the epoch.
    """

    id: str
    path: str
    args: list[Any]
    kwargs: dict[str, Any]
    user_id: UserId | None
    sent: float

    @classmethod
    def read(cls, data: Any, signer: Signer | None = None) -> Message:
        """Read a received message, a dict or the text that `as_text` makes of it; nothing is looked up or run.

        Text is not parsed unless it is signed as it should be.

        Raises:
            CommandRejected: if it is not a message, is of another version, or its signature is missing, wrong or old.
            InvalidCommandPath: if its path is malformed.
            InvalidCommandArguments: if its arguments exceed a limit.
        """
        is_text = type(data) is str
        if is_text:
            data = _parsed(data, signer)
        if type(data) is not dict:
            raise CommandRejected(f"it is a {type(data).__name__}, not an object")
        if type(data.get("version")) is not int or data["version"] != VERSION:
            raise CommandRejected(f"it is not of version {VERSION}, the only one known here")
        if data.keys() - {"signature"} != _FIELDS:
            raise CommandRejected(f"its fields have to be {', '.join(sorted(_FIELDS))}")
        message = cls(**{name: data[name] for name in cls._fields})
        message._check()
        if signer is not None:
            if not is_text:
                signer.check(as_json(message.as_data()), data.get("signature"))
            signer.check_age(message.sent)
        return message

    def _check(self) -> None:
        if not is_id(self.id):
            raise CommandRejected("its id has to be 1 to 200 letters, digits and . _ : -")
        split_path(self.path)
        if type(self.args) is not list or type(self.kwargs) is not dict:
            raise CommandRejected("its args have to be a list, its kwargs an object")
        if type(self.user_id) not in (str, int, type(None)) or fault_of(self.user_id) is not None:
            raise CommandRejected("its user_id has to be a string, an integer or null")
        if type(self.sent) not in (int, float) or not 0 <= self.sent < 1e11:
            raise CommandRejected("its time has to be a number of seconds since 1970")
        fault = fault_of([self.args, self.kwargs], depth=-1)
        if fault is not None:
            raise InvalidCommandArguments(self.path, f"its JSON {fault}")

    def as_data(self, signer: Signer | None = None) -> dict[str, Any]:
        """The message as a dict that is JSON, signed if there is a signer."""
        data = {"version": VERSION, **self._asdict()}
        return data if signer is None else {**data, "signature": signer.sign(self)}


def as_text(data: Mapping[str, Any]) -> str:
    """A message as text: its signature, if it has one, and then the JSON that was signed."""
    signature = data.get("signature") or ""
    return signature + as_json({name: value for name, value in data.items() if name != "signature"})


def _parsed(text: str, signer: Signer | None) -> Any:
    if len(text) > MAX_TEXT:
        raise CommandRejected(f"it has more than {MAX_TEXT} characters")
    signature, brace, rest = text.partition("{")
    if signer is not None:
        signer.check(brace + rest, signature or None)
    try:
        return from_json(brace + rest)
    except (ValueError, RecursionError):
        raise CommandRejected("it is text, but not a JSON object") from None


def is_id(text: Any) -> bool:
    """Whether a value is allowed as the id of a message."""
    return type(text) is str and 0 < len(text) <= _MAX_ID and _OF_IDS.issuperset(text)


class Signer:
    """Signs messages, and refuses those signed without one of the keys, or too long ago (HMAC-SHA-256, RFC 2104).

    Args:
        keys: secret keys of 16 bytes or more, as str or bytes. The first one signs, all are accepted, so that keys can
            be changed while messages are on their way.
        max_age: seconds for which a signature holds, and so for which a message may wait in its queue.

    Raises:
        ConfigurationError: if there is no key, one is too short or neither str nor bytes, or `max_age` is not above 0.
    """

    def __init__(self, *keys: str | bytes, max_age: float = MAX_AGE) -> None:
        given: list[Any] = [key.encode() if isinstance(key, str) else key for key in keys]
        if not given or not all(isinstance(key, bytes) and len(key) >= MIN_KEY_BYTES for key in given):
            raise ConfigurationError(f"Signer takes keys of {MIN_KEY_BYTES} bytes or more, at least one")
        if not max_age > 0:
            raise ConfigurationError("max_age has to be a number of seconds above 0")
        self._keys: list[bytes] = given
        self.max_age = max_age

    def __repr__(self) -> str:
        return f"<Signer of {len(self._keys)} keys>"

    def sign(self, message: Message) -> str:
        """The signature of a message."""
        return self._signatures(as_json(message.as_data()))[0]

    def check(self, text: str, signature: Any) -> None:
        """Refuse the JSON of a message that is not signed as it should be.

        Raises:
            CommandRejected: if it is unsigned, signed with another key, or was changed on the way.
        """
        from hmac import compare_digest

        if type(signature) is not str:
            raise CommandRejected("it is not signed")
        given = signature[:100].encode(errors="replace")
        if not any([compare_digest(own.encode(), given) for own in self._signatures(text)]):
            raise CommandRejected("its signature is wrong")

    def check_age(self, sent: float) -> None:
        """Refuse a message that was sent too long ago, or in the future.

        Raises:
            CommandRejected: if it was.
        """
        if not -CLOCK_SKEW <= time() - sent <= self.max_age:
            raise CommandRejected(f"it was not signed in the last {self.max_age:g} seconds")

    def _signatures(self, text: str) -> list[str]:
        import hmac

        signed = text.encode(errors="replace")
        return [hmac.new(key, signed, "sha256").hexdigest() for key in self._keys]
