"""Articles: publishing, finding and favouriting them."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Select, delete, exists, func, select
from sqlalchemy.orm import aliased, contains_eager, defer, selectinload, with_expression

from conduit.services.context import ConduitService
from conduit.services.errors import Forbidden, NotFound
from conduit.services.schemas import (
    Article,
    ArticleFilter,
    ArticleSummary,
    MultipleArticlesResponse,
    NewArticle,
    Page,
    UpdateArticle,
)
from conduit.services.tables import ArticleRow, FavoriteRow, TagRow, UserRow, now
from polydatum import command


class ArticleService(ConduitService):
    """The articles, as the viewer sees them."""

    def search(self, wanted: ArticleFilter) -> MultipleArticlesResponse:
        """The articles that match a filter, newest first."""
        conditions: list[ColumnElement[bool]] = []
        if wanted.tag is not None:
            conditions.append(ArticleRow.tags.any(TagRow.name == wanted.tag))
        if wanted.author is not None:
            conditions.append(UserRow.username == wanted.author)
        if wanted.favorited is not None:
            fan = aliased(UserRow)
            conditions.append(
                exists().where(
                    FavoriteRow.article_id == ArticleRow.id,
                    FavoriteRow.user_id == fan.id,
                    fan.username == wanted.favorited,
                )
            )
        return self._page(wanted, conditions)

    def feed(self, page: Page) -> MultipleArticlesResponse:
        """The articles of the authors that the viewer follows, newest first."""
        self._require_viewer()
        return self._page(page, [self._is_followed()])

    def get(self, slug: str) -> Article:
        """One article.

        Raises:
            NotFound: if there is no such article.
        """
        return self._shown(self._find_article(slug).id)

    def publish(self, new: NewArticle) -> Article:
        """Publish an article; the viewer's followers are notified once it has been committed."""
        author = self._require_viewer()
        article = ArticleRow(
            author_id=author.id,
            title=new.title,
            description=new.description,
            body=new.body,
            tags=[TagRow(name=name) for name in set(new.tag_list)],
        )
        self._ctx.db.add(article)
        self._ctx.db.flush()  # for the id
        self._ctx.enqueue(command(self._ctx.dal.notifications.notify_followers, article.id))
        return self._shown(article.id)

    def update(self, slug: str, changes: UpdateArticle) -> Article:
        """Change one of the viewer's articles; a new title changes the slug.

        Raises:
            NotFound: if there is no such article.
            Forbidden: if somebody else has written it.
        """
        article = self._find_own(slug)
        for name, value in changes.items():
            setattr(article, name, value)
        article.updated_at = now()
        return self._shown(article.id)

    def delete(self, slug: str) -> None:
        """Delete one of the viewer's articles, with everything that belongs to it.

        Raises:
            NotFound: if there is no such article.
            Forbidden: if somebody else has written it.
        """
        article = self._find_own(slug)
        self._ctx.db.execute(delete(ArticleRow).where(ArticleRow.id == article.id))

    def favorite(self, slug: str) -> Article:
        """Make an article one of the viewer's favourites; no change if it already is.

        Raises:
            NotFound: if there is no such article.
        """
        viewer = self._require_viewer()
        article = self._find_article(slug)
        self._add_once(FavoriteRow(user_id=viewer.id, article_id=article.id))
        return self._shown(article.id)

    def unfavorite(self, slug: str) -> Article:
        """Remove an article from the viewer's favourites; no change if it is none of them.

        Raises:
            NotFound: if there is no such article.
        """
        viewer = self._require_viewer()
        article = self._find_article(slug)
        self._ctx.db.execute(
            delete(FavoriteRow).where(FavoriteRow.user_id == viewer.id, FavoriteRow.article_id == article.id)
        )
        return self._shown(article.id)

    def tags(self) -> list[str]:
        """All tags of articles, in alphabetical order."""
        return sorted(self._ctx.db.scalars(select(TagRow.name).distinct()))

    def _find_own(self, slug: str) -> ArticleRow:
        viewer = self._require_viewer()
        article = self._find_article(slug, to_change=True)
        if article.author_id != viewer.id:
            raise Forbidden(article="is not yours")
        return article

    def _shown(self, article_id: int) -> Article:
        article = self._ctx.db.scalar(self._select().where(ArticleRow.id == article_id))
        if article is None:  # somebody has just deleted it
            raise NotFound(article="not found")
        return Article.model_validate(article)

    def _page(self, page: Page, conditions: list[ColumnElement[bool]]) -> MultipleArticlesResponse:
        db = self._ctx.db
        count = select(func.count()).select_from(ArticleRow).join(ArticleRow.author).where(*conditions)
        query = self._select().where(*conditions).options(defer(ArticleRow.body))
        rows = db.scalars(query.order_by(ArticleRow.id.desc()).limit(page.limit).offset(page.offset))
        return MultipleArticlesResponse(
            articles=[ArticleSummary.model_validate(row) for row in rows],
            articles_count=db.scalars(count).one(),
        )

    def _select(self) -> Select[ArticleRow]:
        """Articles with all that is shown of them: in two queries, however many there are."""
        favorites = select(func.count()).where(FavoriteRow.article_id == ArticleRow.id)
        return (
            select(ArticleRow)
            .join(ArticleRow.author)
            .options(
                contains_eager(ArticleRow.author).with_expression(UserRow.following, self._is_followed()),
                selectinload(ArticleRow.tags),
                with_expression(ArticleRow.favorites_count, favorites.scalar_subquery()),
                with_expression(
                    ArticleRow.favorited,
                    exists().where(FavoriteRow.article_id == ArticleRow.id, FavoriteRow.user_id == self._viewer_id),
                ),
            )
            .execution_options(populate_existing=True)  # the viewer may be an author, too, and is loaded already
        )
