"""Articles: one by one, in lists, in the feed, as favourites."""

from __future__ import annotations

import re

import pytest

from tests.examples.conduit.visitors import Site

NOT_FOUND = {"body": ["article not found"], "article": ["not found"]}


# --- One --------------------------------------------------------------------------------------------------------------


def test_an_article_is_shown_as_it_was_published(site: Site) -> None:
    ann = site.join()
    article = ann.publish("How to train your dragon", "training", "dragons")
    assert site.anyone.get(f"/articles/{article['slug']}").json == {"article": article}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", article["createdAt"])
    assert article.pop("createdAt") == article.pop("updatedAt")
    assert article.pop("slug").startswith("how-to-train-your-dragon")
    assert article == {
        "title": "How to train your dragon",
        "description": "Ever wonder how?",
        "body": "You have to believe",
        "tagList": ["dragons", "training"],
        "favorited": False,
        "favoritesCount": 0,
        "author": {"username": ann.username, "bio": "", "image": "", "following": False},
    }


def test_articles_of_one_title_have_slugs_of_their_own(site: Site) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    slugs = {one.publish("The same title")["slug"] for one in (ann, bob, ann)}
    assert len(slugs) == 3


@pytest.mark.parametrize("title", ["Été & naïveté", "竜の飼い方", "!!!", "a/b?c#d%e", "x" * 255, "1", "-"])
def test_any_title_makes_a_slug_that_leads_to_the_article(site: Site, title: str) -> None:
    article = site.join().publish(title)
    answer = site.anyone.get(f"/articles/{article['slug']}")
    assert (answer.status, answer.json["article"]["title"]) == (200, title)


def test_the_slug_changes_with_the_title(site: Site) -> None:
    ann = site.join()
    article = ann.publish("How to train your dragon")
    changed = ann.put(f"/articles/{article['slug']}", {"article": {"title": "How to feed it"}}).json["article"]
    assert changed["slug"].startswith("how-to-feed-it")
    assert site.anyone.get(f"/articles/{changed['slug']}").json["article"]["title"] == "How to feed it"
    assert site.anyone.get(f"/articles/{article['slug']}").status == 404


def test_what_is_not_given_stays_as_it_is(site: Site) -> None:
    ann = site.join()
    article = ann.publish("How to train your dragon", "dragons")
    answer = ann.put(f"/articles/{article['slug']}", {"article": {"body": "With a carrot"}})
    changed = answer.json["article"]
    assert answer.status == 200
    assert changed["updatedAt"] >= article["updatedAt"]
    assert changed == {**article, "body": "With a carrot", "updatedAt": changed["updatedAt"]}


def test_tags_come_once_each_and_in_order(site: Site) -> None:
    assert site.join().publish("Tags", "tea", "Tea", " tea ", "milk", "äpfel")["tagList"] == [
        "Tea",
        "milk",
        "tea",
        "äpfel",
    ]


def test_tags_may_be_left_out(site: Site) -> None:
    new = {"title": "No tags", "description": "none", "body": "none"}
    answer = site.join().post("/articles", {"article": new})
    assert (answer.status, answer.json["article"]["tagList"]) == (201, [])


def test_all_tags_are_listed_in_order(site: Site) -> None:
    ann = site.join()
    ann.publish("Tags", "zebra", "aardvark")
    ann.publish("More tags", "zebra", "monkey")
    answer = site.anyone.get("/tags")
    tags = answer.json["tags"]
    assert answer.status == 200
    assert tags == sorted(set(tags))
    assert {"zebra", "aardvark", "monkey"} <= set(tags)


@pytest.mark.parametrize("missing", ["title", "description", "body"])
def test_what_is_missing_is_named(site: Site, missing: str) -> None:
    new = {"title": "Title", "description": "About", "body": "Text"}
    ann = site.join()
    for value in ({}, {missing: ""}):
        article = {**{field: text for field, text in new.items() if field != missing}, **value}
        answer = ann.post("/articles", {"article": article})
        assert (answer.status, answer.errors[missing]) == (422, ["can't be empty"])
    assert ann.titles(author=ann.username) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"title": " "},
        {"title": "x" * 256},
        {"title": "nul\0"},
        {"title": 7},
        {"description": "\ud800"},
        {"body": ["text"]},
        {"body": "x" * 16_001},
        {"tagList": "tea"},
        {"tagList": [7]},
        {"tagList": [""]},
        {"tagList": None},
        {"tagList": ["x" * 51]},
        {"tagList": ["tea"] * 51},
    ],
)
def test_an_article_that_makes_no_sense_is_refused(site: Site, wrong: dict[str, object]) -> None:
    new = {"title": "Title", "description": "About", "body": "Text", **wrong}
    answer = site.join().post("/articles", {"article": new})
    assert (answer.status, set(answer.errors)) == (422, {"body", *wrong})


def test_an_article_as_large_as_can_be_is_kept(site: Site) -> None:
    new = {
        "title": "\N{OX}" * 255,
        "description": "\N{OX}" * 16_000,
        "body": "\N{OX}" * 16_000,
        "tagList": ["\N{OX}" * 50],
    }
    answer = site.join().post("/articles", {"article": new})
    assert answer.status == 201
    assert site.anyone.get(f"/articles/{answer.json['article']['slug']}").json == answer.json


def test_publishing_needs_a_token(site: Site) -> None:
    new = {"title": "Title", "description": "About", "body": "Text"}
    assert site.anyone.post("/articles", {"article": new}).status == 401


def test_an_author_deletes_their_article_with_all_that_belongs_to_it(site: Site) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    tag = site.new_name("tag")
    slug = ann.publish("Short life", tag)["slug"]
    bob.comment(slug)
    bob.post(f"/articles/{slug}/favorite")
    answer = ann.delete(f"/articles/{slug}")
    assert (answer.status, answer.body) == (204, b"")
    assert site.anyone.get(f"/articles/{slug}").status == 404
    assert site.anyone.get(f"/articles/{slug}/comments").status == 404
    assert bob.titles(favorited=bob.username) == []
    assert tag not in site.anyone.get("/tags").json["tags"]


def test_nobody_else_changes_or_deletes_it(site: Site) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    article = ann.publish()
    path = f"/articles/{article['slug']}"
    for answer in (bob.put(path, {"article": {"title": "Mine"}}), bob.delete(path)):
        assert (answer.status, answer.errors["article"]) == (403, ["is not yours"])
    assert site.anyone.put(path, {"article": {"title": "Mine"}}).status == 401
    assert site.anyone.delete(path).status == 401
    assert site.anyone.get(path).json == {"article": article}


@pytest.mark.parametrize(
    "slug", ["nothing", "nothing-0", "0", "1x", "x-1", "%00", f"x-{2**31}", f"x-{2**70}", "x-٣", "x-", "-", "%FF"]
)
def test_what_is_not_there_is_not_found(site: Site, slug: str) -> None:
    ann = site.join()
    answer = ann.get(f"/articles/{slug}")
    assert (answer.status, answer.errors) == (404, NOT_FOUND)
    assert ann.put(f"/articles/{slug}", {"article": {"body": "Text"}}).status == 404
    assert ann.delete(f"/articles/{slug}").status == 404
    assert ann.post(f"/articles/{slug}/favorite").status == 404
    assert ann.delete(f"/articles/{slug}/favorite").status == 404


# --- Lists ------------------------------------------------------------------------------------------------------------


def test_a_list_is_newest_first_without_bodies(site: Site) -> None:
    ann = site.join()
    old, new = ann.publish("Old", "a"), ann.publish("New", "b")
    answer = site.anyone.get("/articles", author=ann.username)
    for article in (old, new):
        del article["body"]
    assert (answer.status, answer.json) == (200, {"articles": [new, old], "articlesCount": 2})


def test_the_newest_of_all_come_first(site: Site) -> None:
    site.join().publish("The latest news")
    assert site.anyone.titles()[0] == "The latest news"


def test_a_page_has_twenty_and_the_count_is_of_all(site: Site) -> None:
    ann = site.join()
    for number in range(22):
        ann.publish(f"Number {number}")
    answer = site.anyone.get("/articles", author=ann.username)
    assert (len(answer.json["articles"]), answer.json["articlesCount"]) == (20, 22)
    page = site.anyone.get("/articles", author=ann.username, limit=3, offset=20)
    assert [article["title"] for article in page.json["articles"]] == ["Number 1", "Number 0"]
    assert page.json["articlesCount"] == 22
    beyond = site.anyone.get("/articles", author=ann.username, offset=10**30, limit=10**30)
    assert beyond.json == {"articles": [], "articlesCount": 22}


def test_a_page_has_a_hundred_at_most(site: Site) -> None:
    assert len(site.anyone.get("/articles", limit=100_000).json["articles"]) <= 100


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": -1}, {"limit": "x"}, {"limit": ""}, {"offset": -1}, {"offset": "1.5"}]
)
@pytest.mark.parametrize("path", ["/articles", "/articles/feed"])
def test_a_page_that_makes_no_sense_is_refused(site: Site, path: str, query: dict[str, object]) -> None:
    answer = site.join().get(path, **query)
    assert (answer.status, list(answer.errors)) == (422, ["body", *query])


def test_articles_by_tag(site: Site) -> None:
    ann = site.join()
    tea, milk = site.new_name("tea"), site.new_name("milk")
    ann.publish("Both", tea, milk)
    ann.publish("Milk", milk)
    assert site.anyone.titles(tag=tea) == ["Both"]
    assert site.anyone.titles(tag=milk) == ["Milk", "Both"]
    assert site.anyone.get("/articles", tag="nothing").json == {"articles": [], "articlesCount": 0}


def test_articles_by_author_and_by_who_likes_them(site: Site) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    liked = ann.publish("Liked")
    ann.publish("Not liked")
    bob.publish("Bob's")
    bob.post(f"/articles/{liked['slug']}/favorite")
    assert site.anyone.titles(author=ann.username) == ["Not liked", "Liked"]
    assert site.anyone.titles(favorited=bob.username) == ["Liked"]
    assert site.anyone.titles(favorited=bob.username, author=bob.username) == []
    assert site.anyone.titles(favorited=bob.username, author=ann.username) == ["Liked"]
    assert site.anyone.titles(favorited=ann.username) == []


@pytest.mark.parametrize("name", ["tag", "author", "favorited"])
def test_a_filter_with_a_nul_is_refused(site: Site, name: str) -> None:
    answer = site.anyone.get("/articles", **{name: "a\0b"})
    assert (answer.status, list(answer.errors)) == (422, ["body", name])


def test_a_reader_sees_their_own_marks_in_a_list(site: Site) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    article = ann.publish()
    bob.post(f"/articles/{article['slug']}/favorite")
    bob.post(f"/profiles/{ann.username}/follow")

    def seen(reader: object) -> tuple[bool, int, bool]:
        (found,) = reader.get("/articles", author=ann.username).json["articles"]  # type: ignore[attr-defined]
        return found["favorited"], found["favoritesCount"], found["author"]["following"]

    assert [seen(reader) for reader in (bob, ann, site.anyone)] == [
        (True, 1, True),
        (False, 1, False),
        (False, 1, False),
    ]


# --- Feed -------------------------------------------------------------------------------------------------------------


def test_the_feed_has_the_articles_of_those_one_follows(site: Site) -> None:
    ann, bob, eve = site.join("ann"), site.join("bob"), site.join("eve")
    ann.publish("By ann, before")
    eve.post(f"/profiles/{ann.username}/follow")
    bob.publish("By bob")
    eve.publish("By eve")
    ann.publish("By ann, after")
    answer = eve.get("/articles/feed")
    assert eve.titles("/articles/feed") == ["By ann, after", "By ann, before"]
    assert answer.json["articlesCount"] == 2
    assert all(article["author"]["following"] for article in answer.json["articles"])
    assert all("body" not in article for article in answer.json["articles"])


def test_the_feed_has_pages(site: Site) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    bob.post(f"/profiles/{ann.username}/follow")
    for number in range(3):
        ann.publish(f"Number {number}")
    answer = bob.get("/articles/feed", limit=1, offset=1)
    assert [article["title"] for article in answer.json["articles"]] == ["Number 1"]
    assert answer.json["articlesCount"] == 3


def test_who_follows_nobody_has_an_empty_feed(site: Site) -> None:
    assert site.join().get("/articles/feed").json == {"articles": [], "articlesCount": 0}


def test_the_feed_needs_a_token(site: Site) -> None:
    assert site.anyone.get("/articles/feed").status == 401


# --- Favourites -------------------------------------------------------------------------------------------------------


def test_a_favourite_is_counted_once_for_each_reader(site: Site) -> None:
    ann, bob, eve = site.join("ann"), site.join("bob"), site.join("eve")
    article = ann.publish()
    path = f"/articles/{article['slug']}/favorite"
    answers = [bob.post(path), eve.post(path), eve.post(path)]
    assert [answer.status for answer in answers] == [200] * 3
    assert [answer.json["article"]["favoritesCount"] for answer in answers] == [1, 2, 2]
    assert answers[0].json["article"] == {**article, "favorited": True, "favoritesCount": 1}


def test_a_favourite_is_taken_back(site: Site) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    article = ann.publish()
    path = f"/articles/{article['slug']}/favorite"
    bob.post(path)
    for _ in range(2):
        answer = bob.delete(path)
        assert (answer.status, answer.json) == (200, {"article": article})


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_favourite_needs_a_token(site: Site, method: str) -> None:
    slug = site.join().publish()["slug"]
    assert site.anyone.ask(method, f"/articles/{slug}/favorite").status == 401
