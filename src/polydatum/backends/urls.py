"""URLs of servers, shown without what must not be shown."""

from __future__ import annotations

from urllib.parse import urlsplit


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
