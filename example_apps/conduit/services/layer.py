"""Conduit's data access layer: its services and its resources."""

from __future__ import annotations

import os
import secrets

from argon2 import PasswordHasher

from conduit.services.articles import ArticleService
from conduit.services.comments import CommentService
from conduit.services.context import ConduitContext
from conduit.services.database import Database
from conduit.services.notifications import NotificationService
from conduit.services.profiles import ProfileService
from conduit.services.tables import Base
from conduit.services.tokens import Tokens
from conduit.services.users import UserService
from polydatum import DataAccessLayer, DataManager, LocalQueue, ValueResource


class ConduitDAL(DataAccessLayer):
    """The class of ``request.dal`` in every host."""

    articles = ArticleService()
    comments = CommentService()
    notifications = NotificationService()
    profiles = ProfileService()
    users = UserService()


ConduitManager = DataManager[ConduitDAL, ConduitContext]


def make_data_manager(url: str, tokens: Tokens, passwords: PasswordHasher | None = None) -> ConduitManager:
    """The DataManager of a Conduit with its data at a URL."""
    dm = DataManager(ConduitDAL, context_class=ConduitContext)
    dm.register_resources(
        db=Database(url),
        passwords=ValueResource(passwords or PasswordHasher()),
        tokens=ValueResource(tokens),
    )
    dm.register_command_queue(LocalQueue(dm))  # in this process, unless `hosts.celery` sends commands to workers
    return dm


def data_manager_from_environment() -> ConduitManager:
    """The same, from ``DATABASE_URL`` and ``CONDUIT_SECRET``, which signs tokens: all processes need the same one."""
    url = os.environ.get("DATABASE_URL") or "sqlite:///conduit.db"
    dm = make_data_manager(url, Tokens(os.environ.get("CONDUIT_SECRET") or secrets.token_hex()))
    if url.startswith("sqlite"):
        create_tables(dm)  # on a server, two processes that start at once would both try
    return dm


def create_tables(dm: ConduitManager) -> None:
    """Create the missing tables."""
    Base.metadata.create_all(dm.get_client("db"))
