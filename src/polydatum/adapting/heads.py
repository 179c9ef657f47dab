"""Checks, before the commit, that a server can send an answer; one that it refuses is a 500 to the client."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from polydatum.errors import PolydatumError, shown

_STATUS = re.compile(r"[1-9][0-9]{2}(?: [\x20-\x7e\x80-\xff]*)?")  # PEP 3333 requires a reason, servers do not
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_RAW_NAME = re.compile(_NAME.pattern.encode())
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class UnsendableAnswerError(PolydatumError):
    """A server would refuse to send an answer, because of its status line, a header or its body.

    Raised while the context is open, so that it rolls back. The message omits the value, which may be secret.

    Attributes:
        part: what cannot be sent.
        problem: what is wrong with it, and what to do.
    """

    def __init__(self, part: str, problem: str) -> None:
        super().__init__(part, problem)
        self.part = part
        self.problem = problem

    def __str__(self) -> str:
        return f"this answer cannot be sent: {self.part} {self.problem}"


def check_head(status: str, headers: Iterable[tuple[str, str]]) -> None:
    """Refuse the head of an answer that a WSGI server has to refuse (PEP 3333).

    Args:
        status: the status line.
        headers: read more than once.

    Raises:
        UnsendableAnswerError: if the status is not ``NNN reason``, or if a header has an invalid name, or a value that is
            not a Latin-1 string without control characters.

    Example:
        >>> check_head("200 OK", [("Content-Type", "text/plain")])
        >>> check_head("200 OK", [("X-Name", "účet")])
        Traceback (most recent call last):
        polydatum.adapting.heads.UnsendableAnswerError: this answer cannot be sent: the header 'X-Name' has a character outside of Latin-1; ...
    """
    try:
        names, values = zip(*headers, strict=True)
        value = "".join(values)
        # Fast path: nearly every answer passes here, in a few steps in C.
        if value.isascii() and value.isprintable() and _are_names(names) and _is_status(status):
            return
    except (TypeError, ValueError):
        pass
    _find_problem(status, headers)


def _find_problem(status: object, headers: Iterable[tuple[object, object]]) -> None:
    if not isinstance(status, str):
        raise UnsendableAnswerError("the status line", f"is of type {type(status).__name__}, not str")
    if not _is_status(status):
        raise UnsendableAnswerError("the status line", "is not like '200 OK': three digits, a space and a reason")
    _find_header_problem(headers, str)


def _find_header_problem(headers: Iterable[tuple[object, object]], kind: type) -> None:
    for name, value in headers:
        if not isinstance(name, kind):
            raise UnsendableAnswerError("a header", f"has a name of type {type(name).__name__}, not {kind.__name__}")
        part = f"the header {shown(_text(name))}"
        if not _NAME.fullmatch(_text(name)):
            raise UnsendableAnswerError(part, "has an invalid name; use only ASCII letters, digits and !#$%&'*+-.^_`|~")
        if not isinstance(value, kind):
            raise UnsendableAnswerError(part, f"has a value of type {type(value).__name__}, not {kind.__name__}")
        if _CONTROL.search(_text(value)):
            raise UnsendableAnswerError(part, "has a control character, such as a line break; leave it out")
        if not _is_latin_1(_text(value)):
            raise UnsendableAnswerError(
                part, "has a character outside of Latin-1; encode it, as in filename*=UTF-8''%C3%BA (RFC 8187)"
            )


def _text(part: Any) -> str:
    return part.decode("latin-1") if isinstance(part, bytes) else part


# Cached: an application has few statuses, and few combinations of header names.


@lru_cache(256)
def _is_status(status: str) -> bool:
    return _STATUS.fullmatch(status) is not None


@lru_cache(1024)
def _are_names(names: tuple[str, ...]) -> bool:
    return all(map(_NAME.fullmatch, names))


@lru_cache(1024)
def _are_raw_names(names: tuple[bytes, ...]) -> bool:
    return all(map(_RAW_NAME.fullmatch, names))


def _is_latin_1(text: str) -> bool:
    return text.isascii() or max(text) <= "\xff"


def check_raw_head(status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """`check_head` for ASGI, where a status is a number and headers are bytes.

    Raises:
        UnsendableAnswerError: if the status is not that of an answer, or if a header has an invalid name, or a value with
            control characters.
    """
    if not 200 <= status <= 999:
        raise UnsendableAnswerError("the status", "is not between 200 and 999")
    try:
        names, values = zip(*headers, strict=True)
        if b"".join(values).decode("latin-1").isprintable() and _are_raw_names(names):
            return
    except (TypeError, ValueError):
        pass
    _find_header_problem(headers, bytes)


def check_pieces(body: Iterable[object], kinds: type | tuple[type, ...] = bytes) -> None:
    """Refuse a body whose pieces are all known, if a piece is of another class than ``kinds``.

    Raises:
        UnsendableAnswerError: if one is.
    """
    for piece in body:
        if not isinstance(piece, kinds):
            raise UnsendableAnswerError("the body", f"has a piece of type {type(piece).__name__}, not bytes")
