"""The site: which page is served at which address."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import Field

from conduit.pages.words import day, initials, is_loadable, prose, tint
from conduit.services import schemas as s
from conduit.services.errors import ConduitError, NotFound
from conduit.services.layer import ConduitDAL, ConduitManager

PER_PAGE = 5
PATH = r"(?!api(?:/|$)).*"
"""The paths that the pages answer, without the leading slash: all except the API's."""
FOLDER = Path(__file__).parent
FILES = {"/style.css": "text/css; charset=utf-8", "/icon.svg": "image/svg+xml"}
HEADERS = {
    # Injected content can load nothing, run nothing and send nothing.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' https:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

templates = Environment(
    autoescape=True,
    loader=FileSystemLoader(FOLDER / "templates"),
    lstrip_blocks=True,
    trim_blocks=True,
    undefined=StrictUndefined,
)
templates.filters.update(day=day, initials=initials, prose=prose, tint=tint)
templates.tests.update(loadable=is_loadable)


class Page(NamedTuple):
    """The answer that a host sends."""

    body: str
    status: int
    headers: Mapping[str, str]


class Wanted(s.Schema):
    """The parameters of a URL."""

    tag: s.Known | None = None
    page: Annotated[int, Field(ge=1)] = 1


class Listing(NamedTuple):
    """A page of a list of articles."""

    articles: list[s.ArticleSummary]
    number: int
    last: int


def answer(dm: ConduitManager, path: str, query: Mapping[str, str]) -> Page:
    """The page at an address; an error of a service becomes a page, too, with its status.

    Args:
        dm: the manager to read from, in a read-only context, so that showing a page cannot write by mistake.
        path: the path, with escapes decoded.
        query: the parameters of the URL.
    """
    if path in FILES:
        return _page((FOLDER / "files" / path[1:]).read_text(), 200, FILES[path])
    try:
        with dm.dal(read_only=True) as dal:
            template, facts = _find(dal, path, query)
        status = 200
    except ConduitError as error:
        template, facts, status = "error.html", {"error": error}, error.code
    return _page(templates.get_template(template).render(facts), status, "text/html; charset=utf-8")


def _page(body: str, status: int, content_type: str) -> Page:
    return Page(body, status, {"Content-Type": content_type, **HEADERS})


def _find(dal: ConduitDAL, path: str, query: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """The template for an address, and its variables."""
    for pattern, template, gather in ADDRESSES:
        if found := re.fullmatch(pattern, path):
            return template, gather(dal, Wanted.of(query), *found.groups())
    raise NotFound(page="not found")


def _newest(dal: ConduitDAL, wanted: Wanted) -> dict[str, Any]:
    return {"listing": _list(dal, wanted, tag=wanted.tag), "tag": wanted.tag, "tags": dal.articles.tags()}


def _article(dal: ConduitDAL, wanted: Wanted, slug: str) -> dict[str, Any]:
    return {"article": dal.articles.get(slug), "comments": dal.comments.of_article(slug)[::-1]}


def _written(dal: ConduitDAL, wanted: Wanted, username: str) -> dict[str, Any]:
    return {"profile": dal.profiles.get(username), "listing": _list(dal, wanted, author=username), "shows": "articles"}


def _favorites(dal: ConduitDAL, wanted: Wanted, username: str) -> dict[str, Any]:
    profile = dal.profiles.get(username)
    return {"profile": profile, "listing": _list(dal, wanted, favorited=username), "shows": "favorites"}


def _list(dal: ConduitDAL, wanted: Wanted, **conditions: str | None) -> Listing:
    offset = (wanted.page - 1) * PER_PAGE
    found = dal.articles.search(s.ArticleFilter.of({**conditions, "limit": PER_PAGE, "offset": offset}))
    last = max(1, math.ceil(found.articles_count / PER_PAGE))
    if wanted.page > last:
        raise NotFound(page="not found")
    return Listing(found.articles, wanted.page, last)


ADDRESSES: list[tuple[str, str, Callable[..., dict[str, Any]]]] = [
    ("/", "newest.html", _newest),
    ("/articles/([^/]+)", "article.html", _article),
    ("/profiles/([^/]+)", "profile.html", _written),
    ("/profiles/([^/]+)/favorites", "profile.html", _favorites),
]
