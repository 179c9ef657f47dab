"""Notifications: written in the background, after an article was committed."""

from __future__ import annotations

from sqlalchemy import exists, insert, select

from conduit.services.context import ConduitService
from conduit.services.tables import ArticleRow, FollowRow, NotificationRow
from polydatum import command


class NotificationService(ConduitService):
    """Notifications of new articles."""

    @command
    def notify_followers(self, article_id: int) -> None:
        """Notify the followers of an article's author, each only once, as a queue may deliver a command twice."""
        notified = exists().where(
            NotificationRow.user_id == FollowRow.follower_id, NotificationRow.article_id == ArticleRow.id
        )
        followers = (
            select(FollowRow.follower_id, ArticleRow.id)
            .join(ArticleRow, ArticleRow.author_id == FollowRow.followed_id)
            .where(ArticleRow.id == article_id, ~notified)
        )
        self._ctx.db.execute(insert(NotificationRow).from_select(["user_id", "article_id"], followers))

    def titles(self) -> list[str]:
        """The titles of the articles that the viewer was notified of, newest first."""
        viewer = self._require_viewer()
        query = (
            select(ArticleRow.title)
            .join(NotificationRow, NotificationRow.article_id == ArticleRow.id)
            .where(NotificationRow.user_id == viewer.id)
            .order_by(ArticleRow.id.desc())
        )
        return list(self._ctx.db.scalars(query))
