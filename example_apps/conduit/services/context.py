"""The type of ``self._ctx``, and the base class of all Conduit services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from argon2 import PasswordHasher
from sqlalchemy import ColumnElement, exists
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from conduit.services.errors import NotFound, Unauthorized
from conduit.services.tables import ArticleRow, Base, FollowRow, UserRow
from conduit.services.tokens import Tokens
from polydatum import Context, Service

if TYPE_CHECKING:
    from conduit.services.layer import ConduitDAL


class ConduitContext(Context):
    """One unit of work, with its resources; `layer.make_data_manager` registers them."""

    dal: ConduitDAL
    db: Session
    passwords: PasswordHasher
    tokens: Tokens


class ConduitService(Service[ConduitContext]):
    """A service that knows its viewer: the user that the host has authenticated, loaded on first access."""

    @property
    def _viewer(self) -> UserRow | None:
        user: UserRow | None = self._ctx.meta.user
        return user

    @property
    def _viewer_id(self) -> int | None:
        viewer = self._viewer
        return None if viewer is None else viewer.id

    def _require_viewer(self) -> UserRow:
        viewer = self._viewer
        if viewer is None:
            raise Unauthorized(token="is missing")
        return viewer

    def _is_followed(self) -> ColumnElement[bool]:
        """For a user in a query: whether the viewer follows them."""
        return exists().where(FollowRow.follower_id == self._viewer_id, FollowRow.followed_id == UserRow.id)

    def _find_article(self, slug: str, *, to_change: bool = False) -> ArticleRow:
        """The bare row of an article; with ``to_change`` it is locked, so that nobody deletes it meanwhile.

        Raises:
            NotFound: if there is no such article.
        """
        article = self._ctx.db.get(ArticleRow, ArticleRow.id_in(slug), with_for_update=to_change)
        if article is None or article.slug != slug:
            raise NotFound(article="not found")
        return article

    def _add_once(self, row: Base) -> None:
        """Add a row that may already exist, from before or from a concurrent request."""
        try:
            with self._ctx.nested():
                self._ctx.db.add(row)
                self._ctx.db.flush()  # so that a conflict is raised inside the block
        except IntegrityError:
            pass
