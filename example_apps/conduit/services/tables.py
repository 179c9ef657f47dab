"""The tables. Columns that depend on the viewer are filled by the queries that need them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Dialect, ForeignKey, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, query_expression, relationship
from sqlalchemy.types import TypeDecorator

MAX_ID = 2**31 - 1
"""The smallest maximum of an id among the databases."""


class Moment(TypeDecorator[datetime]):
    """A time in UTC, stored as milliseconds, since databases differ in their time types."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else round(value.timestamp() * 1000)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromtimestamp(value / 1000, UTC)


def now() -> datetime:
    """The current time, with the precision that is stored."""
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def as_created(context: Any) -> datetime:
    """The row's time of creation: a second look at the clock may be a millisecond later."""
    created: datetime = context.get_current_parameters()["created_at"]
    return created


class Base(DeclarativeBase):
    type_annotation_map = {datetime: Moment, str: Text}  # noqa: RUF012 - SQLAlchemy's own
    # By default MariaDB treats "Ann", "ann" and "ann " as equal, unlike the other databases.
    __table_args__: Any = dict.fromkeys(("mariadb_collate", "mysql_collate"), "utf8mb4_nopad_bin")


class UserRow(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(50), unique=True)
    email: Mapped[str] = mapped_column(String(255), unique=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    bio: Mapped[str] = mapped_column(default="")
    image: Mapped[str] = mapped_column(default="")

    following: Mapped[bool] = query_expression()  # does the viewer follow them?


class FollowRow(Base):
    __tablename__ = "follows"

    follower_id: Mapped[int] = mapped_column(ForeignKey(UserRow.id), primary_key=True)
    followed_id: Mapped[int] = mapped_column(ForeignKey(UserRow.id), primary_key=True, index=True)


class ArticleRow(Base):
    __tablename__ = "articles"

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey(UserRow.id), index=True)
    title: Mapped[str] = mapped_column(String(255))
    description: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=as_created)

    # No hidden loading row by row: access to something that the query did not load raises.
    author: Mapped[UserRow] = relationship(lazy="raise")
    tags: Mapped[list[TagRow]] = relationship(lazy="raise")

    favorited: Mapped[bool] = query_expression()  # by the viewer?
    favorites_count: Mapped[int] = query_expression()

    @property
    def slug(self) -> str:
        """The words of the title, and the id, which makes it unique. It changes with the title."""
        return "-".join([*re.findall(r"\w+", self.title.lower()), str(self.id)])

    @staticmethod
    def id_in(slug: str) -> int:
        """The id in a slug; 0, which no article has, if there is none."""
        last = slug.rpartition("-")[2]
        return int(last) if re.fullmatch("[0-9]{1,9}", last) else 0

    @property
    def tag_list(self) -> list[str]:
        return sorted(tag.name for tag in self.tags)


class TagRow(Base):
    __tablename__ = "tags"

    article_id: Mapped[int] = mapped_column(ForeignKey(ArticleRow.id, ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(50), primary_key=True, index=True)


class FavoriteRow(Base):
    __tablename__ = "favorites"

    user_id: Mapped[int] = mapped_column(ForeignKey(UserRow.id), primary_key=True)
    article_id: Mapped[int] = mapped_column(ForeignKey(ArticleRow.id, ondelete="CASCADE"), primary_key=True, index=True)


class CommentRow(Base):
    __tablename__ = "comments"

    id: Mapped[int] = mapped_column(primary_key=True)
    article_id: Mapped[int] = mapped_column(ForeignKey(ArticleRow.id, ondelete="CASCADE"), index=True)
    author_id: Mapped[int] = mapped_column(ForeignKey(UserRow.id))
    body: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=as_created)

    author: Mapped[UserRow] = relationship(lazy="raise")


class NotificationRow(Base):
    """Tells a user that somebody they follow has published an article."""

    __tablename__ = "notifications"

    user_id: Mapped[int] = mapped_column(ForeignKey(UserRow.id), primary_key=True)
    article_id: Mapped[int] = mapped_column(ForeignKey(ArticleRow.id, ondelete="CASCADE"), primary_key=True)

    article: Mapped[ArticleRow] = relationship(lazy="raise")
