"""The services without a host, on each database: how much they ask of it, what becomes of two at once, and commands."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import Any

import pytest
from sqlalchemy import event

from conduit.services.errors import Invalid, NotFound
from conduit.services.layer import ConduitDAL, ConduitManager
from conduit.services.schemas import ArticleFilter, LoginUser, NewArticle, NewComment, NewUser, Page
from polydatum import lazy
from tests.examples.conduit.databases import DATABASES, database
from tests.examples.conduit.in_process import manager_at

numbers = itertools.count(1)


@pytest.fixture(scope="module", params=DATABASES)
def managers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ConduitManager, ConduitManager]]:
    """Two processes, as it were, on one database."""
    with database(request.param, tmp_path_factory.mktemp("conduit")) as url:
        first, second = manager_at(url), manager_at(url)
        yield first, second
        first.close()
        second.close()


@pytest.fixture
def dm(managers: tuple[ConduitManager, ConduitManager]) -> ConduitManager:
    return managers[0]


def by(dm: ConduitManager, name: str) -> Any:
    """A context of a user, who is loaded when somebody asks."""
    return dm.dal(meta={"user": lazy(lambda: dm.get_dal().users.find(name))})


def new_user(name: str) -> NewUser:
    return NewUser(username=name, email=f"{name}@example.org", password="secret")


def join(dm: ConduitManager, name: str = "ann") -> str:
    name = f"{name}{next(numbers)}"
    with dm.dal() as dal:
        dal.users.register(new_user(name))
    return name


def publish(dm: ConduitManager, author: str, *tags: str) -> str:
    new = NewArticle(title="How to train your dragon", description="Ever wonder?", body="Believe", tag_list=list(tags))
    with by(dm, author) as dal:
        slug: str = dal.articles.publish(new).slug
    return slug


def test_the_data_manager_finds_nothing_wrong(dm: ConduitManager) -> None:
    assert dm.check() == []


# --- Statements -------------------------------------------------------------------------------------------------------


def statements(dm: ConduitManager, reader: str | None, ask: Callable[[ConduitDAL], object]) -> list[str]:
    """What a context of a reader asks of the database."""
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("SELECT"):
            seen.append(statement)

    engine = dm.get_client("db")
    event.listen(engine, "before_cursor_execute", note)
    try:
        with by(dm, reader) if reader is not None else dm.dal() as dal:
            ask(dal)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return seen


@pytest.mark.parametrize("logged_in", [False, True])
def test_a_list_takes_as_many_statements_for_twenty_articles_as_for_one(dm: ConduitManager, logged_in: bool) -> None:
    tag = f"tag{next(numbers)}"
    reader = join(dm, "bob") if logged_in else None

    def ask(dal: ConduitDAL) -> None:
        found.append(len(dal.articles.search(ArticleFilter(tag=tag)).articles))

    found: list[int] = []
    publish(dm, join(dm), tag)
    for_one = len(statements(dm, reader, ask))
    for _ in range(19):
        publish(dm, join(dm), tag, "tea", "milk")
    assert len(statements(dm, reader, ask)) == for_one
    assert for_one == (4 if logged_in else 3)  # the reader, the articles, their tags, the count
    assert found == [1, 20]


def test_the_feed_takes_as_many_statements_however_long_it_is(dm: ConduitManager) -> None:
    reader = join(dm, "bob")
    counts = []
    for _ in range(3):
        author = join(dm)
        publish(dm, author)
        with by(dm, reader) as dal:
            dal.profiles.follow(author)
        counts.append(len(statements(dm, reader, lambda dal: dal.articles.feed(Page()))))
    assert counts == [4, 4, 4]


def test_comments_take_as_many_statements_however_many_there_are(dm: ConduitManager) -> None:
    slug = publish(dm, join(dm))
    counts = []
    for _ in range(3):
        with by(dm, join(dm, "bob")) as dal:
            dal.comments.add(slug, NewComment(body="It takes a Jacobian"))
        counts.append(len(statements(dm, None, lambda dal: dal.comments.of_article(slug))))
    assert counts == [2, 2, 2]


def test_who_asks_is_found_out_only_if_it_matters(dm: ConduitManager) -> None:
    assert len(statements(dm, "nobody at all", lambda dal: dal.articles.tags())) == 1


# --- Two at once ------------------------------------------------------------------------------------------------------


Act = Callable[[ConduitDAL], Any]


def meanwhile(managers: tuple[ConduitManager, ConduitManager], first: tuple[str, Act], second: tuple[str, Act]) -> Any:
    """One does something, and before that is kept, another begins to do something: what the second gets."""
    begins = Event()

    def follow() -> Any:
        name, act = second
        with by(managers[1], name) as dal:
            begins.set()
            return act(dal)

    with ThreadPoolExecutor(1) as pool:
        name, act = first
        with by(managers[0], name) as dal:
            act(dal)
            result = pool.submit(follow)
            assert begins.wait(10)
        return result.result(10)


def at_once(managers: tuple[ConduitManager, ConduitManager], name: str, act: Act) -> Any:
    """One does something twice at once: what they get the second time."""
    return meanwhile(managers, (name, act), (name, act))


def test_of_two_who_register_one_name_at_once_one_gets_it(managers: tuple[ConduitManager, ConduitManager]) -> None:
    name = f"ann{next(numbers)}"
    with pytest.raises(Invalid) as caught:
        at_once(managers, "nobody", lambda dal: dal.users.register(new_user(name)))
    assert str(caught.value) == "username has already been taken; email has already been taken"


def test_of_two_who_take_one_name_at_once_one_gets_it(managers: tuple[ConduitManager, ConduitManager]) -> None:
    name, ann, bob = f"new{next(numbers)}", join(managers[0], "ann"), join(managers[0], "bob")

    def take(dal: ConduitDAL) -> None:
        dal.users.update({"username": name})

    with pytest.raises(Invalid, match="username has already been taken"):
        meanwhile(managers, (ann, take), (bob, take))


def test_a_favourite_twice_at_once_is_one(managers: tuple[ConduitManager, ConduitManager]) -> None:
    slug = publish(managers[0], join(managers[0]))
    bob = join(managers[0], "bob")
    assert at_once(managers, bob, lambda dal: dal.articles.favorite(slug)).favorites_count == 1


def test_following_twice_at_once_is_following(managers: tuple[ConduitManager, ConduitManager]) -> None:
    ann, bob = join(managers[0], "ann"), join(managers[0], "bob")
    assert at_once(managers, bob, lambda dal: dal.profiles.follow(ann)).following is True


def test_articles_of_one_title_at_once_have_slugs_of_their_own(managers: tuple[ConduitManager, ConduitManager]) -> None:
    ann = join(managers[0])
    slugs: list[str] = []
    at_once(managers, ann, lambda dal: slugs.append(publish_in(dal)))
    assert len(set(slugs)) == 2


@pytest.mark.parametrize(
    "act",
    [
        lambda dal, slug: dal.articles.favorite(slug),
        lambda dal, slug: dal.articles.update(slug, {"body": "new"}),
        lambda dal, slug: dal.articles.delete(slug),
        lambda dal, slug: dal.comments.add(slug, NewComment(body="still there?")),
    ],
    ids=["favorite", "update", "delete", "comment"],
)
def test_an_article_that_goes_at_that_moment_is_not_found(
    managers: tuple[ConduitManager, ConduitManager], act: Callable[[ConduitDAL, str], Any]
) -> None:
    ann = join(managers[0])
    slug = publish(managers[0], ann, "tea")
    with pytest.raises(NotFound, match="article not found"):
        meanwhile(managers, (ann, lambda dal: dal.articles.delete(slug)), (ann, lambda dal: act(dal, slug)))


def test_who_unfavorites_an_article_that_goes_at_that_moment_is_shown_it_or_does_not_find_it(
    managers: tuple[ConduitManager, ConduitManager],
) -> None:
    """Unlike the others, this one waits for nobody: where readers see what was kept last, it may be the first to end."""
    ann = join(managers[0])
    slug = publish(managers[0], ann, "tea")
    with suppress(NotFound):
        shown = meanwhile(
            managers, (ann, lambda dal: dal.articles.delete(slug)), (ann, lambda dal: dal.articles.unfavorite(slug))
        )
        assert shown.title == "tea"


def publish_in(dal: ConduitDAL) -> str:
    return dal.articles.publish(NewArticle(title="Same", description="Same", body="Same")).slug


@pytest.mark.parametrize("round_", range(3))
def test_a_crowd_gets_no_other_errors(managers: tuple[ConduitManager, ConduitManager], round_: int) -> None:
    """Eight at a time, each with another user's favourites, follows and names on the way."""
    author = join(managers[0])
    slug = publish(managers[0], author)
    readers = [join(managers[0], "bob") for _ in range(4)]
    name = f"wanted{next(numbers)}"

    def visit(number: int) -> bool:
        dm = managers[number % 2]
        with by(dm, readers[number % 4]) as dal:
            dal.profiles.follow(author)
            dal.articles.favorite(slug)
            dal.comments.add(slug, NewComment(body="me, too"))
        try:
            with dm.dal() as dal:
                dal.users.register(new_user(name))
        except Invalid:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(visit, range(8))) == 1
    with managers[0].dal() as dal:
        assert dal.articles.get(slug).favorites_count == 4
        assert len(dal.comments.of_article(slug)) == 8


def test_names_that_differ_in_case_are_different(dm: ConduitManager) -> None:
    """MariaDB thinks otherwise, unless it is told."""
    name = join(dm, "ann")
    with dm.dal() as dal:
        dal.users.register(new_user(name.upper()))
        assert dal.profiles.get(name).username == name
        assert (
            dal.users.login(LoginUser(email=f"{name.upper()}@example.org", password="secret")).username == name.upper()
        )


# --- Commands ---------------------------------------------------------------------------------------------------------


def notified(dm: ConduitManager, name: str) -> list[str]:
    with by(dm, name) as dal:
        titles: list[str] = dal.notifications.titles()
    return titles


def follow(dm: ConduitManager, follower: str, author: str) -> None:
    with by(dm, follower) as dal:
        dal.profiles.follow(author)


def test_followers_are_notified_once_an_article_is_kept(dm: ConduitManager) -> None:
    ann, bob, eve = join(dm, "ann"), join(dm, "bob"), join(dm, "eve")
    follow(dm, bob, ann)
    with by(dm, ann) as dal:
        publish_in(dal)
    assert [notified(dm, name) for name in (ann, bob, eve)] == [[], ["Same"], []]


def test_nobody_is_notified_of_what_was_not_kept(dm: ConduitManager) -> None:
    ann, bob = join(dm, "ann"), join(dm, "bob")
    follow(dm, bob, ann)
    with pytest.raises(NotFound):
        with by(dm, ann) as dal:
            publish_in(dal)
            dal.articles.get("nothing")
    assert notified(dm, bob) == []


def test_a_command_that_comes_twice_notifies_once(dm: ConduitManager) -> None:
    ann, bob, eve = join(dm, "ann"), join(dm, "bob"), join(dm, "eve")
    follow(dm, bob, ann)
    article_id = int(publish(dm, ann).rpartition("-")[2])
    follow(dm, eve, ann)
    for _ in range(2):
        dm.command("notifications.notify_followers", article_id).run()
    assert [len(notified(dm, name)) for name in (bob, eve)] == [1, 1]


def test_an_article_is_kept_even_if_nobody_can_be_notified(
    dm: ConduitManager, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = join(dm, "ann"), join(dm, "bob")
    follow(dm, bob, ann)

    def fail(message: Any) -> None:
        raise ConnectionError("no broker")

    monkeypatch.setattr(dm.dispatch.queue, "send", fail)
    slug = publish(dm, ann)
    with dm.dal() as dal:
        assert dal.articles.get(slug).author.username == ann
    assert "no broker" in caplog.text
