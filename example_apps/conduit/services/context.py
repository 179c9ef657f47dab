"""What a service finds in ``self._ctx``, and what all services of Conduit can do."""

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
    """A service that knows who is looking: the user that the host has authenticated, loaded when it is read first."""

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
        """Of a user in a query: whether the viewer follows them."""
        return exists().where(FollowRow.follower_id == self._viewer_id, FollowRow.followed_id == UserRow.id)

    def _find_article(self, slug: str, *, to_change: bool = False) -> ArticleRow:
        """The bare row of an article; one that is to change is locked, so that it does not go meanwhile.

        Raises:
            NotFound: if there is none of that slug.
        """
        article = self._ctx.db.get(ArticleRow, ArticleRow.id_in(slug), with_for_update=to_change)
        if article is None or article.slug != slug:
            raise NotFound(article="not found")
        return article

    def _add_once(self, row: Base) -> None:
        """Keep a row that may be there already: from before, or by a request at the same time."""
        try:
            with self._ctx.nested():
                self._ctx.db.add(row)
                self._ctx.db.flush()  # fails inside of the block, if it does
        except IntegrityError:
            pass
