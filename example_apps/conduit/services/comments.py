"""Comments on articles."""

from __future__ import annotations

from sqlalchemy import Select, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import contains_eager

from conduit.services.context import ConduitService
from conduit.services.errors import Forbidden, NotFound
from conduit.services.schemas import Comment, NewComment
from conduit.services.tables import MAX_ID, CommentRow, UserRow


class CommentService(ConduitService):
    """The comments on an article."""

    def of_article(self, slug: str) -> list[Comment]:
        """The comments on an article, newest first.

        Raises:
            NotFound: if there is no such article.
        """
        article = self._find_article(slug)
        query = self._select().where(CommentRow.article_id == article.id).order_by(CommentRow.id.desc())
        return [Comment.model_validate(row) for row in self._ctx.db.scalars(query)]

    def add(self, slug: str, new: NewComment) -> Comment:
        """Comment on an article.

        Raises:
            NotFound: if there is no such article.
        """
        viewer = self._require_viewer()
        comment = CommentRow(article_id=self._find_article(slug).id, author_id=viewer.id, body=new.body)
        self._ctx.db.add(comment)
        try:
            self._ctx.db.flush()  # for the id
        except IntegrityError:  # somebody has just deleted the article
            raise NotFound(article="not found") from None
        return Comment.model_validate(self._ctx.db.scalars(self._select().where(CommentRow.id == comment.id)).one())

    def delete(self, slug: str, comment_id: int) -> None:
        """Delete one of the viewer's comments.

        Raises:
            NotFound: if there is no such comment on that article.
            Forbidden: if somebody else has written it.
        """
        viewer = self._require_viewer()
        article = self._find_article(slug)
        comment = self._ctx.db.get(CommentRow, comment_id) if comment_id <= MAX_ID else None
        if comment is None or comment.article_id != article.id:
            raise NotFound(comment="not found")
        if comment.author_id != viewer.id:
            raise Forbidden(comment="is not yours")
        self._ctx.db.execute(delete(CommentRow).where(CommentRow.id == comment_id))

    def _select(self) -> Select[CommentRow]:
        return (
            select(CommentRow)
            .join(CommentRow.author)
            .options(contains_eager(CommentRow.author).with_expression(UserRow.following, self._is_followed()))
            .execution_options(populate_existing=True)  # the viewer may be an author, and already loaded
        )
