"""Profiles, and following."""

from __future__ import annotations

import pytest

from tests.examples.conduit.visitors import Site


def test_a_profile_is_what_others_see(site: Site) -> None:
    ann = site.join()
    ann.put("/user", {"user": {"bio": "I work at statefarm"}})
    answer = site.anyone.get(f"/profiles/{ann.username}")
    profile = {"username": ann.username, "bio": "I work at statefarm", "image": "", "following": False}
    assert (answer.status, answer.json) == (200, {"profile": profile})


def test_following_shows_for_the_follower_only(site: Site) -> None:
    ann, bob, eve = site.join("ann"), site.join("bob"), site.join("eve")
    answer = bob.post(f"/profiles/{ann.username}/follow")
    assert (answer.status, answer.json["profile"]["following"]) == (200, True)
    seen = [one.get(f"/profiles/{ann.username}").json["profile"]["following"] for one in (bob, eve, ann, site.anyone)]
    assert seen == [True, False, False, False]
    assert ann.get(f"/profiles/{bob.username}").json["profile"]["following"] is False


def test_unfollowing_ends_it(site: Site) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    bob.post(f"/profiles/{ann.username}/follow")
    answer = bob.delete(f"/profiles/{ann.username}/follow")
    assert (answer.status, answer.json["profile"]["following"]) == (200, False)
    assert bob.get(f"/profiles/{ann.username}").json["profile"]["following"] is False


def test_following_and_unfollowing_twice_changes_nothing(site: Site) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    first, second = (bob.post(f"/profiles/{ann.username}/follow") for _ in range(2))
    assert (first.status, first.body) == (second.status, second.body)
    first, second = (bob.delete(f"/profiles/{ann.username}/follow") for _ in range(2))
    assert (first.status, first.body) == (second.status, second.body)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_following_needs_a_token(site: Site, method: str) -> None:
    ann = site.join()
    assert site.anyone.ask(method, f"/profiles/{ann.username}/follow").status == 401


@pytest.mark.parametrize("name", ["nobody", "no%20body", "a%00b", "%C3%A4", "%ED%A0%80"])
def test_nobody_is_not_found(site: Site, name: str) -> None:
    answer = site.anyone.get(f"/profiles/{name}")
    assert (answer.status, answer.errors) == (404, {"body": ["profile not found"], "profile": ["not found"]})
    ann = site.join()
    assert ann.post(f"/profiles/{name}/follow").status == 404
    assert ann.delete(f"/profiles/{name}/follow").status == 404


def test_a_name_may_have_a_space_and_umlauts(site: Site) -> None:
    jörg = site.join("Jörg de Groß")
    assert site.anyone.get(f"/profiles/{jörg.username}").json["profile"]["username"] == jörg.username


def test_a_profile_is_no_place_for_a_bad_token(site: Site) -> None:
    """Who thinks that they are logged in is told that they are not."""
    ann = site.join()
    ann.token = "x"
    assert ann.get(f"/profiles/{ann.username}").status == 401
