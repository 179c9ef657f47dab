"""Comments on articles."""

from __future__ import annotations

import re

import pytest

from tests.examples.conduit.visitors import Site


def test_a_comment_is_shown_with_its_author(site: Site) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    comment = bob.comment(ann.publish()["slug"], "It takes a Jacobian")
    assert isinstance(comment.pop("id"), int)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", comment.pop("createdAt"))
    assert comment.pop("updatedAt")
    author = {"username": bob.username, "bio": "", "image": "", "following": False}
    assert comment == {"body": "It takes a Jacobian", "author": author}


def test_comments_are_listed_newest_first_as_they_were_made(site: Site) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    slug = ann.publish()["slug"]
    first, second = bob.comment(slug, "one"), ann.comment(slug, "two")
    answer = site.anyone.get(f"/articles/{slug}/comments")
    assert (answer.status, answer.json) == (200, {"comments": [second, first]})


def test_each_article_has_its_own(site: Site) -> None:
    ann = site.join()
    slug, other = ann.publish()["slug"], ann.publish()["slug"]
    ann.comment(slug)
    assert site.anyone.get(f"/articles/{other}/comments").json == {"comments": []}


def test_a_reader_sees_whom_they_follow(site: Site) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    slug = ann.publish()["slug"]
    ann.comment(slug)
    bob.comment(slug)
    bob.post(f"/profiles/{ann.username}/follow")
    seen = [comment["author"]["following"] for comment in bob.get(f"/articles/{slug}/comments").json["comments"]]
    assert seen == [False, True]


def test_an_author_deletes_their_comment(site: Site) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    slug = ann.publish()["slug"]
    comment, kept = bob.comment(slug), bob.comment(slug)
    answer = bob.delete(f"/articles/{slug}/comments/{comment['id']}")
    assert (answer.status, answer.body) == (204, b"")
    assert bob.get(f"/articles/{slug}/comments").json == {"comments": [kept]}


def test_nobody_else_does_nor_the_author_of_the_article(site: Site) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    slug = ann.publish()["slug"]
    comment = bob.comment(slug)
    answer = ann.delete(f"/articles/{slug}/comments/{comment['id']}")
    assert (answer.status, answer.errors["comment"]) == (403, ["is not yours"])
    assert site.anyone.delete(f"/articles/{slug}/comments/{comment['id']}").status == 401
    assert ann.get(f"/articles/{slug}/comments").json == {"comments": [comment]}


def test_a_comment_is_found_under_its_own_article_only(site: Site) -> None:
    ann = site.join()
    slug, other = ann.publish()["slug"], ann.publish()["slug"]
    comment = ann.comment(slug)
    answer = ann.delete(f"/articles/{other}/comments/{comment['id']}")
    assert (answer.status, answer.errors["comment"]) == (404, ["not found"])


@pytest.mark.parametrize("comment_id", ["0", str(2**31), str(2**64), "9" * 40])
def test_a_comment_that_is_not_there_is_not_found(site: Site, comment_id: str) -> None:
    ann = site.join()
    assert ann.delete(f"/articles/{ann.publish()['slug']}/comments/{comment_id}").status == 404


@pytest.mark.parametrize("comment_id", ["x", "-1", "1.5", "%00"])
def test_what_is_no_id_is_not_found(site: Site, comment_id: str) -> None:
    ann = site.join()
    assert ann.delete(f"/articles/{ann.publish()['slug']}/comments/{comment_id}").status == 404


def test_the_comments_of_no_article_are_not_found(site: Site) -> None:
    ann = site.join()
    assert ann.get("/articles/nothing-0/comments").status == 404
    assert ann.post("/articles/nothing-0/comments", {"comment": {"body": "first"}}).status == 404
    assert ann.delete("/articles/nothing-0/comments/1").status == 404


@pytest.mark.parametrize("comment", [{}, {"body": ""}, {"body": None}, {"body": 7}, {"body": "x" * 16_001}])
def test_a_comment_needs_a_body(site: Site, comment: object) -> None:
    ann = site.join()
    answer = ann.post(f"/articles/{ann.publish()['slug']}/comments", {"comment": comment})
    assert (answer.status, list(answer.errors)) == (422, ["body"])


def test_an_empty_body_is_answered_as_the_description_says(site: Site) -> None:
    ann = site.join()
    answer = ann.post(f"/articles/{ann.publish()['slug']}/comments", {"comment": {"body": ""}})
    assert answer.json == {"errors": {"body": ["can't be empty"]}}


def test_commenting_needs_a_token(site: Site) -> None:
    slug = site.join().publish()["slug"]
    assert site.anyone.post(f"/articles/{slug}/comments", {"comment": {"body": "first"}}).status == 401
