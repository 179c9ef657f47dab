"""The source of a backend's client: a URL, shown without its secrets, or a client of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from polydatum.errors import ConfigurationError


def given_client(backend: object, source: Any, options: Mapping[str, Any], *kinds: type, what: str = "client") -> Any:
    """The user's own client; None if the source is a URL, from which the backend creates a client with the options.

    Args:
        backend: the backend, for messages.
        source: the URL or client that the user passed.
        options: the options for a client made from a URL.
        kinds: the classes that a client may have; none: any class.
        what: the word for a client in messages.

    Raises:
        ConfigurationError: if the source is of another class, or if options are given along with a client.
    """
    if isinstance(source, str):
        return None
    if kinds and not isinstance(source, kinds):
        *first, last = ["a URL", *map(_full_name, kinds)]
        raise ConfigurationError(
            f"{type(backend).__name__} takes {', '.join(first)} or {last}, not a {_full_name(type(source))}"
        )
    refuse_options(backend, options, what)
    return source


def _full_name(kind: type) -> str:
    """A class name with its module, as the sync and the async client may have the same name."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def refuse_options(backend: object, options: Mapping[str, Any], what: str) -> None:
    """Refuse options for an existing client; ``what`` is the word for it.

    Raises:
        ConfigurationError: if there are any.
    """
    if options:
        given = ", ".join(f"{name}=..." for name in sorted(options))
        raise ConfigurationError(
            f"{type(backend).__name__}({given}): options apply only if the {what} is made from a URL; "
            f"set them on your own {what}, or pass a URL"
        )


def shown_url(url: str) -> str:
    """A URL for messages and logs: hides the password, and omits the query, which may hold another one.

    Example:
        >>> shown_url("postgresql://ann:secret@127.0.0.1:5432/shop?sslpassword=secret")
        'postgresql://ann:***@127.0.0.1:5432/shop'
    """
    parts = urlsplit(url)
    user, at, place = parts.netloc.rpartition("@")
    if ":" in user:
        user = user.partition(":")[0] + ":***"
    return f"{parts.scheme}://{user}{at}{place}{parts.path}"
