"""Tokens: signed, and valid for a limited time; they name the user who has logged in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import jwt

from conduit.services.errors import Unauthorized

ALGORITHM = "HS256"
SCHEME = "Token"


class Tokens:
    """Issues and reads tokens.

    Args:
        secret: the signing key, the same in all processes; 32 bytes or more.
        lifetime: how long a token is valid.
    """

    def __init__(self, secret: str, lifetime: timedelta = timedelta(days=14)) -> None:
        self._secret = secret
        self._lifetime = lifetime

    def issue(self, user_id: int) -> str:
        """A token for a user."""
        claims = {"sub": str(user_id), "exp": datetime.now(UTC) + self._lifetime}
        return jwt.encode(claims, self._secret, ALGORITHM)

    def user_id(self, authorization: str) -> int:
        """The user in an Authorization header: ``Token xxxxxx.yyyyyyy.zzzzzz``.

        Raises:
            Unauthorized: if the token is not ours, or has expired.
        """
        scheme, _, token = authorization.partition(" ")
        try:
            claims = jwt.decode(token, self._secret, [ALGORITHM], options={"require": ["sub", "exp"]})
        except jwt.InvalidTokenError:
            claims = {}
        if scheme != SCHEME or not claims:
            raise Unauthorized(token="is not valid")
        return int(claims["sub"])
