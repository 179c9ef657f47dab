"""Requests that are none: of the API as a whole, before any of its rules."""

from __future__ import annotations

from typing import Any

import pytest

from tests.examples.conduit.visitors import Site

WRITES = [
    ("POST", "/users", "user"),
    ("POST", "/users/login", "user"),
    ("PUT", "/user", "user"),
    ("POST", "/articles", "article"),
    ("PUT", "/articles/{slug}", "article"),
    ("POST", "/articles/{slug}/comments", "comment"),
]


@pytest.fixture
def ask(site: Site) -> Any:
    ann = site.join()
    slug = ann.publish()["slug"]
    return lambda method, path, body: ann.ask(method, path.format(slug=slug), body)


@pytest.mark.parametrize(("method", "path", "key"), WRITES)
def test_a_body_that_is_no_json_is_answered_422(ask: Any, method: str, path: str, key: str) -> None:
    for body in (b"{", b"user=ann", b'{"user": '):
        answer = ask(method, path, body)
        assert (answer.status, answer.json) == (422, {"errors": {"body": ["is not valid JSON"]}})


@pytest.mark.parametrize(("method", "path", "key"), WRITES)
def test_no_body_is_answered_422(ask: Any, method: str, path: str, key: str) -> None:
    answer = ask(method, path, b"")
    assert (answer.status, answer.json) == (422, {"errors": {"body": ["can't be empty"]}})


@pytest.mark.parametrize(("method", "path", "key"), WRITES)
def test_json_of_another_kind_is_answered_422(ask: Any, method: str, path: str, key: str) -> None:
    for body in (b"null", [], 7, "text", True):
        answer = ask(method, path, body)
        assert (answer.status, answer.json) == (422, {"errors": {"body": ["is invalid"]}})


@pytest.mark.parametrize(("method", "path", "key"), WRITES)
def test_the_object_has_to_be_there(ask: Any, method: str, path: str, key: str) -> None:
    answer = ask(method, path, {"other": {}})
    assert (answer.status, answer.errors[key]) == (422, ["can't be empty"])
    for wrong in (None, 7, [], "text"):
        answer = ask(method, path, {key: wrong})
        assert (answer.status, answer.errors[key]) == (422, ["is invalid"])


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b'{"user": {"bio": "\xff"}}', b"[" * 100_000, b'{"user": NaN', b"9" * 5000]
)
def test_a_body_that_is_hostile_is_the_clients_fault(ask: Any, body: bytes) -> None:
    answer = ask("PUT", "/user", body)
    assert answer.status == 422
    assert set(answer.errors) <= {"body", "bio"}


def test_what_is_unknown_in_a_body_or_a_query_is_ignored(site: Site) -> None:
    ann = site.join()
    answer = ann.put("/user", {"user": {"bio": "me", "id": 1, "following": True}, "more": 1})
    assert (answer.status, answer.json["user"]["bio"]) == (200, "me")
    assert ann.get("/articles", page=7).status == 200


@pytest.mark.parametrize("path", ["/nothing", "/user/ann", "/articles/a/b", "", "/"])
def test_a_path_that_is_none_is_not_found(site: Site, path: str) -> None:
    answer = site.anyone.get(path)
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/json"
    assert answer.errors["body"]


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/users"), ("POST", "/user"), ("PUT", "/articles"), ("POST", "/tags")]
)
def test_a_method_that_is_none_is_answered_405_with_one_that_is(site: Site, method: str, path: str) -> None:
    answer = site.anyone.ask(method, path)
    assert answer.status == 405
    assert method not in answer.headers["allow"]


def test_answers_are_json_and_know_no_html(site: Site) -> None:
    ann = site.join()
    article = ann.publish("<script>alert('\N{SNOWMAN}')</script>")
    answer = site.anyone.get(f"/articles/{article['slug']}")
    assert answer.headers["content-type"] == "application/json"
    assert "<script>alert('\N{SNOWMAN}')</script>".encode() in answer.body


def test_an_error_rolls_everything_back(site: Site) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    assert ann.put("/user", {"user": {"bio": "changed", "email": bob.email}}).status == 422
    assert ann.get("/user").json["user"]["bio"] == ""
