"""The JSON of the API: validated input from clients, and the output. The names are those of the API's description."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict  # pydantic reads typing's from Python 3.12 on

from conduit.services.errors import Invalid, problems_in

MOST_ARTICLES = 100
"""The maximum on one page."""

# What every database can store: PostgreSQL accepts no NUL, MariaDB's TEXT holds 64 KiB.
STORABLE = r"^[^\x00]*$"

Username = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50, pattern=r"^\w[\w .-]*$")
]
Email = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^@\s\x00]+@[^@\s\x00]+$")]
Password = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=STORABLE)]
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50, pattern=STORABLE)]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255, pattern=STORABLE)]
Prose = Annotated[str, StringConstraints(min_length=1, max_length=16_000, pattern=STORABLE)]
Remark = Annotated[str, StringConstraints(max_length=10_000, pattern=STORABLE)]
Known = Annotated[str, StringConstraints(pattern=STORABLE)]

Timestamp = Annotated[
    datetime,
    PlainSerializer(lambda time: time.isoformat(timespec="milliseconds").replace("+00:00", "Z"), when_used="json"),
]


class Schema(BaseModel):
    """JSON in camelCase, read from clients or made of our own objects."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True, from_attributes=True
    )

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Read and validate a client's JSON.

        Raises:
            Invalid: if the body is not JSON, or does not fit the schema.
        """
        if not body:
            raise Invalid(body="can't be empty")
        try:
            sent = json.loads(body)
        except (ValueError, RecursionError):
            raise Invalid(body="is not valid JSON") from None
        return cls._checked(sent)

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """Validate the parameters of a URL, or command line options.

        Raises:
            Invalid: if they do not fit the schema.
        """
        return cls._checked(dict(values))

    @classmethod
    def _checked(cls, sent: object) -> Self:
        try:
            return cls.model_validate(sent)
        except ValidationError as error:
            raise Invalid(**problems_in(error.errors())) from None


# --- Users ------------------------------------------------------------------------------------------------------------


class LoginUser(Schema):
    email: Email
    password: Password = Field(repr=False)


class NewUser(LoginUser):
    username: Username


class UpdateUser(TypedDict, total=False):
    """The fields to change; missing ones stay unchanged."""

    email: Email
    password: Password
    username: Username
    bio: Remark
    image: Remark


class User(Schema):
    email: str
    token: str = Field(repr=False)
    username: str
    bio: str
    image: str


class Profile(Schema):
    username: str
    bio: str
    image: str
    following: bool


class LoginUserRequest(Schema):
    user: LoginUser


class NewUserRequest(Schema):
    user: NewUser


class UpdateUserRequest(Schema):
    user: UpdateUser = Field(min_length=1, json_schema_extra={"minProperties": 1})


class UserResponse(Schema):
    user: User


class ProfileResponse(Schema):
    profile: Profile


# --- Articles ---------------------------------------------------------------------------------------------------------


class Page(Schema):
    """A part of a list."""

    limit: Annotated[int, Field(ge=1), AfterValidator(lambda limit: min(limit, MOST_ARTICLES))] = 20
    offset: Annotated[int, Field(ge=0), AfterValidator(lambda offset: min(offset, 2**31))] = 0


class ArticleFilter(Page):
    """The conditions that all listed articles meet."""

    tag: Known | None = None
    author: Known | None = None
    favorited: Known | None = None


class NewArticle(Schema):
    title: Title
    description: Prose
    body: Prose
    tag_list: list[Tag] = Field(default=[], max_length=50)


class UpdateArticle(TypedDict, total=False):
    """The fields to change; missing ones stay unchanged."""

    title: Title
    description: Prose
    body: Prose


class ArticleSummary(Schema):
    """An article in a list."""

    slug: str
    title: str
    description: str
    tag_list: list[str]
    created_at: Timestamp
    updated_at: Timestamp
    favorited: bool
    favorites_count: int
    author: Profile


class Article(ArticleSummary):
    body: str


class NewArticleRequest(Schema):
    article: NewArticle


class UpdateArticleRequest(Schema):
    article: UpdateArticle


class SingleArticleResponse(Schema):
    article: Article


class MultipleArticlesResponse(Schema):
    articles: list[ArticleSummary]
    articles_count: int


class TagsResponse(Schema):
    tags: list[str]


# --- Comments ---------------------------------------------------------------------------------------------------------


class NewComment(Schema):
    body: Prose


class Comment(Schema):
    id: int
    created_at: Timestamp
    updated_at: Timestamp
    body: str
    author: Profile


class NewCommentRequest(Schema):
    comment: NewComment


class SingleCommentResponse(Schema):
    comment: Comment


class MultipleCommentsResponse(Schema):
    comments: list[Comment]
