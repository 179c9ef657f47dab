"""What is in the database, and what is asked for: the same for both applications."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import NamedTuple

from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from conduit.services.database import Database
from conduit.services.tables import ArticleRow, Base, FavoriteRow, TagRow, UserRow
from conduit.services.tokens import Tokens

SECRET = "a secret of 32 bytes for the load"
AUTHORS, ARTICLES, READERS = 10, 200, 100
TAGS = ["dragons", "training", "vikings"]
BODY = "You have to believe. " * 50


class Endpoint(NamedTuple):
    """What is asked for, again and again.

    Attributes:
        requests: as they go over the wire, to be sent one after the other.
        writes: whether each of them leaves a favourite that was none.
    """

    name: str
    requests: list[bytes]
    writes: bool = False


class Site:
    """A Conduit's database, with articles and readers in it.

    Attributes:
        url: where it is.
        endpoints: those that are measured.
    """

    def __init__(self, url: str, engine: Engine) -> None:
        self.url = url
        self._engine = engine
        Base.metadata.create_all(engine)
        with Session(engine) as db:
            authors = [_user(f"author{number}") for number in range(AUTHORS)]
            readers = [_user(f"reader{number}") for number in range(READERS)]
            db.add_all([*authors, *readers])
            db.flush()
            articles = [_article(number, authors[number % AUTHORS].id) for number in range(ARTICLES)]
            db.add_all(articles)
            db.flush()
            self.endpoints = _endpoints([article.slug for article in articles], [reader.id for reader in readers])
            db.commit()
        self._execute("ANALYZE")

    def forget_favorites(self) -> None:
        """There are none any more, and never were, for whatever the database keeps of deleted rows."""
        self._execute("DELETE FROM favorites" if self._engine.dialect.name == "sqlite" else "TRUNCATE favorites")

    def count_favorites(self) -> int:
        with self._engine.begin() as connection:
            return connection.scalars(select(func.count()).select_from(FavoriteRow)).one()

    def _execute(self, statement: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(text(statement))


@contextmanager
def site_at(url: str) -> Iterator[Site]:
    """A site in an empty database."""
    engine = Database(url).connect()
    try:
        yield Site(url, engine)
    finally:
        engine.dispose()


def _user(name: str) -> UserRow:
    return UserRow(username=name, email=f"{name}@example.org", password_hash="none", bio=f"I am {name}.")


def _article(number: int, author_id: int) -> ArticleRow:
    title = f"How to train your dragon, part {number}"
    tags = [TagRow(name=name) for name in TAGS]
    return ArticleRow(author_id=author_id, title=title, description="Ever wonder how?", body=BODY, tags=tags)


def _endpoints(slugs: list[str], readers: list[int]) -> list[Endpoint]:
    pairs = list(product(slugs, map(Tokens(SECRET).issue, readers)))
    random.Random(1).shuffle(pairs)
    return [
        Endpoint("article list", [_request("GET", "/api/articles")]),
        Endpoint("article", [_request("GET", f"/api/articles/{slug}") for slug in slugs]),
        Endpoint(
            "favourite",
            [_request("POST", f"/api/articles/{slug}/favorite", token) for slug, token in pairs],
            writes=True,
        ),
    ]


def _request(method: str, target: str, token: str | None = None) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1"]
    if method == "POST":
        lines.append("Content-Length: 0")
    if token is not None:
        lines.append(f"Authorization: Token {token}")
    return "\r\n".join([*lines, "", ""]).encode()
