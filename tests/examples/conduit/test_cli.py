"""The command line is a host, too."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conduit.hosts.cli import main
from conduit.seed import STORIES, seed
from conduit.services.layer import ConduitManager
from tests.examples.conduit.in_process import manager_at
from tests.examples.conduit.programs import ROOT, environment

Run = Callable[..., str]


@pytest.fixture
def dm(tmp_path: Path) -> Iterator[ConduitManager]:
    dm = manager_at(f"sqlite:///{tmp_path}/conduit.db")
    seed(dm)
    yield dm
    dm.close()


@pytest.fixture
def run(dm: ConduitManager, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; gives what it prints."""

    def run(*arguments: str) -> str:
        main(arguments, dm)
        return capsys.readouterr().out

    return run


def test_it_lists_the_newest_articles(run: Run) -> None:
    lines = run("articles", "list").splitlines()
    assert len(lines) == len(STORIES)
    assert lines[0].endswith("walking-the-river-at-low-water-8  by chioma")
    assert len(run("articles", "list", "--author", "ann", "--limit", "1").splitlines()) == 1
    assert "the-hum-was-the-fridge-1" in run("articles", "list", "--tag", "radio", "--favorited", "chioma")


def test_it_shows_an_article(run: Run) -> None:
    assert run("articles", "show", "the-hum-was-the-fridge-1").startswith("The hum was the fridge\nby dmitri, ")


def test_it_publishes_and_deletes_and_notifies(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("All of it.\n"))
    slug = run("--as", "bob", "articles", "publish", "From the shell", "--description", "How", "--tag", "unix").strip()
    assert run("articles", "list", "--tag", "unix").split()[1] == slug
    assert run("articles", "show", slug).endswith("\n\nAll of it.\n\n")
    assert run("--as", "ann", "notifications") == "From the shell\n"
    assert run("--as", "bob", "notifications") == ""
    run("--as", "bob", "articles", "delete", slug)
    assert run("articles", "list", "--tag", "unix") == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("articles show nothing-0", "article not found"),
        ("articles list --limit many", "limit is invalid"),
        ("articles delete the-hum-was-the-fridge-1", "token is missing"),
        ("--as ann articles delete the-hum-was-the-fridge-1", "article is not yours"),
        ("--as nobody notifications", "user not found"),
    ],
)
def test_what_is_refused_ends_it_with_a_message(run: Run, arguments: str, message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*arguments.split())
    assert ended.value.code == message


def test_what_is_there_is_not_seeded_again(dm: ConduitManager, run: Run) -> None:
    run("create-tables")
    run("seed")
    assert len(run("articles", "list").splitlines()) == len(STORIES)


def test_it_is_a_program_that_prepares_its_database(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "conduit", *arguments],
            cwd=ROOT,
            env=environment(f"sqlite:///{tmp_path}/conduit.db"),
            text=True,
            capture_output=True,
            check=True,
        ).stdout

    run("seed")
    assert len(run("articles", "list").splitlines()) == len(STORIES)
