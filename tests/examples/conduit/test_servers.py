"""Conduit over real servers: what one client sees is what it sees in process, and what many at once see is right, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from conduit.services.layer import ConduitManager
from polydatum import lazy
from tests.examples.conduit.databases import database
from tests.examples.conduit.in_process import client_of, manager_at
from tests.examples.conduit.programs import ADDRESS, SERVERS, Program, client_to, running
from tests.examples.conduit.scenario import play
from tests.examples.conduit.visitors import PASSWORD, Answer, Site

DEPLOYMENTS = [
    ("uvicorn", "starlette", "postgres"),
    ("uvicorn", "fastapi", "sqlite"),
    ("gunicorn", "flask", "sqlite"),
    ("gunicorn", "django", "postgres"),
]


class Served(NamedTuple):
    """A host on a server."""

    site: Site
    program: Program
    dm: ConduitManager  # on the same database


@pytest.fixture(scope="module", params=DEPLOYMENTS, ids="-".join)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server, host, kind = request.param
    folder = tmp_path_factory.mktemp(host)
    with database(kind, folder) as url:
        dm = manager_at(url)
        with running(folder, *SERVERS[server], database=url, APP=host, PYTHONWARNINGS="default") as program:
            yield Served(Site(client_to(int(program.wait_for(ADDRESS)))), program, dm)
            assert program.stop() in (0, -15)
            assert "Traceback" not in program.printed
        dm.close()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """What the long visit is answered in process."""
    dm = manager_at(f"sqlite:///{tmp_path_factory.mktemp('expected')}/conduit.db")
    with client_of("starlette", dm) as client:
        lines = play(client, "visit-")
    dm.close()
    return lines


def at_once(count: int, ask: Callable[[int], Answer]) -> list[Answer]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


def test_a_long_visit_gets_the_answers_that_it_gets_in_process(served: Served, expected: list[bytes]) -> None:
    assert play(served.site.client, "visit-") == expected


def test_of_many_who_want_one_name_at_once_one_gets_it(served: Served) -> None:
    new = {"username": served.site.new_name(), "email": "wanted@example.org", "password": PASSWORD}
    answers = at_once(4, lambda _: served.site.anyone.post("/users", {"user": new}))
    assert sorted(answer.status for answer in answers) == [201] + [422] * 3


def test_a_favourite_many_times_at_once_is_one(served: Served) -> None:
    ann, bob = served.site.join("ann"), served.site.join("bob")
    path = f"/articles/{ann.publish()['slug']}/favorite"
    answers = at_once(8, lambda _: bob.post(path))
    assert [(answer.status, answer.json["article"]["favoritesCount"]) for answer in answers] == [(200, 1)] * 8


def test_many_who_do_different_things_at_once_get_what_they_asked_for(served: Served) -> None:
    ann, *readers = (served.site.join() for _ in range(6))
    slug = ann.publish("Popular")["slug"]

    def visit(number: int) -> Answer:
        reader = readers[number % 5]
        ask: list[Callable[[], Answer]] = [
            lambda: reader.post(f"/articles/{slug}/favorite"),
            lambda: reader.post(f"/profiles/{ann.username}/follow"),
            lambda: reader.get("/articles", author=ann.username),
            lambda: reader.post(f"/articles/{slug}/comments", {"comment": {"body": "me, too"}}),
            lambda: reader.put("/user", {"user": {"bio": f"visit {number}"}}),
            lambda: reader.get(f"/articles/{slug}"),
        ]
        return ask[number % 6]()

    assert {answer.status for answer in at_once(60, visit)} == {200}
    article = readers[0].get(f"/articles/{slug}").json["article"]
    assert article["favoritesCount"] == 5
    assert len(readers[0].get(f"/articles/{slug}/comments").json["comments"]) == 10


def test_followers_have_been_notified_when_the_author_gets_the_answer(served: Served) -> None:
    ann, bob = served.site.join("ann"), served.site.join("bob")
    bob.post(f"/profiles/{ann.username}/follow")
    ann.publish("News")
    user: Any = lazy(lambda: served.dm.get_dal().users.find(bob.username))
    with served.dm.dal(meta={"user": user}) as dal:
        assert dal.notifications.titles() == ["News"]


def test_the_demo_serves_its_seed_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/conduit.db"
    words = ["conduit.serve", "--app", "django", "--port", "0", "--seed"]
    with running(tmp_path, *words, database=url, PYTHONWARNINGS="error") as program:
        site = Site(client_to(int(program.wait_for(ADDRESS))))
        assert site.anyone.get("/articles", tag="radio").json["articlesCount"] == 2
        login = site.anyone.post("/users/login", {"user": {"email": "ann@example.org", "password": "conduit-demo"}})
        assert (login.status, login.json["user"]["username"]) == (200, "ann")
        assert program.stop() == 0
        assert "Traceback" not in program.printed
