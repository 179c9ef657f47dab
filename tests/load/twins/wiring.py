"""What the hosts by hand have in common."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sqlalchemy.orm import Session, SessionTransaction, sessionmaker

from conduit.services.articles import ArticleService
from conduit.services.database import Database
from conduit.services.tables import UserRow
from conduit.services.tokens import Tokens
from conduit.services.users import UserService


class Work:
    """What a service finds in ``self._ctx``, for one request."""

    def __init__(self, db: Session, tokens: Tokens, viewer: UserRow | None = None) -> None:
        self.db = db
        self.tokens = tokens
        self.meta = SimpleNamespace(user=viewer)

    def nested(self) -> SessionTransaction:
        return self.db.begin_nested()


class Articles(ArticleService):
    _ctx: Any = None  # in the place of the property

    def __init__(self, work: Work) -> None:
        self._ctx = work


class Users(UserService):
    _ctx: Any = None

    def __init__(self, work: Work) -> None:
        self._ctx = work


class Wiring:
    """What an application makes once.

    Attributes:
        sessions: makes sessions, with the options of ours.
    """

    def __init__(self, url: str, tokens: Tokens) -> None:
        self.sessions = sessionmaker(Database(url).connect(), expire_on_commit=False)
        self._tokens = tokens

    def viewer(self, db: Session, authorization: str | None) -> UserRow | None:
        """The user of an Authorization header."""
        return Users(Work(db, self._tokens)).authenticate(authorization)

    def articles(self, db: Session, viewer: UserRow | None) -> Articles:
        """The service, for one request."""
        return Articles(Work(db, self._tokens, viewer))
