"""Where a backend has its client from: a URL, shown without what must not be shown, or an object of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from polydatum.errors import ConfigurationError


def given_client(backend: object, source: Any, options: Mapping[str, Any]) -> Any:
    """The user's own client; None if the source is a URL, and the backend makes one with the options.

    Raises:
        ConfigurationError: if there are options for a client that is made already.
    """
    if isinstance(source, str):
        return None
    refuse_options(backend, options, "client")
    return source


def refuse_options(backend: object, options: Mapping[str, Any], what: str) -> None:
    """Refuse options for a client, by whatever word for it, that is made already.

    Raises:
        ConfigurationError: if there are any.
    """
    if options:
        raise ConfigurationError(
            f"{type(backend).__name__}: {', '.join(sorted(options))} would go to the {what}, which is made already; "
            "give it to that one, or the backend a URL"
        )


def shown_url(url: str) -> str:
    """A URL for messages and logs: the password is hidden, the query, which may hold another one, left out.

    Example:
        >>> shown_url("postgresql://ann:secret@127.0.0.1:5432/shop?sslpassword=secret")
        'postgresql://ann:***@127.0.0.1:5432/shop'
    """
    parts = urlsplit(url)
    user, at, place = parts.netloc.rpartition("@")
    if ":" in user:
        user = user.partition(":")[0] + ":***"
    return f"{parts.scheme}://{user}{at}{place}{parts.path}"
