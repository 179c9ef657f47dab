"""Users: registering, logging in, and their own account."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest

from conduit.services.tokens import Tokens
from tests.examples.conduit.in_process import SECRET
from tests.examples.conduit.visitors import PASSWORD, Site, Visitor

TAKEN = ["has already been taken"]
EMPTY = ["can't be empty"]


def test_who_registers_is_shown_their_account(site: Site) -> None:
    name = site.new_name()
    answer = site.anyone.post("/users", {"user": {"username": name, "email": "a@example.org", "password": PASSWORD}})
    assert answer.status == 201
    user = answer.json["user"]
    assert user.pop("token").count(".") == 2
    assert user == {"username": name, "email": "a@example.org", "bio": "", "image": ""}


def test_the_token_of_the_registration_is_good(site: Site) -> None:
    ann = site.join()
    answer = ann.get("/user")
    assert (answer.status, answer.json["user"]["username"]) == (200, ann.username)


def test_a_name_is_taken_once(site: Site) -> None:
    ann = site.join()
    again = {"username": ann.username, "email": f"new-{ann.email}", "password": PASSWORD}
    answer = site.anyone.post("/users", {"user": again})
    assert (answer.status, answer.errors) == (422, {"body": ["username has already been taken"], "username": TAKEN})


def test_an_address_is_taken_once(site: Site) -> None:
    ann = site.join()
    answer = site.anyone.post(
        "/users", {"user": {"username": site.new_name(), "email": ann.email, "password": PASSWORD}}
    )
    assert (answer.status, answer.errors["email"]) == (422, TAKEN)


def test_all_that_is_taken_is_told_at_once(site: Site) -> None:
    ann = site.join()
    answer = site.anyone.post("/users", {"user": {"username": ann.username, "email": ann.email, "password": "x"}})
    assert answer.errors["body"] == ["username has already been taken", "email has already been taken"]


@pytest.mark.parametrize("name", ["", " ", "a/b", "/", "..", "a\0b", "\ud800", "x" * 51])
def test_a_name_that_makes_no_address_is_refused(site: Site, name: str) -> None:
    answer = site.anyone.post("/users", {"user": {"username": name, "email": "b@example.org", "password": PASSWORD}})
    assert (answer.status, list(answer.errors)) == (422, ["body", "username"])


@pytest.mark.parametrize("email", ["", "ann", "@", "ann@", "a n@b", "ann@example.org\0", "x" * 250 + "@y.org"])
def test_what_is_no_address_is_refused(site: Site, email: str) -> None:
    answer = site.anyone.post("/users", {"user": {"username": site.new_name(), "email": email, "password": PASSWORD}})
    assert (answer.status, list(answer.errors)) == (422, ["body", "email"])


@pytest.mark.parametrize("missing", ["username", "email", "password"])
def test_what_is_missing_is_named(site: Site, missing: str) -> None:
    user = {"username": site.new_name(), "email": "c@example.org", "password": PASSWORD}
    del user[missing]
    answer = site.anyone.post("/users", {"user": user})
    assert (answer.status, answer.errors) == (422, {"body": [f"{missing} can't be empty"], missing: EMPTY})


def test_nobody_sees_a_password(site: Site) -> None:
    ann = site.join()
    login = site.anyone.post("/users/login", {"user": {"email": ann.email, "password": PASSWORD}})
    assert b"password" not in login.body + ann.get("/user").body


def test_who_logs_in_gets_a_token(site: Site) -> None:
    ann = site.join()
    answer = site.anyone.post("/users/login", {"user": {"email": ann.email, "password": PASSWORD}})
    assert (answer.status, answer.json["user"]["username"]) == (200, ann.username)
    again = Visitor(site.client, ann.username, answer.json["user"]["token"])
    assert again.get("/user").status == 200


def test_a_wrong_password_and_an_unknown_address_are_answered_alike(site: Site) -> None:
    ann = site.join()
    wrong = site.anyone.post("/users/login", {"user": {"email": ann.email, "password": "wrong"}})
    unknown = site.anyone.post("/users/login", {"user": {"email": "nobody@example.org", "password": PASSWORD}})
    assert wrong.status == unknown.status == 401
    assert wrong.body == unknown.body


@pytest.mark.parametrize("missing", ["email", "password"])
def test_a_login_needs_both(site: Site, missing: str) -> None:
    user = {"email": "d@example.org", "password": PASSWORD}
    del user[missing]
    answer = site.anyone.post("/users/login", {"user": user})
    assert (answer.status, answer.errors[missing]) == (422, EMPTY)


def test_without_a_token_there_is_no_account(site: Site) -> None:
    answer = site.anyone.get("/user")
    assert (answer.status, answer.errors) == (401, {"body": ["token is missing"], "token": ["is missing"]})
    assert answer.headers["www-authenticate"] == "Token"
    assert site.anyone.put("/user", {"user": {"bio": "me"}}).status == 401


def forged(token: str) -> str:
    """The token of somebody else, with the signature that this one has."""
    header, _, signature = token.split(".")
    claims = base64.urlsafe_b64encode(json.dumps({"sub": "1", "exp": 2**33}).encode()).rstrip(b"=")
    return f"{header}.{claims.decode()}.{signature}"


@pytest.mark.parametrize(
    "token",
    ["", "x", "a.b.c", Tokens("another secret of 32 bytes or more").issue(1), Tokens(SECRET, -timedelta(1)).issue(1)],
    ids=["empty", "no token", "three parts", "another key", "too old"],
)
def test_a_token_that_is_not_valid_is_answered_401(site: Site, token: str) -> None:
    answer = Visitor(site.client, token=token).get("/user")
    assert (answer.status, answer.errors["token"]) == (401, ["is not valid"])


def test_a_forged_token_is_answered_401(site: Site) -> None:
    ann = site.join()
    assert Visitor(site.client, token=forged(str(ann.token))).get("/user").status == 401


def test_the_token_of_a_user_who_is_gone_is_answered_401(site: Site) -> None:
    assert Visitor(site.client, token=Tokens(SECRET).issue(2**31 - 1)).get("/user").status == 401


def test_another_scheme_is_no_token(site: Site) -> None:
    ann = site.join()
    answer = site.client("GET", "/api/user", {"Authorization": f"Bearer {ann.token}"}, b"")
    assert answer.status == 401


def test_a_user_changes_what_they_say_of_themselves(site: Site) -> None:
    ann = site.join()
    answer = ann.put("/user", {"user": {"bio": "I work at statefarm", "image": "https://example.org/ann.png"}})
    assert answer.status == 200
    user = ann.get("/user").json["user"]
    assert (user["bio"], user["image"]) == ("I work at statefarm", "https://example.org/ann.png")
    assert user["email"] == ann.email


def test_what_they_say_may_be_taken_back(site: Site) -> None:
    ann = site.join()
    ann.put("/user", {"user": {"bio": "I work at statefarm"}})
    assert ann.put("/user", {"user": {"bio": ""}}).json["user"]["bio"] == ""


def test_a_user_changes_their_name_and_stays_logged_in(site: Site) -> None:
    ann = site.join()
    name = site.new_name("anne")
    assert ann.put("/user", {"user": {"username": name}}).json["user"]["username"] == name
    assert ann.get("/user").json["user"]["username"] == name
    assert site.anyone.get(f"/profiles/{ann.username}").status == 404
    assert site.anyone.get(f"/profiles/{name}").status == 200


def test_a_user_changes_their_password(site: Site) -> None:
    ann = site.join()
    assert ann.put("/user", {"user": {"password": "battery staple"}}).status == 200
    old, new = (
        site.anyone.post("/users/login", {"user": {"email": ann.email, "password": password}})
        for password in (PASSWORD, "battery staple")
    )
    assert (old.status, new.status) == (401, 200)


@pytest.mark.parametrize("field", ["username", "email"])
def test_a_user_cannot_take_what_another_has(site: Site, field: str) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    answer = ann.put("/user", {"user": {field: getattr(bob, field), "bio": "I am bob"}})
    assert (answer.status, answer.errors[field]) == (422, TAKEN)
    assert ann.get("/user").json["user"]["bio"] == ""


def test_a_user_may_keep_what_they_have(site: Site) -> None:
    ann = site.join()
    assert ann.put("/user", {"user": {"username": ann.username, "email": ann.email}}).status == 200


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"id": 1},
        {"username": ""},
        {"username": None},
        {"email": "ann"},
        {"password": ""},
        {"bio": 7},
        {"image": []},
    ],
)
def test_a_change_that_makes_no_sense_is_refused(site: Site, changes: object) -> None:
    ann = site.join()
    before = ann.get("/user").json["user"]
    assert ann.put("/user", {"user": changes}).status == 422
    assert {**ann.get("/user").json["user"], "token": ""} == {**before, "token": ""}
