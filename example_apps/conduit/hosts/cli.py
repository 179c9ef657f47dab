"""Conduit on the command line: ``python -m conduit articles list``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from conduit.seed import seed
from conduit.services import schemas as s
from conduit.services.errors import ConduitError
from conduit.services.layer import ConduitDAL, ConduitManager, create_tables, data_manager_from_environment
from polydatum import lazy


def list_articles(dal: ConduitDAL, given: argparse.Namespace) -> None:
    wanted = {name: getattr(given, name) for name in ("tag", "author", "favorited", "limit")}
    for article in dal.articles.search(s.ArticleFilter.of(wanted)).articles:
        print(f"{article.created_at:%Y-%m-%d}  {article.slug}  by {article.author.username}")


def show_article(dal: ConduitDAL, given: argparse.Namespace) -> None:
    article = dal.articles.get(given.slug)
    print(f"{article.title}\nby {article.author.username}, {article.created_at:%Y-%m-%d}\n\n{article.body}")


def publish_article(dal: ConduitDAL, given: argparse.Namespace) -> None:
    new = {"title": given.title, "description": given.description, "body": sys.stdin.read(), "tagList": given.tag}
    print(dal.articles.publish(s.NewArticle.of(new)).slug)


def delete_article(dal: ConduitDAL, given: argparse.Namespace) -> None:
    dal.articles.delete(given.slug)


def list_notifications(dal: ConduitDAL, given: argparse.Namespace) -> None:
    for title in dal.notifications.titles():
        print(title)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m conduit", description="Conduit, by DATABASE_URL.")
    parser.add_argument("--as", dest="user", metavar="NAME", help="the user who asks")
    parser.set_defaults(run=None)
    nouns = parser.add_subparsers(required=True, metavar="COMMAND")
    articles = nouns.add_parser("articles", help="list, show, publish or delete articles").add_subparsers(required=True)

    listing = articles.add_parser("list", help="the newest articles")
    for name in ("--tag", "--author", "--favorited"):
        listing.add_argument(name)
    listing.add_argument("--limit", default=20)
    listing.set_defaults(run=list_articles)

    for name, run in (("show", show_article), ("delete", delete_article)):
        one = articles.add_parser(name)
        one.add_argument("slug")
        one.set_defaults(run=run)

    publishing = articles.add_parser("publish", help="publish what stands in the standard input")
    publishing.add_argument("title")
    publishing.add_argument("--description", required=True)
    publishing.add_argument("--tag", action="append", default=[])
    publishing.set_defaults(run=publish_article)

    nouns.add_parser("notifications", help="what one was notified of").set_defaults(run=list_notifications)
    nouns.add_parser("create-tables").set_defaults(prepare=create_tables)
    nouns.add_parser("seed", help="fill an empty database").set_defaults(prepare=seed)
    return parser


def main(arguments: Sequence[str] | None = None, dm: ConduitManager | None = None) -> None:
    """Run a command. A ConduitError rolls back, and ends it with its message and exit code 1."""
    given = make_parser().parse_args(arguments)
    dm = dm or data_manager_from_environment()
    if given.run is None:
        given.prepare(dm)
        return
    users = dm.get_dal().users
    try:
        with dm.dal(meta={"user": lazy(partial(users.find, given.user)) if given.user else None}) as dal:
            given.run(dal, given)
    except ConduitError as error:
        sys.exit(str(error))
